"""What is measured must not have been trained on: photos that show a held-out picture are known by their looks."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refsr.data.shards import TarMember

_SIDE_PX: Final = 32
_COSINES: Final = 8
_FEW_BITS: Final = 6
"""Copies differ by fewer of 63 bits after JPEG, blur or another size; other pictures by 30, a dozen at the least."""

_UNREADABLE: Final = OSError, ValueError, SyntaxError, Image.DecompressionBombError


def find_leaks(files: Sequence[Path | TarMember], held_out: Sequence[Path]) -> dict[int, Path]:
    """Photos that show a held-out picture, upright or mirrored, at any size; unreadable ones show none.

    Args:
        files: Photos to be trained on.
        held_out: Pictures to be measured.

    Returns:
        The number of each such photo, with the picture that it shows.
    """
    known = [(path, found) for path in held_out if (found := _hash_file(path)) is not None]
    if not known:
        return {}
    hashes = np.array([both for _, found in known for both in found])
    leaks: dict[int, Path] = {}
    for number, file in enumerate(files):
        found = _hash_file(file)
        if found is None:
            continue
        bits = (hashes ^ found[0]).sum(1)
        if bits.min() < _FEW_BITS:
            leaks[number] = known[int(bits.argmin()) // 2][0]
    return leaks


def perceptual_hash(image: Image.Image) -> NDArray[np.bool_]:
    """63 bits: which slow cosines of a small grey copy are above their median, the mean left out.

    Args:
        image: Of any size.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1.
    """
    small = np.asarray(image.convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX), dtype=float)
    angle = np.pi / _SIDE_PX * (np.arange(_SIDE_PX) + 0.5)
    cosines = np.cos(np.arange(_COSINES)[:, None] * angle)
    cosines[0] /= np.sqrt(2)
    slow = (cosines @ small @ cosines.T).ravel()[1:]
    return np.asarray(slow > np.median(slow))


def _hash_file(file: Path | TarMember) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Upright and mirrored; nothing if the file is damaged. JPEGs are decoded small, which is quick."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            image.draft("L", (4 * _SIDE_PX, 4 * _SIDE_PX))
            grey = image.convert("L")
    except _UNREADABLE:
        return None
    return perceptual_hash(grey), perceptual_hash(grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
