"""Figures of where matches land, their means, and their JSON file.

{"kind": "matches", "version": 1, "within_cells": [0.1, 0.25, 0.5, 1.0, 2.0],
 "means": {"all": {"images": 37, "verified": 0.5, "field_within": [...], ...}, "hard third": {...}},
 "model": "default", "dataset": "dev", "images": [{"name": "000", "reference": "000_1.png", "verified": 0.6, ...}],
 "skipped": [], "versions": {...}, "commit": "c28e951..."}
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean
from typing import Any, Final

from rich.table import Table

from refsr.bench.results import Skipped, rounded
from refsr.wording import counted

WITHIN_CELLS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Distances from the true position; a cell is 4 pixels of the output."""


@dataclass(frozen=True, kw_only=True)
class ImageMatches:
    """Figures of one picture.

    Attributes:
        verified: Share of its cells whose true position is verified.
        match_within: Shares of these that the search finds within `WITHIN_CELLS`; None where none is verified.
        field_within: The same for the last aligned field, at which texture is sampled.
        gain_db: PSNR minus the PSNR without references.
        headroom_db: PSNR with the field at the true positions, where they are verified, minus PSNR.
        refused: Reason why the reference is not used, so that nothing is found and nothing gained; or empty.
    """

    name: str
    reference: str
    verified: float
    match_within: tuple[float, ...] | None = None
    field_within: tuple[float, ...] | None = None
    gain_db: float = 0.0
    headroom_db: float = 0.0
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class MatchesMeans:
    """Means over pictures of each picture's own figures, so that large pictures count as much as small ones.

    Attributes:
        unverified: Count of pictures in which nothing is verified; the shares within are means over the others, and
            None if there are none.
    """

    images: int
    unverified: int
    verified: float
    match_within: tuple[float, ...] | None
    field_within: tuple[float, ...] | None
    gain_db: float
    headroom_db: float


@dataclass(frozen=True, kw_only=True)
class MatchesResult:
    """Figures of all pictures of a run, sorted by name."""

    model: str
    dataset: str
    images: tuple[ImageMatches, ...]
    skipped: tuple[Skipped, ...]
    versions: dict[str, str]
    commit: str | None

    @property
    def hard(self) -> tuple[ImageMatches, ...]:
        """The third of the pictures, rounded up, that gain least: other views, other light, little in common."""
        return tuple(sorted(self.images, key=lambda image: image.gain_db)[: ceil(len(self.images) / 3)])

    @property
    def means(self) -> dict[str, MatchesMeans]:
        """Means over all pictures and over the hard third."""
        return {"all": _means(self.images), "hard third": _means(self.hard)}

    def record(self) -> dict[str, Any]:
        """Content of the JSON file."""
        means = {name: asdict(found) for name, found in self.means.items()}
        found: dict[str, Any] = rounded({"within_cells": WITHIN_CELLS, "means": means, **asdict(self)})
        return found


def _means(images: Sequence[ImageMatches]) -> MatchesMeans:
    def shares(each: Sequence[tuple[float, ...] | None]) -> tuple[float, ...] | None:
        known = [found for found in each if found is not None]
        return tuple(map(fmean, zip(*known, strict=True))) or None

    return MatchesMeans(
        images=len(images),
        unverified=sum(image.verified == 0 for image in images),
        verified=fmean(image.verified for image in images),
        match_within=shares([image.match_within for image in images]),
        field_within=shares([image.field_within for image in images]),
        gain_db=fmean(image.gain_db for image in images),
        headroom_db=fmean(image.headroom_db for image in images),
    )


def matches_table(result: MatchesResult) -> Table:
    """Shares within each distance, for a terminal: of match and field, of all pictures and of the hard third."""
    title = f"{result.model} on {result.dataset}: distance from the true position in cells"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", *(f"{within:g}" for within in WITHIN_CELLS)):
        table.add_column(column, justify="left" if not column else "right")
    for name, means in result.means.items():
        for what, shares in (("match", means.match_within), ("field", means.field_within)):
            cells = ("-" for _ in WITHIN_CELLS) if shares is None else (f"{100 * share:.1f} %" for share in shares)
            table.add_row(f"{name}, {what}", *cells)
    return table


def matches_lines(result: MatchesResult) -> list[str]:
    """What the table does not hold, in sentences."""
    lines = []
    for name, means in result.means.items():
        verified = f"{100 * means.verified:.1f} % of the cells verified"
        gain = f"gain {means.gain_db:+.3f} dB, headroom {means.headroom_db:+.3f} dB"
        lines.append(f"{name}: {counted(means.images, 'picture')}, {verified}, {gain}")
        if means.unverified:
            lines.append(f"{name}: nothing verified in {counted(means.unverified, 'picture')}, left out of the table")
    lines += [f"{image.name}: {image.reference} {image.refused}" for image in result.images if image.refused]
    return lines
