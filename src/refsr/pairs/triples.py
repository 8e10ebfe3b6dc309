"""Triples out of a folder of captures: a blurry or distant photo, a sharp one of the same view, and another reference.

photos ── features, blur ── who overlaps ── registered: blurry with sharp ── references: others, sharp ──> groups

OUT/test/NNN_0.png, NNN_1..5.png, lr/NNN_0.png, manifest.jsonl   groups, for `refsr bench OUT/test/manifest.jsonl`
OUT/train/input, lr, ref/NNN_MM.png, manifest.jsonl              crops, for `refsr train --data OUT/train`
OUT/manifest.jsonl                                               every photo: its roles, or why it has none
OUT/index.html                                                   contact sheet
OUT/built.json, .work                                            settings and counts; state of an unfinished run
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from refsr.data.features import load_features, pool_of
from refsr.errors import OutputError, UsageError
from refsr.extras import import_extra
from refsr.io.files import make_folder
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, parse_record, write_lines
from refsr.io.workers import Workers
from refsr.pairs.album import Album, list_photos
from refsr.pairs.captures import Compared, Triple, choose_triples, compare, measured, roles_of
from refsr.pairs.output_folder import WORK, check_test_share, describe_run, run_in
from refsr.pairs.selection import AlbumPhoto, split
from refsr.pairs.sets import Record
from refsr.pairs.triple_files import CROP_PX, triples_sheet, write_triple
from refsr.pairs.verify import Overlap
from refsr.wording import cause, counted

_NO_CROP: Final = "the references match the truth in no place well enough for a training crop"
_ALONE: Final = "shows nothing that another photo shows, too few features match"


@dataclass(frozen=True, kw_only=True)
class TriplesConfig:
    """Settings of `refsr triples`.

    Attributes:
        test_share: Share of the photos for testing, 0 to 1; photos of one subfolder, or with matches, stay together.
    """

    test_share: float = 0.2

    def __post_init__(self) -> None:
        check_test_share(self.test_share)


@dataclass(frozen=True, kw_only=True)
class TriplesSummary:
    """What was found.

    Attributes:
        photos: Count of readable photos.
        groups: Count of test groups; `crops` is that of training crops.
        left_out: Reasons by path of the photos that are in no group.
        seconds: Time of each stage in this run.
    """

    photos: int
    groups: int
    crops: int
    left_out: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)


def build_triples(
    folder: Path,
    out: Path,
    config: TriplesConfig,
    *,
    processes: int = 1,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _line: None,
) -> TriplesSummary:
    """Find, register and write triples; after a crash, the same call goes on with the run.

    Args:
        folder: Folder of photos, searched recursively.
        out: Folder of the groups, made if missing; empty, or of a run with the same arguments.
        config: Settings.
        processes: Number of processes.
        progress: Called for each stage.
        tell: Told a line about each kind of pictures of the folder that is left out.

    Raises:
        UsageError: There are no photos, or no triple among them.
        OutputError: `out` holds something else, is in use by another process, or cannot be written.
        MissingExtraError: OpenCV is not installed.
    """
    import_extra("cv2", "finding triples")
    paths = list_photos(folder, out, tell)

    def build() -> TriplesSummary:
        with pool_of(processes) as pool:
            return _Run(folder, out, config, pool, progress).build(paths)

    settings = describe_run(folder, paths, asdict(config))
    built = run_in(
        out, "triples", settings, TriplesSummary, build, keep=lambda built: bool(built.groups or built.crops)
    )
    if not built.groups and not built.crops:
        # The reason that says most: why two photos do not register.
        name, reason = max(built.left_out.items(), key=lambda item: item[1].startswith("with "))
        raise UsageError(
            f"{folder}: no triple among its {counted(built.photos, 'photo')} (such as {name}: {reason}), nothing was"
            " written: give three photos of a place, a blurry or distant one, a sharp one from the same place, and"
            " another sharp one"
        )
    return built


class _Run:
    """State of one run."""

    def __init__(self, folder: Path, out: Path, config: TriplesConfig, pool: Workers, progress: Progress) -> None:
        self.folder, self.out, self.config = folder, out, config
        self.work = out / WORK
        self.album = Album(folder, self.work, pool, progress)

    def build(self, paths: Sequence[str]) -> TriplesSummary:
        """Run all stages."""
        features, unreadable = self.album.detect_all(paths)
        names = list(features)
        overlaps, _ = self.album.compare_all(list(features.values()), names, CROP_PX, 0)
        blurs_px, damaged = self.measure_all(
            [names[index] for index in sorted({index for o in overlaps for index in (o.first, o.second)})]
        )
        whole = [o for o in overlaps if damaged.keys().isdisjoint((names[o.first], names[o.second]))]
        compared = self.register_all(whole, names, features, blurs_px)
        photos = [_album_photo(path, file) for path, file in features.items()]
        test = {names[index] for index in split(photos, overlaps, self.config.test_share)}
        triples, reasons = choose_triples(compared, test)
        written = self.write(triples)
        for triple in (triple for triple in triples if not written[triple.number]):
            reasons |= dict.fromkeys((triple.pair.sharp, triple.pair.blurry), _NO_CROP)
        triples = [triple for triple in triples if written[triple.number]]
        test_records, train_records = (
            [record for triple in triples if triple.is_test == is_test for record in written[triple.number]]
            for is_test in (True, False)
        )
        write_lines(self.out / "test" / "manifest.jsonl", test_records)
        write_lines(self.out / "train" / "manifest.jsonl", train_records)
        roles = roles_of(triples)
        left_out = unreadable | damaged
        left_out |= {name: reasons.get(name, _ALONE) for name in names if name not in roles and name not in damaged}
        lines = [{"photo": name, "roles": roles.get(name, []), "reason": left_out.get(name)} for name in paths]
        write_lines(self.out / "manifest.jsonl", lines)
        triples_sheet(self.out, triples, written, left_out)
        return TriplesSummary(
            photos=len(names), groups=len(test_records), crops=len(train_records), left_out=left_out,
            seconds={stage: round(seconds, 2) for stage, seconds in self.album.seconds.items()},
        )  # fmt: skip

    def measure_all(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
        """Blur of photos in their own pixels, and reasons for those that cannot be read whole, by path."""
        blurs_px, damaged = {}, {}
        for name, blur_px, reason in self.album.do("blur", partial(measured, self.folder), names):
            if reason:
                damaged[name] = reason
            else:
                blurs_px[name] = blur_px
        return blurs_px, damaged

    def register_all(
        self,
        overlaps: Sequence[Overlap],
        names: Sequence[str],
        files: Mapping[str, Path],
        blurs_px: Mapping[str, float],
    ) -> list[Compared]:
        """Compare all overlapping photos in detail, and register those that are alike but for their sharpness."""
        make_folder(self.work / "registered")
        journal = Journal(self.work / "compared", {})
        done = {frozenset((entry["sharp"], entry["blurry"])) for entry in journal.done}
        items = []
        for overlap in overlaps:
            pair = names[overlap.first], names[overlap.second]
            if frozenset(pair) not in done:
                about = [(name, files[name], blurs_px[name]) for name in pair]
                items.append((overlap, about[0], about[1]))
        for found in self.album.do("registration", partial(compare, self.folder, self.work / "registered"), items):
            if found is not None:
                journal.add(asdict(found))
        try:
            return [parse_record(entry, Compared) for entry in journal.done]
        except ValueError as error:
            raise OutputError(f"{journal.path}: damaged ({cause(error)}): delete it") from error

    def write(self, triples: Sequence[Triple]) -> dict[int, list[Record]]:
        """Write groups and crops; their records, by number of the triple."""
        for kind in ("test/lr", "train/input", "train/lr", "train/ref"):
            make_folder(self.out / kind)
        return dict(self.album.do("writing", partial(write_triple, self.folder, self.out), triples))


def _album_photo(path: str, file: Path) -> AlbumPhoto:
    features = load_features(file)
    return AlbumPhoto(path=path, size_px=features.size_px, pixels=0, licence=features.licence or None)
