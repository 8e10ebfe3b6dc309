"""What a pair shall be, drawn from its random numbers alone; `refsr.data.render` makes it.

number ── (seed, number) ──> random numbers ──┬── share `real` ──> a view and its partners
                                              └── else ─────────> a photograph, seen again by known motions
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image

from refsr.data.geometry import Matrix, about, linear, project, rotation, shift, tilt
from refsr.data.light import Light, LightConfig, draw_light
from refsr.data.pack import NODE_PX
from refsr.data.photos import PhotoFiles
from refsr.data.sample import Crop
from refsr.data.scene import PLANES, Planes, Relief
from refsr.data.sources import Sources
from refsr.data.views import RealView, look_up, seen_of
from refsr.degrade import Degradation, DegradeConfig, draw
from refsr.degrade.checks import check_shares
from refsr.errors import UsageError

MOST_REFERENCES = 5
_TRIES = 10
_MASK_NODES = 48
_RELIEF_NODES = 24
_COUNT_STREAM = 1


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """How pairs are made.

    Attributes:
        references: Shares of the pairs with 0, 1, 2, ... references, 5 at most; they add up to 1.
        unrelated: Share of references that show another photograph.
        elsewhere: Share of references that are cut elsewhere in the same photograph.
        rotation_degrees: Usual limit of the reference's rotation.
        turned: Share of references that are turned by any angle.
        log2_scale: Usual limit of the reference's scale in octaves.
        scaled: Share of references whose scale may be anything from 0.4 to 2.5.
        tilted: Share of references that see the photograph as a plane from the side.
        tilt_degrees: Limit of the angle between the two views of such a plane.
        layered: Share of pairs with planes in front of the photograph, which move by themselves.
        cutout: Share of these planes that show another photograph; the others are split from the pair's own.
        relief: Share of references in which a smooth height field moves what is seen.
        light: Of the references.
    """

    references: tuple[float, ...] = (0.2, 0.6, 0.2)
    unrelated: float = 0.18
    elsewhere: float = 0.08
    rotation_degrees: float = 20.0
    turned: float = 0.1
    log2_scale: float = 0.5
    scaled: float = 0.2
    tilted: float = 0.0
    tilt_degrees: float = 60.0
    layered: float = 0.0
    cutout: float = 0.3
    relief: float = 0.0
    light: LightConfig = field(default_factory=LightConfig)

    def __post_init__(self) -> None:
        if not 1 <= len(self.references) <= MOST_REFERENCES + 1 or not all(
            0 <= share <= 1 for share in self.references
        ):
            raise UsageError(f"references {self.references}: give shares of 0, 1, 2, ... references, 5 at most")
        if abs(sum(self.references) - 1) > 1e-6:
            raise UsageError(f"references {self.references}: the shares add up to {sum(self.references):.4g}, not to 1")
        shares = ("unrelated", "elsewhere", "turned", "scaled", "tilted", "layered", "cutout", "relief")
        check_shares(self, shares, (("unrelated", "elsewhere"),))
        if not 0 <= self.tilt_degrees <= 75:
            raise UsageError(f"tilt_degrees {self.tilt_degrees}: give an angle between 0 and 75")


@dataclass(frozen=True, kw_only=True)
class ReferencePlan:
    """One reference: a plain square of a photograph, or a view of the pair's scene.

    Attributes:
        crop: The square; then nothing else but the light counts, and nothing is known of where it matches.
        photo: Number of the photograph that is viewed.
        view: From the crop frame to that photograph.
        motions: From the reference's pixels to the crop frame: for the photograph, then for each plane before it.
        relief: If any.
        truth_cells: Where the LR cells lie, (y, x), where it is known beforehand.
        light: Another light, if any.
    """

    crop: Crop | None = None
    photo: int = 0
    view: Matrix | None = None
    motions: tuple[Matrix, ...] = ()
    relief: Relief | None = None
    truth_cells: Float[np.ndarray, "2 h w"] | None = None
    light: Light | None = None


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """An input and its references.

    Attributes:
        number: Of the pair.
        crop: The HR crop.
        planes: In front of it, if any.
        references: None to five.
        degradation: How the LR image is made.
    """

    number: int
    crop: Crop
    planes: Planes | None
    references: tuple[ReferencePlan, ...]
    degradation: Degradation


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What all plans of a run share.

    Attributes:
        sources: Photographs and views.
        pairs: How pairs are made.
        degrade: How LR images are made.
        real: Share of pairs that are real views, where there are photographs too.
        seed: Start of the random numbers.
    """

    sources: Sources
    pairs: PairConfig
    degrade: DegradeConfig
    real: float
    seed: int

    def plan(self, number: int, size_px: int, count: int | None = None) -> PairPlan:
        """The pair of a number.

        Args:
            number: Any.
            size_px: Side of the crops, a multiple of 4.
            count: Of its references, if it gets any; drawn for the pair alone without it.
        """
        rng, start = self._start(number)
        if isinstance(start, RealView):
            crop, planes, references = _real(self, start, size_px, rng, count)
        else:
            crop, planes, references = _synthetic(self, start, size_px, rng, count)
        return PairPlan(
            number=number,
            crop=crop,
            planes=planes,
            references=tuple(references[place] for place in rng.permutation(len(references))),
            degradation=draw(self.degrade, rng),
        )

    def count_of_step(self, first: int) -> int:
        """How many references the pairs of a step get that get any; the shares of pairs stay as configured.

        Args:
            first: Number of its first pair.
        """
        shares = np.array(self.pairs.references)[1:]
        if not shares.any():
            return 0
        rng = np.random.default_rng((self.seed, first, _COUNT_STREAM))
        return 1 + int(rng.choice(len(shares), p=shares / shares.sum()))

    def file_of(self, number: int) -> str:
        """Where a pair's truth comes from."""
        start = self._start(number)[1]
        return str(self.sources.photos.files[start.photo if isinstance(start, RealView) else start])

    def _start(self, number: int) -> tuple[np.random.Generator, int | RealView]:
        """The random numbers of a pair, and the photograph or view that it is made of."""
        rng = np.random.default_rng((self.seed, number))
        single, views = self.sources.single, self.sources.views
        real = 1.0 if not single else self.real if views else 0.0
        if rng.random() < real:
            return rng, self._usable_view(int(rng.integers(len(views))))
        return rng, self._single(rng)

    def _single(self, rng: np.random.Generator) -> int:
        """A photograph, or the next one that can be used."""
        single = self.sources.single
        start = int(rng.integers(len(single)))
        return self.sources.photos.first_usable(single[(start + step) % len(single)] for step in range(len(single)))

    def _usable_view(self, number: int) -> RealView:
        """This view, or the next one, with those partners that can be used.

        Raises:
            ImageError: Neither this view nor any of the next ones has both.
        """
        views, photos = self.sources.views, self.sources.photos
        for tried in range(number, number + min(_TRIES, len(views))):
            view = views[tried % len(views)]
            partners = tuple(partner for partner in view.partners if photos.is_usable(partner.photo))
            if partners and photos.is_usable(view.photo):
                return replace(view, partners=partners)
        view = views[number]
        photos.first_usable([view.photo])
        photos.first_usable(partner.photo for partner in view.partners)
        raise AssertionError("a view that can be used was not")

    def another(self, size_px: int, rng: np.random.Generator) -> Crop:
        """A square of any photograph."""
        photos, views = self.sources.photos, self.sources.views
        if self.sources.single:
            return random_crop(photos, self._single(rng), size_px, rng)
        partners = self._usable_view(int(rng.integers(len(views)))).partners
        return random_crop(photos, partners[int(rng.integers(len(partners)))].photo, size_px, rng)


def random_crop(photos: PhotoFiles, number: int, size: int, rng: np.random.Generator) -> Crop:
    """A square, mostly shrunk by up to 2.2 so that compression artefacts go, flipped or turned."""
    height, width = photos.size_px(number)
    zoom = rng.uniform(1.0, max(1.0, min(2.2, min(height, width) / size))) if rng.random() > 0.25 else 1.0
    side = min(int(zoom * size), height, width)
    transposed, across, down = (bool(bit) for bit in rng.integers(2, size=3))
    return Crop(
        photo=number,
        left=int(rng.integers(width - side + 1)),
        top=int(rng.integers(height - side + 1)),
        side=side,
        transposed=transposed,
        flipped=(across, down),
    )


def _synthetic(
    drawing: Drawing, photo: int, size: int, rng: np.random.Generator, count: int | None
) -> tuple[Crop, Planes | None, list[ReferencePlan]]:
    """A crop of one photograph, and views of the same place by known motions."""
    config = drawing.pairs
    crop = random_crop(drawing.sources.photos, photo, size, rng)
    planes = _planes(drawing, size, rng) if rng.random() < config.layered else None
    references = []
    for _ in range(_count(config, rng, count)):
        kind, light = rng.random(), draw_light(config.light, rng)
        if kind < config.unrelated:
            references.append(ReferencePlan(crop=drawing.another(size, rng), light=light))
            continue
        reach_px = size * (1.5 if kind < config.unrelated + config.elsewhere else 0.25)
        motion = random_motion(config, size, rng, reach_px)
        apart = [_apart(size, rng) @ motion for _ in planes.masks] if planes is not None else []
        references.append(
            ReferencePlan(
                photo=photo,
                view=crop.view(size),
                motions=(motion, *apart),
                relief=_relief(size, rng) if rng.random() < config.relief else None,
                light=light,
            )
        )
    return crop, planes, references


def _count(config: PairConfig, rng: np.random.Generator, count: int | None) -> int:
    """How many references a pair gets; if any, `count` where that is given."""
    drawn = int(np.searchsorted(np.cumsum(config.references)[:-1], rng.random(), side="right"))
    return drawn if drawn == 0 or count is None else count


def random_motion(config: PairConfig, size: int, rng: np.random.Generator, reach_px: float) -> Matrix:
    """From the reference's pixels to the HR crop's."""
    degrees = rng.uniform(-180, 180) if rng.random() < config.turned else rng.uniform(-1, 1) * config.rotation_degrees
    far = math.log2(2.5)
    octaves = rng.uniform(-far, far) if rng.random() < config.scaled else rng.uniform(-1, 1) * config.log2_scale
    middle = np.full(2, (size - 1) / 2)
    seen = linear(2**octaves * rotation(degrees))
    if rng.random() < config.tilted:
        angle = rng.uniform(15, max(15.0, config.tilt_degrees))
        # So far off that the plane's corners stay well before the camera, seen from either side.
        focal_px = size * max(rng.uniform(1.5, 3.0), 1.2 * math.tan(math.radians(angle)))
        plane = tilt(angle, rng.uniform(0, 360), focal_px)
        # Either the reference sees the plane from the side, or the input does.
        seen = seen @ (np.linalg.inv(plane) if rng.random() < 0.5 else plane)
    else:
        seen = seen @ linear(np.eye(2) + rng.uniform(-0.06, 0.06, (2, 2)))
        seen[2, :2] += rng.uniform(-0.15, 0.15, 2) / size
    return shift(rng.uniform(-reach_px, reach_px, 2)) @ about(seen, middle)


def _planes(drawing: Drawing, size: int, rng: np.random.Generator) -> Planes:
    """One or two, each covering a tenth to a half of what is near the crop."""
    count = int(rng.integers(1, PLANES + 1))
    masks = np.stack([smooth_nodes(rng, 6, _MASK_NODES) for _ in range(count)])
    masks -= np.stack([np.quantile(mask, rng.uniform(0.5, 0.9)) for mask in masks])[:, None, None].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    cutouts = tuple(drawing.another(size, rng) if rng.random() < drawing.pairs.cutout else None for _ in range(count))
    return Planes(masks=masks, cutouts=cutouts, fill_px=(0.4 * size * math.cos(angle), 0.4 * size * math.sin(angle)))


def smooth_nodes(rng: np.random.Generator, coarse: int, fine: int) -> NDArray[np.float32]:
    """(fine, fine) values of a smooth random function of about unit variance, from (coarse, coarse) random ones."""
    values = rng.standard_normal((coarse, coarse), dtype=np.float32)
    return np.array(Image.fromarray(values).resize((fine, fine), Image.Resampling.BICUBIC))


def _apart(size: int, rng: np.random.Generator) -> Matrix:
    """How a plane moves against the photograph behind it."""
    angle, length = rng.uniform(0, 2 * math.pi), size * rng.uniform(0.03, 0.3)
    grown = linear(2 ** rng.uniform(-0.15, 0.15) * rotation(rng.uniform(-5, 5)))
    return shift(length * np.array((math.cos(angle), math.sin(angle)))) @ about(grown, np.full(2, (size - 1) / 2))


def _relief(size: int, rng: np.random.Generator) -> Relief:
    angle = rng.uniform(0, 2 * math.pi)
    heights = smooth_nodes(rng, 5, _RELIEF_NODES) * size * rng.uniform(0.005, 0.03)
    return Relief(shift_px=heights, direction=(math.cos(angle), math.sin(angle)))


def _real(
    drawing: Drawing, view: RealView, size: int, rng: np.random.Generator, count: int | None
) -> tuple[Crop, None, list[ReferencePlan]]:
    """A crop of a view, and of its partners in any order; what is lacking to the number shows other things."""
    config, photos = drawing.pairs, drawing.sources.photos
    partners = [view.partners[place] for place in rng.permutation(len(view.partners))]
    height, width = photos.size_px(view.photo)
    crop = random_crop(photos, view.photo, size, rng)
    known = [partner.field_px for partner in partners if partner.field_px is not None]
    if known:
        crop = _towards(crop, known[0], (height, width), rng)
    else:  # crops of one place: cut both as they are
        left, top = (int(rng.integers(length - size + 1)) for length in (width, height))
        crop = replace(crop, left=left, top=top, side=size)
    references: list[ReferencePlan] = []
    for place in range(_count(config, rng, count)):
        unrelated = rng.random() < config.unrelated
        if place >= len(partners) or unrelated:
            references.append(ReferencePlan(crop=drawing.another(size, rng)))
            continue
        partner = partners[place]
        if partner.field_px is None:
            references.append(ReferencePlan(crop=_same_place(crop, partner.photo, photos, (height, width))))
        else:
            references.append(_partner_view(crop, partner.photo, partner.field_px, photos, size, rng))
    return crop, None, references


def _towards(crop: Crop, field_px: NDArray[np.float32], size_px: tuple[int, int], rng: np.random.Generator) -> Crop:
    """The same crop, moved to where a partner shows the same."""
    nodes = np.argwhere(np.isfinite(field_px[0]))[:, ::-1] * NODE_PX
    centre = nodes[int(rng.integers(len(nodes)))] + rng.uniform(-0.25, 0.25, 2) * crop.side
    left, top = (
        int(np.clip(middle - crop.side / 2, 0, length - crop.side))
        for middle, length in zip(centre, size_px[::-1], strict=True)
    )
    return replace(crop, left=left, top=top)


def _same_place(crop: Crop, photo: int, photos: PhotoFiles, size_px: tuple[int, int]) -> Crop:
    """The same square of another photograph, as far along as the first."""
    lengths = photos.size_px(photo)
    top, left = (
        round(start / max(1, length - crop.side) * (other - crop.side))
        for start, length, other in zip((crop.top, crop.left), size_px, lengths, strict=True)
    )
    return replace(crop, photo=photo, left=left, top=top)


def _partner_view(
    crop: Crop, photo: int, field_px: NDArray[np.float32], photos: PhotoFiles, size: int, rng: np.random.Generator
) -> ReferencePlan:
    """A square of a partner, round what it shows of the crop; nearly as upright and as large."""
    there = seen_of(field_px, crop.left, crop.top, crop.side)
    height, width = photos.size_px(photo)
    side = min(crop.side * 2 ** rng.uniform(-0.4, 0.4), height, width)
    centre = np.median(there, 0) if len(there) else np.array((crop.left, crop.top)) + crop.side / 2
    centre = np.clip(centre + rng.uniform(-0.2, 0.2, 2) * side, side / 2, np.array((width, height)) - side / 2)
    turn = crop.view(size)[:2, :2] * size / crop.side @ rotation(rng.uniform(-10, 10))
    view = shift(centre) @ linear(side / size * turn) @ shift(np.full(2, -(size - 1) / 2))
    cells = size // 4
    x, y = np.meshgrid(np.arange(cells) * 4 + 1.5, np.arange(cells) * 4 + 1.5)
    points = project(crop.view(size), np.stack((x.ravel(), y.ravel()), 1))
    seen = (project(np.linalg.inv(view), look_up(field_px, points)) - 1.5) / 4
    seen[~((seen >= 0) & (seen <= cells - 1)).all(1)] = math.nan
    truth = np.ascontiguousarray(seen[:, ::-1].T.reshape(2, cells, cells), dtype=np.float32)
    return ReferencePlan(photo=photo, view=view, motions=(np.eye(3),), truth_cells=truth)
