"""Local features of photos, and the shortlist of photos to compare: nearest neighbours of one vector per photo.

Source of the vectors: Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010
(VLAD), with the intra-normalisation of Arandjelovic and Zisserman, "All about VLAD", CVPR 2013.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image

from refsr.errors import ImageError
from refsr.extras import import_extra
from refsr.io.files import write_atomically
from refsr.io.photo import read_preview
from refsr.io.workers import Workers

MAXIMUM_FEATURES: Final = 2000
_THUMBNAIL_PX: Final = 32
Vectors = Float[np.ndarray, "_ d"]
_WORDS: Final = 64
_MAXIMUM_SAMPLE: Final = 50_000  # descriptors that the visual words are learnt from
_ROWS: Final = 512  # photos whose similarities to all others are computed at once


@dataclass(frozen=True, kw_only=True)
class LocalFeatures:
    """Local features of a photo.

    Attributes:
        points_px: Keypoints (x, y) in the working copy, strongest first.
        descriptors: SIFT descriptors.
        size_px: Height and width of the working copy.
        full_px: Height and width of the upright photo.
        thumbnail: Grey copy, stretched to a square.
        licence: Copyright text of its EXIF, or empty.
    """

    points_px: Float[np.ndarray, "n 2"]
    descriptors: UInt8[np.ndarray, "n 128"]
    size_px: tuple[int, int]
    full_px: tuple[int, int]
    thumbnail: UInt8[np.ndarray, "t t"]
    licence: str

    def root_descriptors(self) -> Float[np.ndarray, "n 128"]:
        """RootSIFT: unit vectors whose inner product is the Hellinger kernel of the descriptors.

        Source: Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012.
        """
        values = self.descriptors.astype(np.float32)
        root: NDArray[np.float32] = np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1))
        return root

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        buffer = io.BytesIO()
        sizes, licence = np.array((*self.size_px, *self.full_px)), np.array(self.licence)
        np.savez(
            buffer, points_px=self.points_px, descriptors=self.descriptors, sizes=sizes, thumbnail=self.thumbnail,
            licence=licence,
        )  # fmt: skip
        write_atomically(path, buffer.getvalue())


def load_features(path: Path) -> LocalFeatures:
    """Read a file of `LocalFeatures.save`."""
    with np.load(path) as data:
        height, width, full_height, full_width = data["sizes"].tolist()
        return LocalFeatures(
            points_px=data["points_px"], descriptors=data["descriptors"], size_px=(height, width),
            full_px=(full_height, full_width), thumbnail=data["thumbnail"], licence=str(data["licence"]),
        )  # fmt: skip


def detect(path: Path, work_px: int) -> LocalFeatures:
    """Detect SIFT features of a photo.

    Args:
        path: The photo.
        work_px: Long side of the working copy; smaller photos are not enlarged.

    Raises:
        ImageError: The photo cannot be read, or has no features.
        MissingExtraError: OpenCV is not installed.

    Source: Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004.
    """
    cv2 = import_extra("cv2", "finding pairs")
    preview = read_preview(path, work_px)
    grey = preview.image.convert("L")
    points, descriptors = cv2.SIFT_create(nfeatures=MAXIMUM_FEATURES).detectAndCompute(np.asarray(grey), None)
    if descriptors is None:
        raise ImageError(f"{path}: is flat, it has no local features: leave it out")
    order = np.argsort([-point.response for point in points], kind="stable")[:MAXIMUM_FEATURES]
    return LocalFeatures(
        points_px=np.array([points[i].pt for i in order], dtype=np.float32).reshape(-1, 2),
        descriptors=descriptors[order].astype(np.uint8),
        size_px=grey.size[::-1],
        full_px=preview.full_px,
        thumbnail=np.asarray(grey.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)),
        licence=preview.copyright,
    )


def pool_of(processes: int) -> Workers:
    """Worker processes of one thread each for OpenCV; with one process, the work is done in this one."""
    return Workers(processes if processes > 1 else 0, _use_one_thread)


def _use_one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import_extra("cv2", "finding pairs").setNumThreads(1)


def learn_words(descriptors: Sequence[Vectors]) -> Vectors:
    """Visual words: centres of up to 64 clusters of RootSIFT descriptors, by k-means with a fixed seed."""
    cv2: Any = import_extra("cv2", "finding pairs")
    vectors = np.concatenate(list(descriptors))
    rng = np.random.default_rng(0)
    if len(vectors) > _MAXIMUM_SAMPLE:
        vectors = vectors[rng.choice(len(vectors), _MAXIMUM_SAMPLE, replace=False)]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-4)
    words = min(_WORDS, len(vectors))
    _, _, centres = cv2.kmeans(vectors, words, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres, dtype=np.float32)


def vlad(descriptors: Vectors, words: Vectors) -> Float[np.ndarray, " words_d"]:
    """VLAD of a photo, a unit vector: per word, the normalised sum of the residuals of its descriptors."""
    nearest = (descriptors @ words.T - 0.5 * (words**2).sum(1)).argmax(1)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, descriptors - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    flat = sums.ravel()
    return (flat / max(float(np.linalg.norm(flat)), 1e-12)).astype(np.float32)


def nearest_pairs(vectors: Vectors, neighbours: int) -> list[tuple[int, int]]:
    """Pairs of each photo, a unit vector, and its nearest neighbours, each once, as (smaller, larger) index, sorted."""
    count = len(vectors)
    kept = min(neighbours, count - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, count if kept > 0 else 0, _ROWS):
        similarity = vectors[start : start + _ROWS] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
        for first, nearest in enumerate(best.tolist(), start):
            pairs |= {(min(first, second), max(first, second)) for second in nearest}
    return sorted(pairs)
