"""Building a test set and a training set from a folder of photos.

OUT/test/NNN_0.png, NNN_1..5.png, manifest.jsonl    groups of truth and references, for `refsr bench OUT/test`
OUT/train/input/NNNNNN.png, ref/NNNNNN.png, manifest.jsonl
OUT/index.html                                      contact sheet, to check the pairs by eye
OUT/built.json                                      settings and counts
OUT/.work                                           state of an unfinished run, for resuming
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from refsr.data.features import detect, load_features, pool_of
from refsr.errors import OutputError, RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.decode import READABLE_SUFFIXES
from refsr.io.files import claim, clear_unfinished
from refsr.io.listing import list_folder
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, parse_record, write_lines, write_record
from refsr.io.workers import Workers
from refsr.pairs import output_folder
from refsr.pairs.output_folder import BuildConfig, BuildSummary
from refsr.pairs.selection import CROPS_A_PAIR, AlbumPhoto, CropPair, Group, Square, make_plan
from refsr.pairs.sets import contact_sheet, crop_records, group_records, write_crops, write_whole
from refsr.pairs.shortlist import learn_words, nearest_pairs, vlad
from refsr.pairs.verify import Overlap, verify
from refsr.wording import cause, counted

_WORD_PHOTOS: Final = 200  # photos that the visual words are learnt from, about
_WORK_PX: Final = 1024  # long side of the working copies in which features are detected and crops are cut
_TEST_PX: Final = 640  # long side of the test pictures
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


def build_pairs(
    album: Path,
    out: Path,
    config: BuildConfig,
    *,
    processes: int = 1,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _line: None,
) -> BuildSummary:
    """Build both sets; after a crash, the same call resumes the run.

    Args:
        album: Folder of photos, searched recursively; photos of one folder in it stay in one set.
        out: Folder of the sets, made if missing; empty, or of a run with the same arguments.
        config: Settings.
        processes: Number of processes.
        progress: Called for each stage.
        tell: Told a line about each kind of pictures of the album that is left out.

    Raises:
        UsageError: There are no photos, or no two of them overlap.
        OutputError: `out` holds something else, is in use by another process, or cannot be written.
        MissingExtraError: OpenCV is not installed.
    """
    import_extra("cv2", "finding pairs")
    paths = _list_photos(album, out, tell)
    settings = output_folder.describe_run(album, paths, config)
    built = output_folder.read_built(out, settings)
    if built is not None:
        return built
    with claim(output_folder.make_work_folder(out) / "lock"), pool_of(processes) as pool:
        clear_unfinished(out)
        output_folder.begin_or_resume(out, settings)
        built = _Run(album, out, config, pool, progress).build(paths)
        if built.groups or built.crops:
            write_record(out / "built.json", "pairs", {"settings": asdict(settings), "built": asdict(built)})
    if not built.groups and not built.crops:
        _empty(out)
        reasons = [f" ({len(built.unreadable)} could not be read, such as {name}: {reason})" for name, reason in
                   list(built.unreadable.items())[:1]]  # fmt: skip
        raise UsageError(
            f"{album}: no two of its {built.photos} photos show the same thing{''.join(reasons)}, nothing was written:"
            " give an album of several photos of each place, or make pairs of single photos with --train-from single"
        )
    shutil.rmtree(out / ".work", ignore_errors=True)
    return built


def _empty(out: Path) -> None:
    """Delete what a run without a result has written; a link to the folder stays."""
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not out.is_symlink():
        out.rmdir()


class _Run:
    """State of one run."""

    def __init__(self, album: Path, out: Path, config: BuildConfig, pool: Workers, progress: Progress) -> None:
        self.album, self.out, self.config, self.pool, self.progress = album, out, config, pool, progress
        self.work = out / ".work"
        self.seconds: dict[str, float] = {}

    def build(self, paths: Sequence[str]) -> BuildSummary:
        """Run all stages."""
        features, unreadable = self.detect_all(paths)
        names = list(features)
        photos = [_album_photo(path, file, self.config.licence) for path, file in features.items()]
        overlaps, compared = self.compare_all(list(features.values()), names)
        plan = make_plan(photos, overlaps, self.config)
        self.write_groups(plan.groups, photos)
        self.write_crops(plan.crops, photos)
        contact_sheet(self.out, photos, plan)
        return BuildSummary(
            photos=len(photos),
            unreadable=unreadable,
            duplicates={names[index]: names[kept] for index, kept in plan.duplicates.items()},
            compared=compared,
            levels={level: sum(overlap.level == level for overlap in overlaps) for level in range(1, 6)},
            groups=len(plan.groups),
            crops=len(plan.crops),
            seconds={stage: round(seconds, 2) for stage, seconds in self.seconds.items()},
        )

    def detect_all(self, paths: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
        """Feature files of the readable photos, and reasons for the others, by path."""
        folder = self.work / "features"
        folder.mkdir(exist_ok=True)
        files = {path: folder / f"{output_folder.digest(path)}.npz" for path in paths}
        missing = [(path, file) for path, file in files.items() if not file.exists()]
        results = self._do("features", partial(_detect_to_file, self.album, _WORK_PX), missing)
        unreadable = {path: reason for path, reason in results if reason is not None}
        return {path: files[path] for path in paths if path not in unreadable}, dict(sorted(unreadable.items()))

    def compare_all(self, files: Sequence[Path], names: Sequence[str]) -> tuple[list[Overlap], int]:
        """The overlaps among the shortlisted pairs, and the count of these pairs."""
        with self._stage("shortlist"):
            pairs = self._shortlist(files)
        journal = Journal(self.work / "overlaps", {})
        try:
            entries = [parse_record(entry, _Compared) for entry in journal.done]
        except ValueError as error:
            raise OutputError(f"{journal.path}: damaged ({cause(error)}): delete it") from error
        done = {(entry.first, entry.second): entry for entry in entries}
        missing = [(a, b) for a, b in pairs if (names[a], names[b]) not in done]
        task = partial(_verify_files, self.config.crop_px, CROPS_A_PAIR)
        for (a, b), overlap in self._do("matches", task, [(pair, files[pair[0]], files[pair[1]]) for pair in missing]):
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

    def write_groups(self, groups: Sequence[Group], photos: Sequence[AlbumPhoto]) -> None:
        """Write truth, references and manifest of each group."""
        folder = self.out / "test"
        folder.mkdir(exist_ok=True)
        records, files = group_records(groups, photos)
        outputs = [(folder / name, self.album / photos[index].path) for name, index in files.items()]
        items = [(output, photo) for output, photo in outputs if not output.exists()]
        list(self._do("test set", partial(write_whole, _TEST_PX), items))
        write_lines(folder / "manifest.jsonl", records)

    def write_crops(self, crops: Sequence[CropPair], photos: Sequence[AlbumPhoto]) -> None:
        """Write input, reference and manifest of each training pair."""
        folder = self.out / "train"
        for kind in ("input", "ref"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        records, files = crop_records(crops, photos)
        by_photo: dict[int, list[tuple[Path, Square]]] = {}
        for name, square in files.items():
            if not (folder / name).exists():
                by_photo.setdefault(square.photo, []).append((folder / name, square))
        items = [(self.album / photos[index].path, squares) for index, squares in sorted(by_photo.items())]
        list(self._do("training set", partial(write_crops, _WORK_PX, self.config.crop_px), items))
        write_lines(folder / "manifest.jsonl", records)

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

    def _do(self, stage: str, task: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Results of a stage's task, in any order, with its time and progress."""
        with self._stage(stage):
            for count, result in enumerate(self.pool.map_unordered(task, items), 1):
                yield result
                self.progress(count, len(items), stage=stage)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun


def _list_photos(album: Path, out: Path, tell: Callable[[str], None]) -> list[str]:
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


def _album_photo(path: str, file: Path, licence: str) -> AlbumPhoto:
    features = load_features(file)
    height, width = features.full_px
    known = features.licence or licence or None
    return AlbumPhoto(path=path, size_px=features.size_px, pixels=height * width, licence=known)


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
