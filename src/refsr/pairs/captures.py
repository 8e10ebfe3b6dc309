"""Photos of a capture: which one is sharp, whether they register, and which of them make a triple.

two overlapping photos ── relation, detail ── registered ──> Compared ── with references ──> Triple
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image

from refsr.data.features import load_features
from refsr.data.register import Pixels, register, relate
from refsr.errors import ImageError
from refsr.io.photo import as_photo, read_photo
from refsr.pairs.output_folder import digest
from refsr.pairs.sets import write_png
from refsr.pairs.verify import Overlap
from refsr.restore.condition import measure_condition

_MINIMUM_GAIN: Final = 1.7
"""How many times as much detail the sharp photo must show."""

_MAXIMUM_LOSS: Final = 1.7
"""How many times as much detail as a reference the sharp photo may show."""

_SHARPEST_PX: Final = 0.5
"""A measured blur below this is that of any sharp photo."""

_MAXIMUM_REFERENCES: Final = 5

_NOT_NEEDED: Final = "is as sharp as other photos of its place, and not needed"

Role = Literal["blurry", "sharp", "reference"]


@dataclass(frozen=True, kw_only=True)
class Compared:
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
class TripleReference:
    """A reference of a triple, by path; how much larger than the truth it is, and its matches with the sharp photo."""

    path: str
    zoom: float
    matches: int


@dataclass(frozen=True, kw_only=True)
class Triple:
    """A registered pair, numbered, with its references, most matches first."""

    number: int
    pair: Compared
    references: tuple[TripleReference, ...]
    is_test: bool


def measured(folder: Path, name: str) -> tuple[str, float, str]:
    """Name of a photo, its blur in its own pixels, and the reason if it cannot be read."""
    try:
        pixels = read_photo(folder / name).to_pil()
    except ImageError as error:
        return name, 0.0, str(error).removeprefix(f"{folder / name}: ")
    if "A" in pixels.getbands():
        return name, 0.0, "has transparent parts: give photos as they were taken"
    return name, max(_SHARPEST_PX, measure_condition(as_photo(pixels.convert("RGB")).pixels).blur_px), ""


def _pixels(path: Path) -> Pixels:
    return np.asarray(read_photo(path).to_pil().convert("RGB"))


def compare(
    folder: Path, registered: Path, item: tuple[Overlap, tuple[str, Path, float], tuple[str, Path, float]]
) -> Compared | None:
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
    found = Compared(
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


def choose_triples(compared: Sequence[Compared], test: set[str]) -> tuple[list[Triple], dict[str, str]]:
    """The triples, and reasons by path for photos that are in none."""
    reasons: dict[str, str] = {}
    triples: list[Triple] = []
    for pair in sorted(compared, key=lambda pair: -pair.matches):  # the best known reason is that of the best match
        for one, other in ((pair.blurry, pair.sharp), (pair.sharp, pair.blurry)):
            reasons.setdefault(one, f"with {other}: {pair.reason}" if pair.reason else _NOT_NEEDED)
    taken: set[str] = set()
    for pair in sorted((pair for pair in compared if not pair.reason), key=lambda p: (-p.agreed, p.sharp, p.blurry)):
        if pair.blurry in taken:
            continue
        references = _references(pair, compared)
        if references:
            taken.add(pair.blurry)
            number = len(triples)
            triples.append(Triple(number=number, pair=pair, references=references, is_test=pair.blurry in test))
        else:
            reasons[pair.blurry] = f"with {pair.sharp}: there is no other sharp photo of the place to be the reference"
            reasons[pair.sharp] = reasons[pair.blurry].replace(pair.sharp, pair.blurry, 1)
    return triples, reasons


def _references(pair: Compared, compared: Sequence[Compared]) -> tuple[TripleReference, ...]:
    """Photos that overlap with the sharp one of a pair, nearly as sharp as it, but not the same shot again."""
    found = []
    for other in compared:
        if pair.sharp not in (other.sharp, other.blurry) or pair.blurry in (other.sharp, other.blurry):
            continue
        is_sharper = other.sharp != pair.sharp
        if other.is_duplicate or not other.reason or (not is_sharper and other.detail > _MAXIMUM_LOSS):
            continue  # the same shot again, as one that registers is, would be the truth itself
        path = other.sharp if is_sharper else other.blurry
        scale = other.scale if is_sharper else 1 / other.scale  # its pixels for one of the sharp photo
        found.append(TripleReference(path=path, zoom=scale * pair.pitch_px, matches=other.matches))
    return tuple(sorted(found, key=lambda reference: (-reference.matches, reference.path))[:_MAXIMUM_REFERENCES])


def roles_of(triples: Sequence[Triple]) -> dict[str, list[dict[str, str]]]:
    """Set, group and role of each photo that is in any."""
    roles: dict[str, list[dict[str, str]]] = {}
    for triple in triples:
        named: list[tuple[Role, str]] = [("blurry", triple.pair.blurry), ("sharp", triple.pair.sharp)]
        named += [("reference", reference.path) for reference in triple.references]
        for role, path in named:
            place = {"set": "test" if triple.is_test else "train", "group": f"{triple.number:03}", "role": role}
            roles.setdefault(path, []).append(place)
    return roles
