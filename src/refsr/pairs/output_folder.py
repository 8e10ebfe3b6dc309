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
        crop_px: Side of the training crops in pixels; those of CUFED are 160, of DIV2K 320.
        train_from: Crops round the matches of two photos, or two of a single photo without overlap, or both.
        test_share: Share of the photos for testing, 0 to 1; photos of one folder, or with matches, stay together.
        licence: Said in the manifests of photos whose EXIF says none.
    """

    crop_px: Literal[160, 320] = 160
    train_from: Literal["matches", "single", "both"] = "matches"
    test_share: float = 0.2
    licence: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 1:
            raise UsageError(f"--test-share {self.test_share}: give a share between 0 and 1")


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


def digest(text: str) -> str:
    """24 hexadecimal digits of SHA-256, for any path."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _check_same(out: Path, before: RunSettings, settings: RunSettings) -> None:
    if asdict(before) != asdict(settings):  # a config may be of a class that has flags beside its settings
        raise OutputError(f"{out}: was built of other photos or with other settings: choose another folder")
