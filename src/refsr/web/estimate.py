"""How long a job will take on this machine: measured with a small picture, mended by each job that ends.

The network works on cells, the pixels of what it restores, in one pass or two: see `refsr.restore.size`. Each cell is
restored once without references, and once more with each of them.
"""

import time
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from refsr.assets import sample_path
from refsr.io.photo import Photo, as_photo
from refsr.models import Blend
from refsr.resize import downscale_bicubic
from refsr.restore.upscale import RestoreConfig

_SAMPLE_PX: Final = 384
_TILE_CELLS: Final = 256
"""Side of a tile, around which a halo is computed in vain; see `refsr.restore.tiles`."""

_CELL_MATCHED: Final = 1.2
_REFERENCE_CELL: Final = 0.25
"""Time to match a cell, and to read one of a reference, in times to restore one alone: measured on a CPU."""

_WIDEST: Final = 8.0
"""Bound on the correction by jobs that ended."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Size of a job.

    Attributes:
        result_px: Height and width of the result.
        lr_px: Height and width of what the network restores in each pass.
        reference_px: Count of pixels of each reference.
    """

    result_px: tuple[int, int]
    lr_px: tuple[tuple[int, int], ...]
    reference_px: tuple[int, ...] = ()


@dataclass
class Speed:
    """Speed of a model on this machine.

    Attributes:
        scale: The model's own scale.
        halo_cells: Cells that are computed around a tile.
        alone_s: Time to restore a cell without references.
        transfer_s: Time to restore it with a reference, beyond the above.
        pose_s: Time to find the pose of a reference.
        correction: Factor that jobs have shown.
    """

    scale: int
    halo_cells: int
    alone_s: float
    transfer_s: float = 0.0
    pose_s: float = 0.0
    correction: float = 1.0

    def matching_s(self, work: Work) -> float:
        """Time until all references of a job are matched."""
        cells = sum(height * width for height, width in work.lr_px)
        matched = self.pose_s + cells * _CELL_MATCHED * self.alone_s
        seen = len(work.lr_px) * sum(work.reference_px) / self.scale**2 * _REFERENCE_CELL * self.alone_s
        return self.correction * (len(work.reference_px) * matched + seen)

    def seconds(self, work: Work) -> float:
        """Time of a job."""
        halo = self.halo_cells
        cells = sum(_with_halo(height, halo) * _with_halo(width, halo) for height, width in work.lr_px)
        restored = cells * (self.alone_s + len(work.reference_px) * self.transfer_s)
        return self.matching_s(work) + self.correction * restored

    def learn(self, work: Work, took_s: float) -> None:
        """Mend the estimates by a job that ended; half of what it shows, since other work may have slowed it."""
        shown = took_s / max(self.seconds(work), 1e-3)
        self.correction = min(max(self.correction * shown**0.5, 1 / _WIDEST), _WIDEST)


def measure_speed(blend: Blend, config: RestoreConfig) -> Speed:
    """Restore a small picture without and with a reference.

    Args:
        blend: The model to be measured.
        config: Settings of the restoring.
    """
    truth, reference = (as_photo(sample_path(name)).pixels[..., :_SAMPLE_PX, :_SAMPLE_PX] for name in _PICTURES)
    lr = Photo(pixels=downscale_bicubic(truth, blend.clean.scale).clamp(0, 1))
    cells = lr.size_px[0] * lr.size_px[1]
    begun, matched = time.monotonic(), 0.0
    config.upscale(lr, model=blend, provenance=False, **_MEASURED)
    alone_s = (time.monotonic() - begun) / cells
    speed = Speed(scale=blend.clean.scale, halo_cells=blend.clean.halo_cells, alone_s=alone_s)
    if not blend.clean.uses_references:
        return speed

    def progress(done: int | float, total: int | float = 1, *, stage: str = "") -> None:
        nonlocal matched
        if stage == "matching" and done == total:
            matched = time.monotonic()

    begun = matched = time.monotonic()
    config.upscale(lr, [Photo(pixels=reference)], model=blend, progress=progress, **_MEASURED)
    speed.transfer_s = max(0.0, (time.monotonic() - matched) / cells - alone_s)
    speed.pose_s = max(0.0, matched - begun - cells * (_CELL_MATCHED + _REFERENCE_CELL) * alone_s)
    return speed


_MEASURED: Final[dict[str, Any]] = {"scale": None, "size": None, "texture": 0}
"""All weights take the same time."""

_PICTURES: Final = ("truth", "reference")


def _with_halo(side: int, halo: int) -> int:
    """Length of a side as it is computed in tiles."""
    return side + 2 * halo * (ceil(side / _TILE_CELLS) - 1)
