"""The folder that is built: what was asked for, what came of it, and who is at work in it."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from refsr.errors import OutputError, UsageError
from refsr.io.files import make_folder, write_atomically


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """How pairs are made.

    Attributes:
        crop_px: Side of the training crops; CUFED's are 160, those of DIV2K 320.
        work_px: Long side of the working copies in which features are found and crops are cut.
        test_px: Long side of the test pictures.
        test_share: Share of the photos for testing, 0 to 1; whole folders and all that shares a match stay together.
        train_from: Crops round verified matches of two photos, or of single photos without overlap, or both.
        neighbours: Photos that each photo is compared with in detail.
        crops_a_pair: Training crops of one pair of photos, or of a single photo.
        pairs_a_photo: Pairs for training that one photo may be a part of.
        licence: Said of every photo whose EXIF says none.
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
        if min(self.work_px, self.test_px) < 2 * self.crop_px:
            raise UsageError(f"pictures of {min(self.work_px, self.test_px)} pixels are too small for {self.crop_px}")


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of it.

    Attributes:
        photos: Photos that could be read.
        unreadable: The others, with their reasons.
        duplicates: Near-duplicates left out, each with the photo that stays.
        compared: Pairs of photos compared in detail.
        levels: Verified pairs by level.
        groups: Test groups.
        crops: Training pairs.
        seconds: Time of each stage in this run; what an earlier run did is not in it.
    """

    photos: int
    unreadable: dict[str, str]
    duplicates: dict[str, str]
    compared: int
    levels: dict[int, int]
    groups: int
    crops: int
    seconds: dict[str, float] = field(default_factory=dict)


def describe_run(album: Path, paths: Sequence[str], config: PairsConfig) -> dict[str, Any]:
    """What a run that goes on must share with the one that began."""
    stats = [(path, (album / path).stat()) for path in paths]
    listing = digest("\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats))
    return {"config": asdict(config), "photos": len(paths), "listing": listing}


def find_built(out: Path, settings: dict[str, Any]) -> Built | None:
    """What an earlier run built, if nothing is left to do."""
    if not (out / "built.json").exists():
        return None
    before = json.loads((out / "built.json").read_text())
    _check_same(out, before["settings"], settings)
    shutil.rmtree(out / ".work", ignore_errors=True)
    levels = {int(level): count for level, count in before["built"]["levels"].items()}
    return Built(**{**before["built"], "levels": levels})


def make_work(out: Path) -> Path:
    """Make the folder of a run that is not finished, or find it."""
    work = out / ".work"
    if out.exists() and not work.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: is not empty, and not of this command: choose another folder")
    make_folder(work)
    return work


def take_up(out: Path, settings: dict[str, Any]) -> None:
    """Note what is being built, or see that it is the same as before."""
    kept = out / ".work" / "settings.json"
    if kept.exists():
        _check_same(out, json.loads(kept.read_text()), settings)
    else:
        write_atomically(kept, json.dumps(settings).encode())


def write_built(out: Path, settings: dict[str, Any], built: Built) -> None:
    """The last file of a run."""
    content = {"settings": settings, "built": asdict(built)}
    write_atomically(out / "built.json", (json.dumps(content, indent=1) + "\n").encode())


def digest(text: str) -> str:
    """A short name for a long one."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _check_same(out: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    if before != settings:
        raise OutputError(f"{out}: was built of other photos or with other settings: choose another folder")
