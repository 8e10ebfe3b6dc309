"""The output folder of `refsr pairs`: its settings, its summary, and whether a run may resume in it."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from refsr.errors import OutputError, UsageError
from refsr.io.files import make_folder
from refsr.io.records import read_record, write_record

_REMEDY: Final = "choose another folder, or delete this one"


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of `refsr pairs`.

    Attributes:
        crop_px: Side of the training crops; those of CUFED are 160, of DIV2K 320.
        work_px: Long side of the working copies in which features are detected and crops are cut.
        test_px: Long side of the test pictures.
        test_share: Share of the photos for testing, 0..1; photos of one folder, or with matches, stay together.
        train_from: Crops around verified matches of two photos, disjoint crops of single photos, or both.
        neighbours: Photos that each photo is compared with.
        crops_a_pair: Maximum training crops of two photos, or of a single photo.
        pairs_a_photo: Maximum training pairs of photos that one photo is part of.
        licence: Licence of photos without one in their EXIF.
    """

    crop_px: Literal[160, 320] = 160
    work_px: int = 1024
    test_px: int = 640
    test_share: float = 0.2
    train_from: Literal["matches", "single", "both"] = "matches"
    neighbours: int = 20
    crops_a_pair: int = 4
    pairs_a_photo: int = 5
    licence: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 1:
            raise UsageError(f"--test-share {self.test_share}: give a share between 0 and 1")
        smallest = min(self.work_px, self.test_px)
        if smallest < 2 * self.crop_px:
            raise UsageError(f"pictures of {smallest} pixels are too small for crops of {self.crop_px}: enlarge them")


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """Counts and times of a finished run.

    Attributes:
        photos: Count of readable photos.
        unreadable: Reasons by path of the other photos.
        duplicates: Path of the photo kept, by path of the near-duplicate left out.
        compared: Count of pairs of photos compared; `levels` counts the verified ones by level.
        groups: Count of test groups; `crops` is that of training pairs.
        seconds: Time of each stage in this run, without that of earlier runs that it resumed.
    """

    photos: int
    unreadable: dict[str, str]
    duplicates: dict[str, str]
    compared: int
    levels: dict[int, int]
    groups: int
    crops: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that a resumed run must share: config, count of photos, digest of their paths, sizes and times."""

    config: BuildConfig
    photos: int
    listing: str


@dataclass(frozen=True, kw_only=True)
class _FinishedRun:
    settings: RunSettings
    built: BuildSummary


def describe_run(album: Path, paths: Sequence[str], config: BuildConfig) -> RunSettings:
    """Settings of a run; `paths` are relative to the album."""
    stats = [(path, (album / path).stat()) for path in paths]
    listing = digest("\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats))
    return RunSettings(config=config, photos=len(paths), listing=listing)


def read_built(out: Path, settings: RunSettings) -> BuildSummary | None:
    """The summary of an earlier run that has finished, or None.

    Raises:
        OutputError: That run had other settings.
        UsageError: Its summary is damaged.
    """
    path = out / "built.json"
    if not path.exists():
        return None
    finished = read_record(path, {"pairs": _FinishedRun}, remedy=_REMEDY)
    _check_same(out, finished.settings, settings)
    shutil.rmtree(out / ".work", ignore_errors=True)
    return finished.built


def make_work_folder(out: Path) -> Path:
    """Make the working folder of an unfinished run, or find it; `out` may hold no other files."""
    work = out / ".work"
    if out.exists() and not work.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: is not empty, and not of this command: choose another folder")
    make_folder(work)
    return work


def begin_or_resume(out: Path, settings: RunSettings) -> None:
    """Write the settings of a new run, or check those of the run to be resumed; raises as `read_built`."""
    path = out / ".work" / "settings.json"
    if path.exists():
        _check_same(out, read_record(path, {"pairs-settings": RunSettings}, remedy=_REMEDY), settings)
    else:
        write_record(path, "pairs-settings", asdict(settings))


def write_built(out: Path, settings: RunSettings, built: BuildSummary) -> None:
    """Write the last file of a run."""
    write_record(out / "built.json", "pairs", asdict(_FinishedRun(settings=settings, built=built)))


def digest(text: str) -> str:
    """24 hexadecimal digits of SHA-256, for any path."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _check_same(out: Path, before: RunSettings, settings: RunSettings) -> None:
    if before != settings:
        raise OutputError(f"{out}: was built of other photos or with other settings: choose another folder")
