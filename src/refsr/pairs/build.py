"""From a folder of photos to a test set and a training set.

OUT/test/NNN_0.png, NNN_1..5.png, manifest.jsonl    groups; `refsr bench OUT/test` measures them
OUT/train/input/NNNNNN.png, ref/NNNNNN.png, manifest.jsonl
OUT/index.html                                      a contact sheet to check by eye
OUT/built.json                                      settings and counts
OUT/.work                                           while it is being built: what a broken run goes on from
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from refsr.errors import OutputError, RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.files import claim, clear_unfinished, write_atomically
from refsr.io.journal import Journal
from refsr.io.listing import list_photos
from refsr.io.photo import READABLE_SUFFIXES
from refsr.io.progress import Progress, silent
from refsr.io.workers import Workers
from refsr.pairs.contact_sheet import contact_sheet
from refsr.pairs.cutting import write_crops, write_whole
from refsr.pairs.features import LocalFeatures, detect, load_features, pool_of
from refsr.pairs.manifest import crop_records, group_records
from refsr.pairs.output_folder import (
    Built,
    PairsConfig,
    describe_run,
    digest,
    find_built,
    make_work,
    take_up,
    write_built,
)
from refsr.pairs.selection import (
    AlbumPhoto,
    CropPair,
    Group,
    Plan,
    Square,
    find_duplicates,
    make_groups,
    matched_crops,
    single_crops,
    split,
)
from refsr.pairs.shortlist import describe, learn_words, nearest_pairs
from refsr.pairs.verify import Overlap, verify

_WORD_PHOTOS: Final = 200
_CACHED_FEATURES: Final = 256


def build_pairs(
    album: Path, out: Path, config: PairsConfig, *, processes: int = 1, progress: Progress = silent
) -> Built:
    """Build both sets. A killed run, called again with the same arguments, goes on where it stopped.

    Args:
        album: Folder of photos, searched through; a folder in it counts as an album of its own.
        out: Folder of the sets, made if missing; empty, or of a run with the same arguments.
        config: How.
        processes: How many work.
        progress: Told of each stage's share.

    Raises:
        UsageError: No photos, or no two that show the same thing.
        OutputError: `out` holds something else, is being built by another process, or cannot be written.
        MissingExtraError: OpenCV is not installed.
    """
    import_extra("cv2", "finding pairs")
    paths = _list_photos(album, out)
    settings = describe_run(album, paths, config)
    built = find_built(out, settings)
    if built is not None:
        return built
    with claim(make_work(out) / "lock"), pool_of(processes) as pool:
        clear_unfinished(out)
        take_up(out, settings)
        built = _Run(album, out, config, pool, progress).build(paths)
        if built.groups or built.crops:
            write_built(out, settings, built)
    if not built.groups and not built.crops:
        shutil.rmtree(out)
        raise UsageError(
            f"{album}: no two of its {built.photos} photos show the same thing, nothing was written: give an album of"
            " several photos of each place, or make pairs of single photos with --train-from single"
        )
    shutil.rmtree(out / ".work", ignore_errors=True)
    return built


class _Run:
    """One run's folders, processes and clock."""

    def __init__(self, album: Path, out: Path, config: PairsConfig, pool: Workers, progress: Progress) -> None:
        self.album, self.out, self.config, self.pool, self.progress = album, out, config, pool, progress
        self.work = out / ".work"
        self.seconds: dict[str, float] = {}

    def build(self, paths: Sequence[str]) -> Built:
        """All stages in turn."""
        features, unreadable = self.detect_all(paths)
        names = [path for path in paths if path in features]
        photos = [_album_photo(path, features[path]) for path in names]
        overlaps, compared = self.compare_all([features[name] for name in names], names)
        plan = _make_plan(photos, overlaps, self.config)
        self.write_groups(plan.groups, photos)
        self.write_crops(plan.crops, photos)
        contact_sheet(self.out, photos, plan)
        levels = {level: sum(overlap.level == level for overlap in overlaps) for level in range(1, 6)}
        return Built(
            photos=len(photos),
            unreadable=unreadable,
            duplicates={names[index]: names[stays] for index, stays in plan.duplicates.items()},
            compared=compared,
            levels=levels,
            groups=len(plan.groups),
            crops=len(plan.crops),
            seconds={stage: round(seconds, 2) for stage, seconds in self.seconds.items()},
        )

    def detect_all(self, paths: Sequence[str]) -> tuple[dict[str, Path], dict[str, str]]:
        """The file of features of each photo that can be read, and why the others cannot."""
        files = {path: self.work / "features" / f"{digest(path)}.npz" for path in paths}
        (self.work / "features").mkdir(exist_ok=True)
        missing = [path for path in paths if not files[path].exists()]
        unreadable: dict[str, str] = {}
        task = partial(_detect_to_file, self.album, self.config.work_px)
        with self._stage("features"):
            for done, (path, reason) in enumerate(self.pool.map_unordered(task, [(p, files[p]) for p in missing]), 1):
                if reason is not None:
                    unreadable[path] = reason
                self.progress(done, len(missing), stage="features")
        return {path: files[path] for path in paths if path not in unreadable}, dict(sorted(unreadable.items()))

    def compare_all(self, files: Sequence[Path], names: Sequence[str]) -> tuple[list[Overlap], int]:
        """The verified overlaps among the pairs worth comparing, and how many were compared."""
        with self._stage("shortlist"):
            pairs = self._shortlist(files)
        journal = Journal(self.work / "overlaps", {})
        number = {name: index for index, name in enumerate(names)}
        done = {(part["first"], part["second"]): _overlap(part, number) for part in journal.done}
        missing = [pair for pair in pairs if (names[pair[0]], names[pair[1]]) not in done]
        task = partial(_verify_files, self.config.crop_px, self.config.crops_a_pair)
        work = [(pair, files[pair[0]], files[pair[1]]) for pair in missing]
        with self._stage("matches"):
            for count, (pair, overlap) in enumerate(self.pool.map_unordered(task, work), 1):
                journal.add(
                    {
                        "first": names[pair[0]],
                        "second": names[pair[1]],
                        "matches": overlap.matches if overlap else 0,
                        "duplicate": bool(overlap and overlap.duplicate),
                        "crops": overlap.crops if overlap else (),
                    }
                )
                done[names[pair[0]], names[pair[1]]] = overlap
                self.progress(count, len(missing), stage="matches")
        found_overlaps = [done[names[a], names[b]] for a, b in pairs]
        return [overlap for overlap in found_overlaps if overlap is not None], len(pairs)

    def write_groups(self, groups: Sequence[Group], photos: Sequence[AlbumPhoto]) -> None:
        """Truth, references and manifest of each group."""
        folder = self.out / "test"
        folder.mkdir(exist_ok=True)
        records, files = group_records(groups, photos, self.config.licence)
        work = [
            (folder / name, self.album / photos[index].path)
            for name, index in files.items() if not (folder / name).exists()
        ]  # fmt: skip
        with self._stage("test set"):
            for done, _ in enumerate(self.pool.map_unordered(partial(write_whole, self.config.test_px), work), 1):
                self.progress(done, len(work), stage="test set")
        _write_manifest(folder / "manifest.jsonl", records)

    def write_crops(self, crops: Sequence[CropPair], photos: Sequence[AlbumPhoto]) -> None:
        """Input, reference and manifest of each training pair."""
        folder = self.out / "train"
        for kind in ("input", "ref"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        records, files = crop_records(crops, photos, self.config.licence)
        by_photo: dict[int, list[tuple[Path, Square]]] = {}
        for name, square in files.items():
            if not (folder / name).exists():
                by_photo.setdefault(square.photo, []).append((folder / name, square))
        work = [(self.album / photos[index].path, squares) for index, squares in sorted(by_photo.items())]
        task = partial(write_crops, self.config.work_px, self.config.crop_px)
        with self._stage("training set"):
            for done, _ in enumerate(self.pool.map_unordered(task, work), 1):
                self.progress(done, len(work), stage="training set")
        _write_manifest(folder / "manifest.jsonl", records)

    def _shortlist(self, files: Sequence[Path]) -> list[tuple[int, int]]:
        if len(files) - 1 <= self.config.neighbours:
            return [(a, b) for a in range(len(files)) for b in range(a + 1, len(files))]
        step = max(1, len(files) // _WORD_PHOTOS)
        words = learn_words([load_features(file).root_descriptors() for file in files[::step]])
        vectors = np.zeros((len(files), words.size), dtype=np.float32)
        for index, file in enumerate(files):
            vectors[index] = describe(load_features(file).root_descriptors(), words)
            self.progress(index + 1, len(files), stage="shortlist")
        return nearest_pairs(vectors, self.config.neighbours)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun


def _make_plan(photos: Sequence[AlbumPhoto], overlaps: Sequence[Overlap], config: PairsConfig) -> Plan:
    duplicates = find_duplicates(photos, overlaps)
    test = split(photos, overlaps, config.test_share)
    kept = [o for o in overlaps if o.first not in duplicates and o.second not in duplicates]
    everything = frozenset(range(len(photos))) - frozenset(duplicates)
    training = everything - test
    crops: list[CropPair] = []
    if config.train_from in ("matches", "both"):
        crops += matched_crops(kept, training, config.crop_px, config.pairs_a_photo)
    if config.train_from in ("single", "both"):
        crops += single_crops(photos, sorted(training), config.crop_px, config.crops_a_pair)
    return Plan(
        duplicates=duplicates, test=test, groups=make_groups(photos, kept, everything & test), crops=tuple(crops)
    )


def _list_photos(album: Path, out: Path) -> list[str]:
    if not album.is_dir():
        raise UsageError(f"{album}: no such folder of photos: check the name")
    found = sorted(path.relative_to(album).as_posix() for path in list_photos(album, without=out))
    if len(found) < 2:
        raise UsageError(
            f"{album}: holds {len(found)} photos ({', '.join(READABLE_SUFFIXES)}): at least two are needed"
        )
    return found


def _album_photo(path: str, features: Path) -> AlbumPhoto:
    known = load_features(features)
    return AlbumPhoto(
        path=path, size_px=known.size_px, pixels=known.full_px[0] * known.full_px[1], licence=known.licence
    )


def _detect_to_file(album: Path, work_px: int, item: tuple[str, Path]) -> tuple[str, str | None]:
    """In a process of its own: features to a file; the reason if the photo cannot be read."""
    path, file = item
    try:
        detect(album / path, work_px).save(file)
    except OutputError:
        raise
    except RefSRError as error:
        return path, str(error)
    return path, None


def _verify_files(
    crop_px: int, most_crops: int, item: tuple[tuple[int, int], Path, Path]
) -> tuple[tuple[int, int], Overlap | None]:
    pair, first, second = item
    return pair, verify(_features(first), _features(second), pair, crop_px, most_crops)


@lru_cache(maxsize=_CACHED_FEATURES)
def _features(file: Path) -> LocalFeatures:
    return load_features(file)


def _overlap(part: dict[str, Any], number: dict[str, int]) -> Overlap | None:
    """From the journal; photos go by number again."""
    if not part["matches"]:
        return None
    crops = tuple(tuple(crop) for crop in part["crops"])
    return Overlap(
        first=number[part["first"]], second=number[part["second"]], matches=part["matches"],
        duplicate=part["duplicate"], crops=crops,
    )  # fmt: skip


def _write_manifest(path: Path, records: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
