"""The output folder of a run that can be killed and called again: its settings, its summary, its working folder.

OUT/built.json   settings and summary of a finished run
OUT/.work        state of an unfinished one
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from refsr.errors import OutputError, UsageError
from refsr.io.files import claim, clear_unfinished, make_folder
from refsr.io.records import parse_record, read_record, write_record
from refsr.wording import cause

WORK: Final = ".work"
"""Name of the working folder of an unfinished run."""

_Summary = TypeVar("_Summary")
_REMEDY: Final = "choose another folder, or delete this one"


def check_test_share(share: float) -> None:
    """Refuse a share of the photos for testing that is not in 0..1.

    Raises:
        UsageError: It is not.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"--test-share {share}: give a share between 0 and 1")


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
        check_test_share(self.test_share)


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

    config: dict[str, Any]
    photos: int
    listing: str


@dataclass(frozen=True, kw_only=True)
class _Finished:
    settings: RunSettings
    built: dict[str, Any]


def describe_run(album: Path, paths: Sequence[str], config: dict[str, Any]) -> RunSettings:
    """Settings of a run; `paths` are relative to the album."""
    stats = [(path, (album / path).stat()) for path in paths]
    listing = digest("\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats))
    return RunSettings(config=config, photos=len(paths), listing=listing)


def run_in(
    out: Path,
    kind: str,
    settings: RunSettings,
    summary: type[_Summary],
    run: Callable[[], _Summary],
    keep: Callable[[_Summary], bool],
) -> _Summary:
    """Do a run in its folder, go on with it, or read what a finished one found.

    Args:
        out: The folder, made if missing.
        kind: Kind of the record of a finished run.
        settings: What an earlier run must share.
        summary: Dataclass of what a run finds.
        run: Does the run; its state is in OUT/.work, where a killed one goes on.
        keep: Whether a run has found anything; if not, the folder is emptied.

    Raises:
        OutputError: The folder holds something else, or a run with other settings, is in use by another process, or
            cannot be written.
        UsageError: The summary of an earlier run is damaged.
    """
    finished = out / "built.json"
    if finished.exists():
        earlier = read_record(finished, {kind: _Finished}, remedy=_REMEDY)
        _check_same(out, earlier.settings, settings)
        shutil.rmtree(out / WORK, ignore_errors=True)
        try:
            return parse_record(earlier.built, summary)
        except ValueError as error:
            raise UsageError(
                f"{finished}: damaged, or not a file of kind {kind} ({cause(error)}): {_REMEDY}"
            ) from error
    with claim(_make_work_folder(out) / "lock"):
        clear_unfinished(out)
        _begin_or_resume(out, kind, settings)
        built = run()
        if keep(built):
            found = asdict(built)  # type: ignore[call-overload]
            write_record(finished, kind, {"settings": asdict(settings), "built": found})
    if keep(built):
        shutil.rmtree(out / WORK, ignore_errors=True)
    else:
        _empty(out)
    return built


def _make_work_folder(out: Path) -> Path:
    """Make the working folder of an unfinished run, or find it; `out` may hold no other files."""
    work = out / WORK
    if out.exists() and not work.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: is not empty, and not of this command: choose another folder")
    make_folder(work)
    return work


def _begin_or_resume(out: Path, kind: str, settings: RunSettings) -> None:
    """Write the settings of a new run, or check those of the run to be resumed."""
    path = out / WORK / "settings.json"
    if path.exists():
        _check_same(out, read_record(path, {f"{kind}-settings": RunSettings}, remedy=_REMEDY), settings)
    else:
        write_record(path, f"{kind}-settings", asdict(settings))


def _empty(out: Path) -> None:
    """Delete what a run without a result has written; a link to the folder stays."""
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not out.is_symlink():
        out.rmdir()


def digest(text: str) -> str:
    """24 hexadecimal digits of SHA-256, for any path."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _check_same(out: Path, before: RunSettings, settings: RunSettings) -> None:
    if asdict(before) != asdict(settings):  # a config may be of a class that has flags beside its settings
        raise OutputError(f"{out}: was built of other photos or with other settings: choose another folder")
