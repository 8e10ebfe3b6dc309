"""Index of a folder: the vectors of its photos, kept on disk, so that unchanged photos are not read again.

One SQLite file a folder, in the user's cache, so that nothing is written among the photos:
    photos (path, changed_ns, bytes, vector, problem)    a photo that cannot be read has a problem in place of a vector
    made_by (weights)                                    vectors of other weights are discarded
Vectors of photos that show the same things are near each other:
    photo ── small copy ──> descriptors (C, n) ── mean of their products ── upper half, root, unit norm ──> vector

Source: Carreira et al., "Semantic Segmentation with Second-Order Pooling", ECCV 2012; the signed root of Perronnin et
al., "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010.
"""

import hashlib
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from torch import Tensor

from refsr.errors import OutputError, RefSRError, UsageError
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.files import check_writable, make_folder
from refsr.io.listing import list_folder
from refsr.io.photo import as_photo, read_preview
from refsr.io.progress import Progress, silent
from refsr.models import RefSRModel
from refsr.resize import pad_to_multiple, resize
from refsr.wording import cause, told

_COMMIT_PHOTOS: Final = 64
"""Photos between two commits; a killed run loses no more."""
MAXIMUM_CELLS: Final = 4096
"""Maximum size of the small copy."""

_SMALLEST_PX: Final = 8

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, kw_only=True)
class Library:
    """Indexed photos.

    Attributes:
        paths: Photos that can be read, in order.
        vectors: Their unit vectors, one a row.
        problems: Why other photos cannot be used, by path: errors, or that they are results of refsr.
        read: Number of photos that were read this time.
        left_out: Lines for the user about pictures of kinds that are not read, and about folders.
    """

    paths: tuple[Path, ...]
    vectors: Float[np.ndarray, "n d"]
    problems: dict[Path, str]
    read: int
    left_out: tuple[str, ...] = ()

    def complaints(self) -> tuple[str, ...]:
        """A line for the user about all that could not be read."""
        return (*(f"left out {told(path, problem)}" for path, problem in self.problems.items()), *self.left_out)


def open_library(folder: Path, model: RefSRModel, *, cache: Path | None = None, progress: Progress = silent) -> Library:
    """Update and load the index of a folder.

    Args:
        folder: Folder of photos, with its subfolders but hidden ones.
        model: Model whose descriptors make the vectors.
        cache: Folder for the index; by default in the user's cache. Where none can be written, no index is kept.
        progress: Told the photos read, of how many.

    Raises:
        UsageError: The folder does not exist, or holds no photo.
        OutputError: The index is damaged, or the disk is full.
    """
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {what}: name a folder of photos")
    root = folder.resolve()
    listing = list_folder(root)
    here = {path: (stat.st_mtime_ns, stat.st_size) for path, stat in ((p, p.stat()) for p in listing.photos)}
    if not here:
        reasons = "; ".join((", ".join(READABLE_SUFFIXES), *listing.left_out))
        raise UsageError(f"{folder}: holds no photo ({reasons}): name another folder")
    name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    try:
        file = (cache or user_cache_path("refsr") / "libraries") / f"{name}.sqlite"
        make_folder(file.parent)
        check_writable(file)
    except (OutputError, RuntimeError):  # nothing can be kept, or a user has no home: all photos are read each time
        return replace(read_library(here, model, progress=progress), left_out=listing.left_out)
    try:
        with closing(sqlite3.connect(file, timeout=60)) as database:
            read = _update(database, here, model, progress)
            rows = database.execute("SELECT path, vector, problem FROM photos ORDER BY path").fetchall()
    except sqlite3.Error as error:
        raise OutputError(
            f"{file}: the index cannot be used ({cause(error)}): delete the file, or free some disk space"
        ) from error
    good = [(Path(path), np.frombuffer(vector, np.float16)) for path, vector, problem in rows if problem is None]
    return Library(
        paths=tuple(path for path, _ in good),
        vectors=np.stack([vector for _, vector in good]).astype(np.float32) if good else np.zeros((0, 1), np.float32),
        problems={Path(path): problem for path, _, problem in rows if problem is not None},
        read=read,
        left_out=listing.left_out,
    )


def read_library(paths: Collection[Path], model: RefSRModel, *, progress: Progress = silent) -> Library:
    """Index of the given photos, in memory only; for the other arguments see `open_library`."""
    found = {}
    for done, path in enumerate(paths, 1):
        found[path] = _read(path, model)
        progress(done, len(paths))
    good = {path: vector for path, (vector, _) in found.items() if vector is not None}
    return Library(
        paths=tuple(good),
        vectors=np.stack(list(good.values())) if good else np.zeros((0, 1), np.float32),
        problems={path: problem for path, (_, problem) in found.items() if problem is not None},
        read=len(found),
    )


def nearest(library: Library, vector: Vector, count: int) -> list[Path]:
    """Photos with the most similar vectors, best first; the folder's mean is subtracted from all vectors.

    Args:
        library: From `open_library`.
        vector: Vector of the blurry photo.
        count: Maximum number of photos.
    """
    mean = library.vectors.mean(0) if len(library.paths) > 1 else np.zeros_like(vector)
    beyond = library.vectors - mean
    similarity = beyond @ (vector - mean) / np.maximum(np.linalg.norm(beyond, axis=1), 1e-12)
    return [library.paths[index] for index in np.argsort(-similarity, kind="stable")[:count]]


def _update(
    database: sqlite3.Connection, here: dict[Path, tuple[int, int]], model: RefSRModel, progress: Progress
) -> int:
    """Remove photos that are gone, read new and changed ones, and return the number of the latter."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS photos"
        " (path TEXT PRIMARY KEY, changed_ns INTEGER, bytes INTEGER, vector BLOB, problem TEXT)"
    )
    database.execute("CREATE TABLE IF NOT EXISTS made_by (weights TEXT)")
    weights = model.digest()
    if database.execute("SELECT weights FROM made_by").fetchall() != [(weights,)]:
        database.execute("DELETE FROM photos")
        database.execute("DELETE FROM made_by")
        database.execute("INSERT INTO made_by VALUES (?)", (weights,))
    known = {Path(row[0]): row[1:] for row in database.execute("SELECT path, changed_ns, bytes FROM photos")}
    database.executemany("DELETE FROM photos WHERE path = ?", [(str(path),) for path in known.keys() - here.keys()])
    database.commit()
    new = [path for path, state in here.items() if known.get(path) != state]
    for done, path in enumerate(new, 1):
        vector, problem = _read(path, model)
        blob = None if vector is None else vector.astype(np.float16).tobytes()
        database.execute(
            "INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?)", (str(path), *here[path], blob, problem)
        )
        if done % _COMMIT_PHOTOS == 0:
            database.commit()
        progress(done, len(new))
    database.commit()
    return len(new)


def _read(path: Path, model: RefSRModel) -> tuple[Vector | None, str | None]:
    """A photo's vector, or the error."""
    try:
        small = read_preview(path, round(2 * MAXIMUM_CELLS**0.5 * model.cell_px)).image
        return describe_sharp(model, as_photo(small, str(path)).pixels), None
    except (RefSRError, OSError) as error:
        return None, cause(error)


def describe_blurry(model: RefSRModel, lr: Float[Tensor, "1 3 h w"]) -> Vector:
    """Vector of a photo to be enlarged, from the model's descriptors."""
    with torch.inference_mode():
        return _pooled(model.encode_query(_at_most(lr, MAXIMUM_CELLS).to(model.device)))


def describe_sharp(model: RefSRModel, photo: Float[Tensor, "1 3 h w"]) -> Vector:
    """Vector of a sharp photo of any size, from the model's descriptors."""
    small = pad_to_multiple(_at_most(photo, MAXIMUM_CELLS * model.cell_px**2), model.cell_px)
    with torch.inference_mode():
        return _pooled(model.encode_reference(small.to(model.device)).key)


def _at_most(image: Float[Tensor, "1 3 h w"], pixels: int) -> Float[Tensor, "1 3 h2 w2"]:
    """The image, reduced where it has more pixels."""
    height, width = image.shape[-2:]
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return image
    return resize(image, (max(_SMALLEST_PX, round(height * factor)), max(_SMALLEST_PX, round(width * factor))))


def _pooled(descriptors: Float[Tensor, "1 c h w"]) -> Vector:
    flat = descriptors[0].flatten(1)
    products = flat @ flat.T / flat.shape[1]
    rows, columns = torch.triu_indices(*products.shape)
    upper = products[rows, columns]
    rooted = upper.sign() * upper.abs().sqrt()
    vector: Vector = (rooted / rooted.norm().clamp_min(1e-12)).cpu().numpy()
    return vector
