"""Building a test set and a training set from a folder of photos.

OUT/test/NNN_0.png, NNN_1..5.png, manifest.jsonl    groups of truth and references, for `refsr bench OUT/test`
OUT/train/input/NNNNNN.png, ref/NNNNNN.png, manifest.jsonl
OUT/index.html                                      contact sheet, to check the pairs by eye
OUT/built.json                                      settings and counts
OUT/.work                                           state of an unfinished run, for resuming
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from refsr.data.features import load_features, pool_of
from refsr.errors import UsageError
from refsr.extras import import_extra
from refsr.io.progress import Progress, silent
from refsr.io.records import write_lines
from refsr.io.workers import Workers
from refsr.pairs.album import WORK_PX, Album, list_photos
from refsr.pairs.output_folder import WORK, BuildConfig, BuildSummary, describe_run, run_in
from refsr.pairs.selection import CROPS_A_PAIR, AlbumPhoto, CropPair, Group, Square, make_plan
from refsr.pairs.sets import contact_sheet, crop_records, group_records, write_crops, write_whole

_TEST_PX: Final = 640  # long side of the test pictures


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
    paths = list_photos(album, out, tell)

    def build() -> BuildSummary:
        with pool_of(processes) as pool:
            return _Run(album, out, config, pool, progress).build(paths)

    built = run_in(
        out, "pairs", describe_run(album, paths, asdict(config)), BuildSummary, build,
        keep=lambda built: bool(built.groups or built.crops),
    )  # fmt: skip
    if not built.groups and not built.crops:
        reasons = [f" ({len(built.unreadable)} could not be read, such as {name}: {reason})" for name, reason in
                   list(built.unreadable.items())[:1]]  # fmt: skip
        raise UsageError(
            f"{album}: no two of its {built.photos} photos show the same thing{''.join(reasons)}, nothing was written:"
            " give an album of several photos of each place, or make pairs of single photos with --train-from single"
        )
    return built


class _Run:
    """State of one run."""

    def __init__(self, album: Path, out: Path, config: BuildConfig, pool: Workers, progress: Progress) -> None:
        self.folder, self.out, self.config = album, out, config
        self.album = Album(album, out / WORK, pool, progress)

    def build(self, paths: Sequence[str]) -> BuildSummary:
        """Run all stages."""
        features, unreadable = self.album.detect_all(paths)
        names = list(features)
        photos = [_album_photo(path, file, self.config.licence) for path, file in features.items()]
        overlaps, compared = self.album.compare_all(list(features.values()), names, self.config.crop_px, CROPS_A_PAIR)
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
            seconds={stage: round(seconds, 2) for stage, seconds in self.album.seconds.items()},
        )

    def write_groups(self, groups: Sequence[Group], photos: Sequence[AlbumPhoto]) -> None:
        """Write truth, references and manifest of each group."""
        folder = self.out / "test"
        folder.mkdir(exist_ok=True)
        records, files = group_records(groups, photos)
        outputs = [(folder / name, self.folder / photos[index].path) for name, index in files.items()]
        items = [(output, photo) for output, photo in outputs if not output.exists()]
        list(self.album.do("test set", partial(write_whole, _TEST_PX), items))
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
        items = [(self.folder / photos[index].path, squares) for index, squares in sorted(by_photo.items())]
        list(self.album.do("training set", partial(write_crops, WORK_PX, self.config.crop_px), items))
        write_lines(folder / "manifest.jsonl", records)


def _album_photo(path: str, file: Path, licence: str) -> AlbumPhoto:
    features = load_features(file)
    height, width = features.full_px
    known = features.licence or licence or None
    return AlbumPhoto(path=path, size_px=features.size_px, pixels=height * width, licence=known)
