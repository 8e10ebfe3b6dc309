"""Places of a photo where wrong detail is worse than none: faces, and print.

photo ── grey, 640 to 960 px ─┬─ cascade ──────────────────> faces ──┐
                               └─ stable regions ── in lines ──> print ┴─ mask, soft at its edge
Both come with OpenCV 4 (the extra geometry); without it nothing is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from refsr.resize import resize
from refsr.wording import counted

Box = tuple[int, int, int, int]
"""Left, top, width, height."""

_LEAST_LONG_SIDE_PX, _MOST_LONG_SIDE_PX = 640, 960
_FACE_SCALE_STEP: Final = 1.1
_FACE_NEIGHBOURS: Final = 6
_LEAST_FACE_PX: Final = 24
_GLYPH_HEIGHT_PX: Final = (6, 60)
_GLYPH_ASPECT: Final = (0.1, 1.6)  # width over height
_GLYPH_FILL: Final = (0.15, 0.95)
_MOST_SHARED: Final = 0.5
_GLYPHS_OF_A_LINE: Final = 6
_GAP, _WORD_GAP = 1.0, 3.0  # between letters and parts of a line, of their height
_MARGIN: Final = 0.25  # of a box, on each side
_SOFT_PX: Final = 13


@dataclass(frozen=True, kw_only=True)
class Delicate:
    """What was found.

    Attributes:
        faces: Number of faces.
        lines: Number of lines of print.
        mask: 1 in these places, 0 elsewhere, soft between.
    """

    faces: int
    lines: int
    mask: Float[Tensor, "1 1 h w"]

    @property
    def warning(self) -> str:
        """A line for the user."""
        found = [counted(self.faces, "face")] if self.faces else []
        found += [f"{counted(self.lines, 'line')} of print"] if self.lines else []
        return f"{' and '.join(found)} likely: detail made crisp there could be false, so none is"


def find_delicate(photo: Float[Tensor, "1 3 h w"]) -> Delicate | None:
    """Faces and print in a photo; None if there are none, or nothing that finds them.

    Args:
        photo: The photo, 0..1.
    """
    cv2 = _opencv()
    if cv2 is None:
        return None
    size_px = (photo.shape[-2], photo.shape[-1])
    long_px = max(size_px)
    factor = min(max(long_px, _LEAST_LONG_SIDE_PX), _MOST_LONG_SIDE_PX) / long_px
    height, width = (round(side * factor) for side in size_px)
    if min(height, width) < _LEAST_FACE_PX:
        return None
    grey = (255 * resize(photo, (height, width)).clamp(0, 1).mean((0, 1))).round().byte().cpu().numpy()
    faces, lines = _faces(cv2, grey), _lines(cv2, grey)
    if not faces and not lines:
        return None
    mask = torch.zeros(1, 1, height, width)
    for left, top, wide, high in (*faces, *lines):
        margin = round(_MARGIN * min(wide, high))
        mask[..., max(0, top - margin) : top + high + margin, max(0, left - margin) : left + wide + margin] = 1
    soft = F.avg_pool2d(F.pad(mask, (_SOFT_PX // 2,) * 4, mode="replicate"), _SOFT_PX, 1)
    return Delicate(faces=len(faces), lines=len(lines), mask=resize(soft, size_px).clamp(0, 1))


def _opencv() -> Any:
    """OpenCV, or None."""
    try:
        return import_module("cv2")
    except ImportError:
        return None


def _faces(cv2: Any, grey: UInt8[np.ndarray, "h w"]) -> list[Box]:
    """Faces by OpenCV's cascade. Source: Viola and Jones, CVPR 2001; Lienhart and Maydt, ICIP 2002."""
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):  # OpenCV 5, and builds not from PyPI
        return []
    file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"
    found = cv2.CascadeClassifier(str(file)).detectMultiScale(
        grey, _FACE_SCALE_STEP, _FACE_NEIGHBOURS, minSize=(_LEAST_FACE_PX, _LEAST_FACE_PX)
    )
    return [tuple(int(side) for side in box) for box in found]  # type: ignore[misc]


def _lines(cv2: Any, grey: UInt8[np.ndarray, "h w"]) -> list[Box]:
    """Lines of print: stable regions of one height, side by side, of uneven widths.

    Source: Matas et al., "Robust wide-baseline stereo from maximally stable extremal regions", BMVC 2002; Neumann and
    Matas, "Real-time scene text localization and recognition", CVPR 2012, for regions as letters.
    """
    finder: Any = cv2.MSER_create(delta=10, min_area=12, max_area=1800)
    dark: list[tuple[int, Box]] = []
    bright: list[tuple[int, Box]] = []
    for points, box in zip(*finder.detectRegions(grey), strict=True):
        left, top, wide, high = (int(side) for side in box)
        is_dark = grey[points[0, 1], points[0, 0]] < grey[top : top + high, left : left + wide].mean()
        (dark if is_dark else bright).append((len(points), (left, top, wide, high)))
    return _joined([line for regions in (dark, bright) for line in _chained(_glyphs(regions, grey.shape))])


def _glyphs(regions: Sequence[tuple[int, Box]], size_px: tuple[int, int]) -> list[Box]:
    """Boxes of regions as high, wide and full as letters; of those that lie in each other, the largest."""
    kept: list[Box] = []
    taken = np.zeros(size_px, dtype=bool)
    for area, (left, top, wide, high) in sorted(regions, key=lambda region: -region[1][2] * region[1][3]):
        inside = taken[top : top + high, left : left + wide]
        fits = _GLYPH_HEIGHT_PX[0] <= high <= _GLYPH_HEIGHT_PX[1]
        fits = fits and _GLYPH_ASPECT[0] <= wide / high <= _GLYPH_ASPECT[1]
        fits = fits and _GLYPH_FILL[0] <= area / (wide * high) <= _GLYPH_FILL[1]
        if fits and inside.mean() < _MOST_SHARED:
            kept.append((left, top, wide, high))
            inside[:] = True
    return kept


def _chained(glyphs: list[Box]) -> list[Box]:
    """Lines of many glyphs: each next one to the right, on the same line, of about the same height."""
    lines: list[Box] = []
    free = sorted(glyphs)
    while free:
        chain = [free[0]]
        for box in free[1:]:
            left, _, wide, high = chain[-1]
            if box[0] > left + wide + _GAP * high:
                break
            if _follows(chain[-1], box):
                chain.append(box)
        is_line = len(chain) >= _GLYPHS_OF_A_LINE and _is_print(np.array(chain))
        if is_line:
            lines.append(_around(chain))
        used = set(chain if is_line else chain[:1])
        free = [box for box in free if box not in used]
    return lines


def _follows(box: Box, other: Box) -> bool:
    """Whether the other is right of the first, on one level with it, by foot or by head, and about as high."""
    left, top, wide, high = box
    other_left, other_top, _, other_high = other
    foot = abs(other_top + other_high - top - high)
    level = foot < 0.25 * max(high, other_high) or abs(other_top - top) < 0.15 * high
    return level and 0.6 < other_high / high < 1.6 and other_left >= left + 0.5 * wide


def _around(boxes: Sequence[Box]) -> Box:
    """The box around all."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return left, top, right - left, bottom - top


def _joined(lines: list[Box]) -> list[Box]:
    """Lines, with those made one that lie in each other, or side by side on one level."""
    joined: list[Box] = []
    for line in sorted(lines):
        left, top, _, high = line
        for place, other in enumerate(joined):
            x, y, wide, tall = other
            shared = min(top + high, y + tall) - max(top, y)
            if shared > 0.5 * min(high, tall) and left <= x + wide + _WORD_GAP * tall:
                joined[place] = _around((other, line))
                break
        else:
            joined.append(line)
    return joined


def _is_print(boxes: Int[np.ndarray, "n 4"]) -> bool:
    """Letters differ in width, and stand on one line; windows and rails are all alike, twigs are nowhere level."""
    widths, heights = boxes[:, 2], boxes[:, 3]
    x = boxes[:, 0] + widths / 2
    bottoms = boxes[:, 1] + heights
    slope, level = np.polyfit(x, bottoms, 1)
    off = np.abs(bottoms - slope * x - level) / np.median(heights)
    gaps = (boxes[1:, 0] - boxes[:-1, 0] - boxes[:-1, 2]) / np.median(heights)
    return bool(widths.std() / widths.mean() > 0.2 and np.median(off) < 0.1 and abs(slope) < 0.25 and gaps.mean() < 0.5)
