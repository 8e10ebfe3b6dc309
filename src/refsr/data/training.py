"""What a training run sees: one pair for each number, whatever the processes and however often it was interrupted.

number ── (seed, number) ──> random numbers ──┬── share `real` ──> pair folder ──> a real pair
                                              └── else ─────────> photographs ──> a synthetic one
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from refsr.data.folders import PairFolder, is_pair_folder, real_pair
from refsr.data.photos import PhotoFolder
from refsr.data.synthetic import PairConfig, synthetic_pair
from refsr.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where pairs come from.

    Attributes:
        photos: Folders of photographs.
        pairs: Folders of pairs.
    """

    photos: tuple[PhotoFolder, ...]
    pairs: tuple[PairFolder, ...]

    @property
    def errors(self) -> int:
        """Files that could not be used so far."""
        return sum(source.errors for source in self.photos) + sum(source.errors for source in self.pairs)


def open_sources(folders: Sequence[Path], smallest_px: int, cache_mib: int) -> Sources:
    """Tell folders of pairs from folders of photographs.

    Args:
        folders: With input/ and ref/ inside for pairs; any others are searched through for photographs.
        smallest_px: Photographs with a shorter side are left out.
        cache_mib: Decoded photographs kept in memory, in all.

    Raises:
        UsageError: A folder is missing, or none is given.
        ImageError: A folder holds nothing.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing or not folders:
        raise UsageError(f"{missing[0]}: no such folder" if missing else "no data: give a folder with --data")
    photos = [folder for folder in folders if not is_pair_folder(folder)]
    return Sources(
        photos=tuple(PhotoFolder(folder, smallest_px, cache_mib // len(photos)) for folder in photos),
        pairs=tuple(PairFolder(folder) for folder in folders if is_pair_folder(folder)),
    )


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Pairs by number; an item is a dict of tensors, so that the loader can stack it.

    hr, ref (3, S, S), truth_cells (2, S/4, S/4), present (): see `refsr.data.synthetic.Pair`.
    number (): the pair's own. errors (): files that this process could not use so far.
    """

    def __init__(
        self, sources: Sources, config: PairConfig, *, real: float, size: int, seed: int, numbers: Sequence[int]
    ) -> None:
        """Choose the numbers; nothing is made yet.

        Args:
            sources: Where from.
            config: How synthetic pairs are made.
            real: Share of real pairs, where there are photographs too.
            size: Side of the crops in pixels.
            seed: Start of the random numbers.
            numbers: Of the pairs that this process sees, in order.
        """
        self.sources = sources
        self.config = config
        self.real = 1.0 if not sources.photos else real if sources.pairs else 0.0
        self.size = size
        self.seed = seed
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = self.numbers[index]
        rng = np.random.default_rng((self.seed, number))
        if rng.random() < self.real:
            pair = real_pair(_pick(self.sources.pairs, rng), self.config, self.size, rng)
        else:
            pair = synthetic_pair(_pick(self.sources.photos, rng), self.config, self.size, rng)
        return {
            "hr": pair.hr,
            "ref": pair.ref,
            "truth_cells": pair.truth_cells,
            "present": torch.tensor(pair.present),
            "number": torch.tensor(number),
            "errors": torch.tensor(self.sources.errors),
        }


def _pick(sources: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of them, by how much it holds."""
    if len(sources) == 1:
        return sources[0]
    ends = np.cumsum([len(source) for source in sources])
    return sources[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
