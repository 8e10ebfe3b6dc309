"""A video from beginning to end."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.device import Precision, autocast
from refsr.errors import UsageError
from refsr.io.photo import Photo
from refsr.io.progress import Progress, silent
from refsr.models import DefaultModel, RefSRModel
from refsr.models.base import Reference
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import Library, open_library
from refsr.references.variants import transform
from refsr.restore.pipeline import Encoded, encode, encode_reference, match, with_matches
from refsr.restore.tiles import plan_memory, transfer_tiled
from refsr.search import Match, refine_subpixel
from refsr.video.carry import carry
from refsr.video.flicker import Flicker
from refsr.video.frames import VideoFile, writing

_LOOKED_AGAIN: Final = 48
"""After so many frames, at the latest, the stills are chosen anew."""

_LOST: Final = 0.05
"""By so much must the mean cosine of the match fall for the picture to be matched anew."""


_NEAR: Final = 4
"""So many stills are looked at, where it is known when they were taken."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a video is enlarged.

    Attributes:
        most: Stills for each frame.
        carried: Carry matches from frame to frame; else each frame is matched anew.
        crf: Quality of H.264, 0 (lossless) to 51.
        memory_bytes: Budget.
        precision: Of the network.
    """

    most: int = 1
    carried: bool = True
    crf: int = 16
    memory_bytes: int = 2 * 2**30
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"{self.most} stills for each frame: give 1 or more")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"a quality (crf) of {self.crf}: give 0 to 51")


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """What was done.

    Attributes:
        frames: Count of frames.
        searched: How often a still was matched anew; otherwise matches were carried.
        used: Count of frames that each still was used for.
        flicker_levels: See `refsr.video.flicker.Flicker`.
    """

    frames: int
    searched: int
    used: dict[Path, int]
    flicker_levels: float


def upscale_video(
    source: Path,
    keyframes: Path,
    out: Path,
    model: RefSRModel,
    config: VideoConfig,
    *,
    progress: Progress = silent,
) -> VideoResult:
    """Enlarge a video with the help of sharp stills of the same things; the sound is kept.

    Args:
        source: The video.
        keyframes: Folder of stills, as for `refsr.references.index.open_library`. They are chosen by content, and kept
            from frame to frame as long as they fit. Where all names end in seconds, such as `door_12.5s.jpg`, the
            nearest in time are looked at.
        out: Video to write, .mp4 or .mkv.
        model: The default one, or of its kind.
        config: How.
        progress: Told of each frame, and of how many there are.

    Raises:
        UsageError: The folder holds no still, or the model is of another kind.
        ImageError: The video cannot be read.
        OutputError: It cannot be written.
        MemoryBudgetError: A frame does not fit the budget.
    """
    if not isinstance(model, DefaultModel):
        raise UsageError(f"videos need the default model: {model.name} has no matches to be carried")
    video = VideoFile(source)
    try:
        library = open_library(keyframes, model)
        height, width = (side * model.scale for side in video.size_px)
        shot = _Shot(model, library, config)
        flicker, count = Flicker(model.scale), 0
        with writing(out, video, (height, width), config.crf) as writer, torch.inference_mode():
            for frame, stamp in video.read(writer):
                sr = shot.restore(frame.to(model.device), float(stamp[0] * stamp[1]))
                flicker.add(frame, sr)
                writer.write(sr, stamp)
                count += 1
                progress(count, max(count, video.frames))
    finally:
        video.close()
    return VideoResult(frames=count, searched=shot.searched, used=shot.used, flicker_levels=flicker.levels)


@dataclass(kw_only=True)
class _Still:
    path: Path
    reference: Reference
    match: Match
    cosine: float


class _Shot:
    """What is known of the frames before: the stills that fit, and where they matched."""

    def __init__(self, model: DefaultModel, library: Library, config: VideoConfig) -> None:
        self.model, self.library, self.config = model, library, config
        self.stills: list[_Still] = []
        self.times = [_seconds(path) for path in library.paths]
        self.age = _LOOKED_AGAIN
        self.searched = 0
        self.used: dict[Path, int] = {}

    def restore(self, frame: Float[Tensor, "1 3 h w"], seconds: float) -> Float[Tensor, "1 3 h2 w2"]:
        """Enlarge the next frame, shown at this time."""
        encoded = encode(self.model, frame)
        if not self.config.carried or self.age >= _LOOKED_AGAIN or not self._follow(encoded.query):
            self._choose(encoded, seconds)
        self.age += 1
        for still in self.stills:
            self.used[still.path] = self.used.get(still.path, 0) + 1
        matches = []
        for index, still in enumerate(self.stills):
            finer = refine_subpixel(encoded.query, [still.reference.key], still.match)
            matches.append(replace(finer, reference=torch.full_like(finer.reference, index), among=(index,)))
        matched = with_matches(self.model, frame, [still.reference for still in self.stills], matches)
        sizes = [self._pixels(still.reference) for still in self.stills]
        tile = plan_memory(self.model, frame.shape[-2:], sizes, self.config.memory_bytes).tile
        with autocast(self.model.device, self.config.precision):
            sr, _ = transfer_tiled(self.model, matched, tile)
        return sr

    def _follow(self, query: Float[Tensor, "1 c h w"]) -> bool:
        """Carry the matches on; false where one is lost."""
        for still in self.stills:
            still.match = carry(query, still.reference.key, still.match)
            if still.match.score.mean().item() < still.cosine - _LOST:
                return False
        return True

    def _choose(self, encoded: Encoded, seconds: float) -> None:
        """Choose the stills, and match them."""
        photo = Photo(pixels=encoded.lr.cpu())
        known = {still.path: still for still in self.stills}
        self.stills, self.age = [], 0
        for found in find_references(photo, self._near(seconds), self.model, most=self.config.most):
            reference = known[found.path].reference if found.path in known else self._encode(found)
            alone = replace(encoded, references=(reference,))
            plan = plan_memory(self.model, encoded.lr.shape[-2:], [self._pixels(reference)], self.config.memory_bytes)
            (best,) = match(self.model, alone, memory_bytes=plan.search_bytes).matches
            whole = replace(best, position_cells=best.position_cells.round())
            cosine = best.score.mean().item()
            self.stills.append(_Still(path=found.path, reference=reference, match=whole, cosine=cosine))
            self.searched += 1

    def _near(self, seconds: float) -> Library:
        """The stills nearest in time, where their names tell it of all; else all of them."""
        if any(time is None for time in self.times):
            return self.library
        order = sorted(range(len(self.times)), key=lambda index: abs((self.times[index] or 0) - seconds))
        near = sorted(order[:_NEAR])
        paths = tuple(self.library.paths[index] for index in near)
        return replace(self.library, paths=paths, vectors=self.library.vectors[near])

    def _encode(self, found: FoundReference) -> Reference:
        image = found.photo.pixels.to(self.model.device)
        return encode_reference(self.model, transform(image, 0, found.pose.scale, found.pose.degrees).image)

    def _pixels(self, reference: Reference) -> tuple[int, int]:
        return reference.key.shape[-2] * self.model.cell_px, reference.key.shape[-1] * self.model.cell_px


def _seconds(path: Path) -> float | None:
    found = re.search(r"(\d+(?:\.\d+)?)s$", path.stem)
    return float(found[1]) if found else None
