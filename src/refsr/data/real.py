"""Real pairs: what `refsr pairs` writes, or any folder with input/NAME and ref/NAME, as CUFED's has, or shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refsr.data.shards import TarMember
from refsr.data.synthetic import Pair, PairConfig, reference_count, unknown_cells
from refsr.errors import ImageError, RefSRError
from refsr.image import READABLE_SUFFIXES, decode_photo

_TRIES: Final = 10


class PairSource:
    """Pairs of crops by number. A damaged pair is replaced by the next one that is not, and counted in `errors`."""

    def __init__(self, files: Sequence[tuple[Path, Path] | tuple[TarMember, TarMember]]) -> None:
        """Remember the files; nothing is decoded yet.

        Args:
            files: Input and reference of each pair, at least one.
        """
        self.files = files
        self.errors = 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 _ _"], Float[Tensor, "3 _ _"]]:
        """Input and reference, 0..1.

        Raises:
            ImageError: Neither this pair nor any of the next ones can be read.
        """
        for number in range(index, index + min(_TRIES, len(self.files))):
            try:
                both = self.files[number % len(self.files)]
                first, second = (decode_photo(file.read_bytes(), str(file)).pixels[0] for file in both)
            except (RefSRError, OSError):
                self.errors += 1
                continue
            return first, second
        raise ImageError(f"{self.files[index][0]} and the pairs after it are damaged: make them again")


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs of a folder with input/NAME and ref/NAME; none if it has not both."""
    inputs, refs = (
        {p.stem: p for p in sorted((folder / kind).glob("*")) if p.suffix.lower() in READABLE_SUFFIXES}
        for kind in ("input", "ref")
    )
    return [(inputs[name], refs[name]) for name in sorted(inputs.keys() & refs.keys())]


def real_pair(pairs: PairSource, config: PairConfig, size: int, rng: np.random.Generator) -> Pair:
    """Cut a pair to size, flip and turn both alike; now and then its reference is absent, or another pair's.

    A second reference is always another pair's: it may be of no use.

    Args:
        pairs: Of crops that are at least so large.
        config: Gives the shares of absent, second and unrelated references.
        size: Side of both in pixels, a multiple of 4.
        rng: Decides everything.

    Raises:
        ImageError: The crops are smaller than that.
    """
    index = int(rng.integers(len(pairs)))
    hr, ref = pairs[index]
    count = reference_count(config, rng)
    unrelated = [rng.random() < config.unrelated, True][:count]
    refs = [pairs[int(rng.integers(len(pairs)))][1] if wrong else ref for wrong in unrelated]
    if count == 2 and rng.random() < 0.5:
        refs.reverse()
    side = min(length for image in (hr, *refs) for length in image.shape[-2:])
    if side < size:
        raise ImageError(
            f"{pairs.files[index][0]}: a pair of {side} pixels cannot give crops of {size}: use smaller crops"
        )
    place = rng.random(2)
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))

    def cut(image: Tensor) -> Tensor:
        top, left = (int(share * (length - size + 1)) for share, length in zip(place, image.shape[-2:], strict=True))
        turned = torch.rot90(image[..., top : top + size, left : left + size], quarter, (-2, -1))
        return (turned.flip(-1) if flip else turned).contiguous()

    return Pair(
        hr=cut(hr),
        refs=torch.stack([cut(ref) for ref in refs]) if refs else torch.zeros(0, 3, size, size),
        truth_cells=unknown_cells(size).expand(count, -1, -1, -1),
    )
