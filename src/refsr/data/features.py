"""Local features of photos, and which of them match."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
_MAXIMUM_RATIO: Final = 0.8

Points = Float[np.ndarray, "n 2"]


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
    preview = read_preview(path, work_px)
    found = describe(preview.image, preview.full_px, preview.copyright)
    if found is None:
        raise ImageError(f"{path}: is flat, it has no local features: leave it out")
    return found


def describe(image: Image.Image, full_px: tuple[int, int], licence: str = "") -> LocalFeatures | None:
    """Detect SIFT features of a picture, as `detect` does in a photo; None if it is flat."""
    cv2 = import_extra("cv2", "finding pairs")
    grey = image.convert("L")
    points, descriptors = cv2.SIFT_create(nfeatures=MAXIMUM_FEATURES).detectAndCompute(np.asarray(grey), None)
    if descriptors is None:
        return None
    order = np.argsort([-point.response for point in points], kind="stable")[:MAXIMUM_FEATURES]
    return LocalFeatures(
        points_px=np.array([points[i].pt for i in order], dtype=np.float32).reshape(-1, 2),
        descriptors=descriptors[order].astype(np.uint8),
        size_px=grey.size[::-1],
        full_px=full_px,
        thumbnail=np.asarray(grey.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)),
        licence=licence,
    )


def mutual_matches(first: LocalFeatures, second: LocalFeatures) -> tuple[Points, Points]:
    """Keypoints (x, y) in both working copies: mutual nearest neighbours that pass Lowe's ratio test."""
    if min(len(first.points_px), len(second.points_px)) < 2:
        return first.points_px[:0], second.points_px[:0]
    cosine = first.root_descriptors() @ second.root_descriptors().T
    rows = np.arange(len(cosine))
    best = cosine.argmax(1)
    top = cosine[rows, best]
    cosine[rows, best] = -1
    distance, next_distance = (np.sqrt(np.maximum(2 - 2 * c, 0)) for c in (top, cosine.max(1)))
    cosine[rows, best] = top
    rows = rows[distance < _MAXIMUM_RATIO * next_distance]
    best = best[rows]
    mutual = cosine[:, best].argmax(0) == rows
    return first.points_px[rows[mutual]], second.points_px[best[mutual]]


def pool_of(processes: int) -> Workers:
    """Worker processes of one thread each for OpenCV; with one process, the work is done in this one."""
    return Workers(processes if processes > 1 else 0, _use_one_thread)


def _use_one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import_extra("cv2", "finding pairs").setNumThreads(1)
