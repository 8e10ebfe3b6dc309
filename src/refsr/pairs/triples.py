"""Triples out of a folder of captures: a blurry or distant photo, a sharp one of the same view, and another reference.

photos ── features, blur ── who overlaps ── registered: blurry with sharp ── references: others, sharp ──> groups

OUT/test/NNN_0.png, NNN_1..5.png, lr/NNN_0.png, manifest.jsonl   groups, for `refsr bench OUT/test/manifest.jsonl`
OUT/train/input, lr, ref/NNNNNN.png, manifest.jsonl              crops, for `refsr train --data OUT/train`
OUT/manifest.jsonl                                               every photo: its roles, or why it has none
OUT/index.html                                                   contact sheet
OUT/built.json, .work                                            settings and counts; state of an unfinished run
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image

from refsr.data.features import describe, load_features, pool_of
from refsr.data.register import Pixels, register, relate
from refsr.data.sample import SCALE
from refsr.errors import ImageError, OutputError, UsageError
from refsr.extras import import_extra
from refsr.io.files import make_folder, write_atomically
from refsr.io.photo import as_photo, read_photo
from refsr.io.progress import Progress, silent
from refsr.io.records import Journal, parse_record, write_lines
from refsr.io.workers import Workers
from refsr.pairs.album import Album, list_photos
from refsr.pairs.output_folder import WORK, describe_run, digest, run_in
from refsr.pairs.selection import AlbumPhoto, split
from refsr.pairs.sets import HEAD, Record, figure, section, write_png
from refsr.pairs.verify import Overlap, verify
from refsr.restore.condition import measure_condition
from refsr.wording import cause, counted

_MINIMUM_GAIN: Final = 1.7
"""How many times as much detail the sharp photo must show."""

_MAXIMUM_LOSS: Final = 1.7
"""How many times as much detail as a reference the sharp photo may show."""

_SHARPEST_PX: Final = 0.5
"""A measured blur below this is that of any sharp photo."""

_MAXIMUM_REFERENCES: Final = 5
_CROP_PX: Final = 160
_CROPS: Final = 8  # a reference

_ALONE: Final = "shows nothing that another photo shows, too few features match"
_NOT_NEEDED: Final = "is as sharp as other photos of its place, and not needed"

Role = Literal["blurry", "sharp", "reference"]


@dataclass(frozen=True, kw_only=True)
class TriplesConfig:
    """Settings of `refsr triples`.

    Attributes:
        test_share: Share of the photos for testing, 0 to 1; photos of one folder, or with matches, stay together.
    """

    test_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 1:
            raise UsageError(f"--test-share {self.test_share}: give a share between 0 and 1")


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


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Journal entry of two overlapping photos, by path.

    Attributes:
        sharp: The one with more detail.
        blurry: The other one.
        detail: How many times as much detail the sharp one shows of the scene.
        scale: Pixels of the sharp one for one of the other.
        is_duplicate: Whether they are near-duplicates.
        matches: Count of verified matches.
        reason: Why they are not registered; empty if they are.
        pitch_px: See `refsr.data.register`, as for the figures that follow.
    """

    sharp: str
    blurry: str
    detail: float
    scale: float
    is_duplicate: bool
    matches: int
    reason: str = ""
    pitch_px: float = 1.0
    residual_px: float = 0.0
    agreed: float = 0.0
    colour_levels: float = 0.0

    @property
    def name(self) -> str:
        """Name of its files."""
        return digest(f"{self.sharp}\n{self.blurry}")


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """A reference by path; how much larger than the truth it is, and its matches with the sharp photo."""

    path: str
    zoom: float
    matches: int


@dataclass(frozen=True, kw_only=True)
class _Triple:
    """A registered pair, numbered, with its references, most matches first."""

    number: int
    pair: _Compared
    references: tuple[_Reference, ...]
    is_test: bool


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
        name, reason = next(iter(built.left_out.items()))
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
        overlaps, _ = self.album.compare_all(list(features.values()), names, _CROP_PX, 0)
        blurs_px, damaged = self.measure_all(
            [names[index] for index in sorted({index for o in overlaps for index in (o.first, o.second)})]
        )
        whole = [o for o in overlaps if damaged.keys().isdisjoint((names[o.first], names[o.second]))]
        compared = self.register_all(whole, names, features, blurs_px)
        photos = [_album_photo(path, file) for path, file in features.items()]
        test = {names[index] for index in split(photos, overlaps, self.config.test_share)}
        triples, reasons = _choose(compared, test)
        written = self.write(triples)
        test_records, train_records = (
            [record for triple in triples if triple.is_test == is_test for record in written[triple.number]]
            for is_test in (True, False)
        )
        write_lines(self.out / "test" / "manifest.jsonl", test_records)
        write_lines(self.out / "train" / "manifest.jsonl", train_records)
        roles = _roles(triples)
        left_out = unreadable | damaged
        left_out |= {name: reasons.get(name, _ALONE) for name in names if name not in roles and name not in damaged}
        lines = [{"photo": name, "roles": roles.get(name, []), "reason": left_out.get(name)} for name in paths]
        write_lines(self.out / "manifest.jsonl", lines)
        _contact_sheet(self.out, triples, written, left_out)
        return TriplesSummary(
            photos=len(names), groups=len(test_records), crops=len(train_records), left_out=left_out,
            seconds={stage: round(seconds, 2) for stage, seconds in self.album.seconds.items()},
        )  # fmt: skip

    def measure_all(self, names: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
        """Blur of photos in their own pixels, and reasons for those that cannot be read whole, by path."""
        blurs_px, damaged = {}, {}
        for name, blur_px, reason in self.album.do("blur", partial(_measured, self.folder), names):
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
    ) -> list[_Compared]:
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
        for found in self.album.do("registration", partial(_compare, self.folder, self.work / "registered"), items):
            if found is not None:
                journal.add(asdict(found))
        try:
            return [parse_record(entry, _Compared) for entry in journal.done]
        except ValueError as error:
            raise OutputError(f"{journal.path}: damaged ({cause(error)}): delete it") from error

    def write(self, triples: Sequence[_Triple]) -> dict[int, list[Record]]:
        """Write groups and crops; their records, by number of the triple."""
        for kind in ("test/lr", "train/input", "train/lr", "train/ref"):
            make_folder(self.out / kind)
        return dict(self.album.do("writing", partial(_write_triple, self.folder, self.out), triples))


def _album_photo(path: str, file: Path) -> AlbumPhoto:
    features = load_features(file)
    return AlbumPhoto(path=path, size_px=features.size_px, pixels=0, licence=features.licence or None)


def _measured(folder: Path, name: str) -> tuple[str, float, str]:
    """Name, blur, and the reason if the photo cannot be read."""
    try:
        pixels = read_photo(folder / name).to_pil().convert("RGB")
    except ImageError as error:
        return name, 0.0, str(error).removeprefix(f"{folder / name}: ")
    return name, max(_SHARPEST_PX, measure_condition(as_photo(pixels).pixels).blur_px), ""


def _pixels(path: Path) -> Pixels:
    return np.asarray(read_photo(path).to_pil().convert("RGB"))


def _compare(
    folder: Path, registered: Path, item: tuple[Overlap, tuple[str, Path, float], tuple[str, Path, float]]
) -> _Compared | None:
    """Tell which of two photos is the sharp one, and register the other with it; None if nothing relates them.

    Args:
        folder: Folder of the photos.
        registered: Folder for LR images and truths.
        item: The overlap; and path, features and blur of each photo.
    """
    overlap, *both = item
    (_, first_file, first_blur_px), (_, second_file, second_blur_px) = both
    relation = relate(load_features(first_file), load_features(second_file))
    if relation is None:
        return None
    detail = relation.scale * first_blur_px / second_blur_px  # of the second photo, in the first one's place
    sharp, blurry = both[1], both[0]
    if detail < 1:
        sharp, blurry, detail = blurry, sharp, 1 / detail
        relation = relate(load_features(blurry[1]), load_features(sharp[1]))
        if relation is None:
            return None
    found = _Compared(
        sharp=sharp[0], blurry=blurry[0], detail=detail, scale=relation.scale, is_duplicate=overlap.duplicate,
        matches=overlap.matches,
    )  # fmt: skip
    if detail < _MINIMUM_GAIN:
        return replace(found, reason=f"is about as sharp ({detail:.1f} times the detail, {_MINIMUM_GAIN:g} are needed)")
    try:
        fit = register(_pixels(folder / sharp[0]), _pixels(folder / blurry[0]), relation, sharp[2])
    except ImageError as error:
        return replace(found, reason=str(error))
    write_png(registered / f"{found.name}_lr.png", Image.fromarray(fit.lr))
    write_png(registered / f"{found.name}.png", Image.fromarray(fit.truth))
    return replace(
        found, pitch_px=fit.pitch_px, residual_px=fit.residual_px, agreed=fit.agreed, colour_levels=fit.colour_levels
    )


def _choose(compared: Sequence[_Compared], test: set[str]) -> tuple[list[_Triple], dict[str, str]]:
    """The triples, and reasons by path for photos that are in none."""
    reasons: dict[str, str] = {}
    triples: list[_Triple] = []
    for pair in sorted(compared, key=lambda pair: -pair.matches):  # the best known reason is that of the best match
        reasons.setdefault(pair.sharp, _NOT_NEEDED)
        if pair.detail >= _MINIMUM_GAIN and reasons.get(pair.blurry) in (None, _NOT_NEEDED):
            reasons[pair.blurry] = f"with {pair.sharp}: {pair.reason}"
        reasons.setdefault(pair.blurry, _NOT_NEEDED)
    taken: set[str] = set()
    for pair in sorted((pair for pair in compared if not pair.reason), key=lambda p: (-p.agreed, p.sharp, p.blurry)):
        if pair.blurry in taken:
            continue
        references = _references(pair, compared)
        if references:
            taken.add(pair.blurry)
            number = len(triples)
            triples.append(_Triple(number=number, pair=pair, references=references, is_test=pair.blurry in test))
        else:
            reasons[pair.blurry] = f"with {pair.sharp}: there is no other sharp photo of the place to be the reference"
            reasons[pair.sharp] = reasons[pair.blurry].replace(pair.sharp, pair.blurry, 1)
    return triples, reasons


def _references(pair: _Compared, compared: Sequence[_Compared]) -> tuple[_Reference, ...]:
    """Photos that overlap with the sharp one of a pair, nearly as sharp as it, but not the same shot again."""
    found = []
    for other in compared:
        if pair.sharp not in (other.sharp, other.blurry) or pair.blurry in (other.sharp, other.blurry):
            continue
        is_sharper = other.sharp != pair.sharp
        if other.is_duplicate or (not is_sharper and other.detail > _MAXIMUM_LOSS):
            continue
        path = other.sharp if is_sharper else other.blurry
        scale = other.scale if is_sharper else 1 / other.scale  # its pixels for one of the sharp photo
        found.append(_Reference(path=path, zoom=scale * pair.pitch_px, matches=other.matches))
    return tuple(sorted(found, key=lambda reference: (-reference.matches, reference.path))[:_MAXIMUM_REFERENCES])


def _roles(triples: Sequence[_Triple]) -> dict[str, list[dict[str, str]]]:
    """Set, group and role of each photo that is in any."""
    roles: dict[str, list[dict[str, str]]] = {}
    for triple in triples:
        named: list[tuple[Role, str]] = [("blurry", triple.pair.blurry), ("sharp", triple.pair.sharp)]
        named += [("reference", reference.path) for reference in triple.references]
        for role, path in named:
            place = {"set": "test" if triple.is_test else "train", "group": f"{triple.number:03}", "role": role}
            roles.setdefault(path, []).append(place)
    return roles


def _write_triple(folder: Path, out: Path, triple: _Triple) -> tuple[int, list[Record]]:
    """Write a group of the test set, or crops of the training set; their records."""
    lr, truth = (out / WORK / "registered" / f"{triple.pair.name}{end}.png" for end in ("_lr", ""))
    references = {reference: _reduced(folder / reference.path, reference.zoom) for reference in triple.references}
    write = _write_group if triple.is_test else _write_crops
    return triple.number, write(out, triple, Image.open(lr), Image.open(truth), references)


def _reduced(path: Path, factor: float) -> Image.Image:
    """A photo at the truth's scale, if it is larger."""
    image = read_photo(path).to_pil().convert("RGB")
    if factor <= 1:
        return image
    width, height = (max(1, round(side / factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _write_group(
    out: Path, triple: _Triple, lr: Image.Image, truth: Image.Image, references: Mapping[_Reference, Image.Image]
) -> list[Record]:
    name = f"{triple.number:03}"
    write_png(out / "test" / f"{name}_0.png", truth)
    write_png(out / "test" / "lr" / f"{name}_0.png", lr)
    listed = []
    for place, (reference, image) in enumerate(references.items(), 1):
        file = f"{name}_{place}.png"
        write_png(out / "test" / file, image)
        listed.append({"file": file, "level": place, "matches": reference.matches, "source": reference.path})
    return [_origin(triple) | {"name": name, "truth": f"{name}_0.png", "lr": f"lr/{name}_0.png", "references": listed}]


def _write_crops(
    out: Path, triple: _Triple, lr: Image.Image, truth: Image.Image, references: Mapping[_Reference, Image.Image]
) -> list[Record]:
    """Crops of truth, LR image and a reference, round the places where truth and reference match."""
    described = describe(truth, truth.size[::-1])
    records: list[Record] = []
    for reference, image in references.items():
        like = describe(image, image.size[::-1])
        found = None if described is None or like is None else verify(described, like, (0, 1), _CROP_PX, _CROPS)
        for x, y, ref_x, ref_y in () if found is None else found.crops:
            name, (left, top) = f"{triple.number:03}_{len(records):02}", (x // SCALE, y // SCALE)
            side = _CROP_PX // SCALE
            write_png(out / "train" / "lr" / f"{name}.png", lr.crop((left, top, left + side, top + side)))
            box = (SCALE * left, SCALE * top, SCALE * (left + side), SCALE * (top + side))
            write_png(out / "train" / "input" / f"{name}.png", truth.crop(box))
            crop = image.crop((ref_x, ref_y, ref_x + _CROP_PX, ref_y + _CROP_PX))
            write_png(out / "train" / "ref" / f"{name}.png", crop)
            files = {kind: f"{kind}/{name}.png" for kind in ("input", "lr", "ref")}
            records.append({"name": name} | files | _origin(triple) | {"reference": reference.path})
    return records


def _origin(triple: _Triple) -> Record:
    pair = triple.pair
    figures = ("detail", "residual_px", "agreed", "colour_levels")
    return {"sharp": pair.sharp, "blurry": pair.blurry} | {key: round(getattr(pair, key), 3) for key in figures}


def _contact_sheet(
    out: Path, triples: Sequence[_Triple], written: Mapping[int, Sequence[Record]], left_out: Mapping[str, str]
) -> None:
    """Write OUT/index.html: every group, and what was left out and why."""
    parts = [HEAD, f"<h1>{counted(len(triples), 'triple')}</h1>"]
    for triple in triples:
        pair, name = triple.pair, f"{triple.number:03}"
        about = f"{pair.detail:.1f} times the detail, residual {pair.residual_px:.2f} px, {pair.agreed:.0%} kept"
        if triple.is_test:
            figures = [figure(f"test/lr/{name}_0.png", f"{name} blurry", pair.blurry)]
            figures.append(figure(f"test/{name}_0.png", f"truth: {about}", pair.sharp))
            figures += [
                figure(f"test/{name}_{place}.png", f"reference, {reference.matches} matches", reference.path)
                for place, reference in enumerate(triple.references, 1)
            ]
            parts += section(figures)
            continue
        parts.append(f"<h2>{name}, training: {about}</h2>")
        kinds = {"lr": "blurry", "input": "sharp", "ref": "reference"}
        for record in written[triple.number]:
            parts += section(
                (figure(f"train/{record[kind]}", title, record[title]) for kind, title in kinds.items()), "crops"
            )
    if left_out:
        parts.append("<h2>Left out</h2><ul>")
        parts += [f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in sorted(left_out.items())]
        parts.append("</ul>")
    write_atomically(out / "index.html", "\n".join(parts).encode())
