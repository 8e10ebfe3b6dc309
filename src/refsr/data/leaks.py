"""Training photos that show a held-out picture, found by perceptual hashes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refsr.data.photos import UNREADABLE
from refsr.data.shards import TarMember

_THUMBNAIL_PX: Final = 32
_FREQUENCIES: Final = 8
_MINIMUM_DISTANCE_BITS: Final = 6
"""Copies differ in fewer of 63 bits after JPEG, blur or resizing; other pictures in about 30, at least in 12."""


def find_leaks(files: Sequence[Path | TarMember], held_out: Sequence[Path]) -> dict[int, Path]:
    """Photos that show a held-out picture, upright or mirrored, at any size; unreadable files are skipped.

    Args:
        files: Photos for training.
        held_out: Pictures for evaluation.

    Returns:
        The held-out picture that each such photo shows, by the photo's index.
    """
    known = [(path, found) for path in held_out if (found := _hash_file(path)) is not None]
    if not known:
        return {}
    hashes = np.array([bits for _, found in known for bits in found])
    leaks: dict[int, Path] = {}
    for number, file in enumerate(files):
        found = _hash_file(file)
        if found is None:
            continue
        bits = (hashes ^ found[0]).sum(1)
        if bits.min() < _MINIMUM_DISTANCE_BITS:
            leaks[number] = known[int(bits.argmin()) // 2][0]
    return leaks


def perceptual_hash(image: Image.Image) -> NDArray[np.bool_]:
    """63 bits: which low-frequency DCT coefficients of a grey thumbnail exceed their median, the mean left out.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1.
    """
    small = np.asarray(image.convert("L").resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX), dtype=float)
    angle = np.pi / _THUMBNAIL_PX * (np.arange(_THUMBNAIL_PX) + 0.5)
    cosines = np.cos(np.arange(_FREQUENCIES)[:, None] * angle)
    cosines[0] /= np.sqrt(2)
    slow = (cosines @ small @ cosines.T).ravel()[1:]
    return np.asarray(slow > np.median(slow))


def _hash_file(file: Path | TarMember) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Hashes of a picture and its mirror image; None if the file is damaged. JPEGs are decoded small, for speed."""
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            image.draft("L", (4 * _THUMBNAIL_PX, 4 * _THUMBNAIL_PX))
            grey = image.convert("L")
    except UNREADABLE:
        return None
    return perceptual_hash(grey), perceptual_hash(grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
