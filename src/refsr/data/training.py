"""What a training run sees: one pair for each number, whatever the processes and however often it was interrupted.

number ── (seed, number) ──> random numbers ──┬── share `real` ──> pair folder ──> a real pair
                                              └── else ─────────> photographs ──> a synthetic one
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from refsr.data.leaks import find_leaks
from refsr.data.photos import PhotoSource, list_photos
from refsr.data.real import PairSource, list_pairs, real_pair
from refsr.data.shards import TarMember, list_shards, pair_up, read_index
from refsr.data.synthetic import PairConfig, synthetic_pair
from refsr.errors import UsageError

MOST_REFERENCES: Final = 2


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where pairs come from.

    Attributes:
        photos: Photographs, by place.
        pairs: Pairs, by place.
        leaks: Photographs that were left out, each with the held-out picture that it shows.
    """

    photos: tuple[PhotoSource, ...]
    pairs: tuple[PairSource, ...]
    leaks: tuple[tuple[str, str], ...] = ()

    @property
    def errors(self) -> int:
        """Files that could not be used so far."""
        return sum(source.errors for source in self.photos) + sum(source.errors for source in self.pairs)


def open_sources(places: Sequence[Path], smallest_px: int, cache_mib: int, held_out: Sequence[Path] = ()) -> Sources:
    """Tell pairs from photographs, in folders and in shards.

    Args:
        places: Folders with input/ and ref/ inside; folders of .tar shards, or shards; any other folders are searched
            through for photographs.
        smallest_px: Photographs with a shorter side are left out.
        cache_mib: Decoded photographs kept in memory, in all.
        held_out: Folders of pictures that must not be trained on; photographs that show one of them are left out.

    Raises:
        UsageError: A place is missing or holds nothing, or none is given; or no photograph is left.
        ImageError: A shard is damaged.
    """
    if not places:
        raise UsageError("no data: give a folder with --data")
    photos: list[Sequence[Path | TarMember]] = []
    pairs: list[PairSource] = []
    leaks: list[tuple[str, str]] = []
    pictures = [picture for folder in held_out for picture in _pictures(folder)]
    for place in places:
        if not place.exists():
            raise UsageError(f"{place}: no such folder: check the name")
        members = read_index(list_shards(place))
        both = pair_up(members) if members else list_pairs(place)
        single: Sequence[Path | TarMember] = members or list_photos(place)
        if both:
            pairs.append(PairSource(both))
        elif single:
            found = find_leaks(single, pictures)
            leaks += [(str(single[number]), str(shown)) for number, shown in found.items()]
            kept: list[Path | TarMember] = [file for number, file in enumerate(single) if number not in found]
            if not kept:
                raise UsageError(f"{place}: every photograph shows a held-out picture: name another folder")
            photos.append(kept)
        else:
            raise UsageError(f"{place}: holds neither photographs nor pairs (input/NAME and ref/NAME): name another")
    return Sources(
        photos=tuple(PhotoSource(files, smallest_px, cache_mib // len(photos)) for files in photos),
        pairs=tuple(pairs),
        leaks=tuple(leaks),
    )


def _pictures(folder: Path) -> list[Path]:
    found = list_photos(folder)
    if not found:
        raise UsageError(f"{folder}: holds no picture to be held out: check the name")
    return found


class TrainingPairs(Dataset[dict[str, Tensor]]):
    """Pairs by number; an item is a dict of tensors, so that the loader can stack it.

    hr (3, S, S), refs (2, 3, S, S), truth_cells (2, 2, S/4, S/4): see `refsr.data.synthetic.Pair`.
    references (): how many there are; what lies beyond is zero.
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
        rng, source = self._source(number)
        if isinstance(source, PairSource):
            pair = real_pair(source, self.config, self.size, rng)
        else:
            pair = synthetic_pair(source, self.config, self.size, rng)
        count = len(pair.refs)
        return {
            "hr": pair.hr,
            "refs": F.pad(pair.refs, (0,) * 7 + (MOST_REFERENCES - count,)),
            "truth_cells": F.pad(pair.truth_cells, (0,) * 7 + (MOST_REFERENCES - count,)),
            "references": torch.tensor(count),
            "number": torch.tensor(number),
            "errors": torch.tensor(self.sources.errors),
        }

    def file_of(self, number: int) -> str:
        """Where a pair's truth comes from: of its source, the file that is drawn first."""
        rng, source = self._source(number)
        file = source.files[int(rng.integers(len(source)))]
        return str(file[0] if isinstance(file, tuple) else file)

    def _source(self, number: int) -> tuple[np.random.Generator, PhotoSource | PairSource]:
        """The random numbers of a pair, and the place that it is taken from."""
        rng = np.random.default_rng((self.seed, number))
        sources = self.sources.pairs if rng.random() < self.real else self.sources.photos
        return rng, _pick(sources, rng)


def _pick(sources: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of them, by how much it holds."""
    if len(sources) == 1:
        return sources[0]
    ends = np.cumsum([len(source) for source in sources])
    return sources[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
