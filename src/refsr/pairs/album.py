"""Comparing the photos of an album: local features of each, and which of them show the same thing.

photos ── features (kept in files) ── shortlist of neighbours ── verified overlaps (kept in a journal)

Both are kept in the working folder, so that a killed run goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from refsr.data.features import detect, load_features
from refsr.errors import OutputError, RefSRError, UsageError
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.listing import list_folder
from refsr.io.progress import Progress
from refsr.io.records import Journal, parse_record
from refsr.io.workers import Workers
from refsr.pairs.output_folder import digest
from refsr.pairs.shortlist import learn_words, nearest_pairs, vlad
from refsr.pairs.verify import Overlap, verify
from refsr.wording import cause, counted

WORK_PX: Final = 1024
"""Long side of the working copies in which features are detected."""

_WORD_PHOTOS: Final = 200  # photos that the visual words are learnt from, about
_NEIGHBOURS: Final = 20  # photos that each photo is compared with
_load_cached: Final = lru_cache(maxsize=256)(load_features)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Journal entry of two compared photos, by path; without an overlap, `matches` is 0."""

    first: str
    second: str
    matches: int = 0
    duplicate: bool = False
    crops: tuple[tuple[int, int, int, int], ...] = ()


class Album:
    """The photos of a run, compared with each other."""

    def __init__(self, album: Path, work: Path, pool: Workers, progress: Progress) -> None:
        """Read nothing yet.

        Args:
            album: Folder of the photos.
            work: Working folder of the run.
            pool: Processes.
            progress: Called for each stage.
        """
        self.album, self.work, self.pool, self.progress = album, work, pool, progress
        self.seconds: dict[str, float] = {}

    def detect_all(self, paths: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
        """Feature files of the readable photos, and reasons for the others, by path."""
        folder = self.work / "features"
        folder.mkdir(exist_ok=True)
        files = {path: folder / f"{digest(path)}.npz" for path in paths}
        missing = [(path, file) for path, file in files.items() if not file.exists()]
        results = self.do("features", partial(_detect_to_file, self.album, WORK_PX), missing)
        unreadable = {path: reason for path, reason in results if reason is not None}
        return {path: files[path] for path in paths if path not in unreadable}, dict(sorted(unreadable.items()))

    def compare_all(
        self, files: Sequence[Path], names: Sequence[str], crop_px: int, crops: int
    ) -> tuple[list[Overlap], int]:
        """The overlaps among the shortlisted pairs, and the count of these pairs.

        Args:
            files: Feature files of the photos.
            names: Their paths.
            crop_px: Side of training crops.
            crops: Maximum count of crops a pair.
        """
        with self.stage("shortlist"):
            pairs = self._shortlist(files)
        journal = Journal(self.work / "overlaps", {})
        try:
            entries = [parse_record(entry, _Compared) for entry in journal.done]
        except ValueError as error:
            raise OutputError(f"{journal.path}: damaged ({cause(error)}): delete it") from error
        done = {(entry.first, entry.second): entry for entry in entries}
        missing = [(a, b) for a, b in pairs if (names[a], names[b]) not in done]
        task = partial(_verify_files, crop_px, crops)
        for (a, b), overlap in self.do("matches", task, [(pair, files[pair[0]], files[pair[1]]) for pair in missing]):
            found = {} if overlap is None else asdict(overlap)
            entry = _Compared(**found | {"first": names[a], "second": names[b]})
            journal.add(asdict(entry))
            done[entry.first, entry.second] = entry
        entries = [done[names[a], names[b]] for a, b in pairs]
        overlaps = [
            Overlap(first=a, second=b, matches=entry.matches, duplicate=entry.duplicate, crops=entry.crops)
            for (a, b), entry in zip(pairs, entries, strict=True)
            if entry.matches
        ]
        return overlaps, len(pairs)

    def do(self, stage: str, task: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Results of a stage's task, in any order, with its time and progress."""
        with self.stage(stage):
            for count, result in enumerate(self.pool.map_unordered(task, items), 1):
                yield result
                self.progress(count, len(items), stage=stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of a stage."""
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    def _shortlist(self, files: Sequence[Path]) -> list[tuple[int, int]]:
        if len(files) - 1 <= _NEIGHBOURS:
            return [(a, b) for a in range(len(files)) for b in range(a + 1, len(files))]
        step = max(1, len(files) // _WORD_PHOTOS)
        words = learn_words([load_features(file).root_descriptors() for file in files[::step]])
        vectors = np.zeros((len(files), words.size), dtype=np.float32)
        for index, file in enumerate(files):
            vectors[index] = vlad(load_features(file).root_descriptors(), words)
            self.progress(index + 1, len(files), stage="shortlist")
        return nearest_pairs(vectors, _NEIGHBOURS)


def list_photos(album: Path, out: Path, tell: Callable[[str], None]) -> list[str]:
    """Paths of an album's photos, relative to it.

    Args:
        album: Folder of photos, searched recursively.
        out: Folder that does not count.
        tell: Told a line about each kind of pictures that is left out.

    Raises:
        UsageError: There is no such folder, or it holds less than two photos.
    """
    if not album.is_dir():
        raise UsageError(f"{album}: no such folder of photos: check the name")
    listing = list_folder(album, without=out)
    for line in listing.left_out:
        tell(line)
    found = sorted(path.relative_to(album).as_posix() for path in listing.photos)
    if len(found) < 2:
        raise UsageError(
            f"{album}: holds {counted(len(found), 'photo')} ({', '.join(READABLE_SUFFIXES)}): at least two are needed"
        )
    return found


def _detect_to_file(album: Path, work_px: int, item: tuple[str, Path]) -> tuple[str, str | None]:
    """Write the features of a photo; returns its path, and the reason if it cannot be read."""
    path, file = item
    try:
        detect(album / path, work_px).save(file)
    except OutputError:
        raise
    except RefSRError as error:
        return path, str(error).removeprefix(f"{album / path}: ")
    return path, None


def _verify_files(
    crop_px: int, maximum_crops: int, item: tuple[tuple[int, int], Path, Path]
) -> tuple[tuple[int, int], Overlap | None]:
    pair, first, second = item
    return pair, verify(_load_cached(first), _load_cached(second), pair, crop_px, maximum_crops)
