"""Plan of a training pair, drawn from the pair's own random numbers; `refsr.data.render` renders it.

(seed, pair number) ──> random numbers ──┬── share `real` ──> real pair: a view and its partners
                                         └── else ─────────> synthetic pair: views of one photo by known homographies
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from refsr.data.geometry import Matrix, about, linear, project, rotation, tilt, translation
from refsr.data.light import Light, LightConfig, draw_light
from refsr.data.photos import PhotoFiles
from refsr.data.sample import SCALE, Crop
from refsr.data.scene import MAXIMUM_PLANES, Planes, Relief, random_plane_motion, random_relief, smooth_nodes
from refsr.data.shards import NODE_PX, interpolate_field, verified_points
from refsr.data.sources import RealView, Sources
from refsr.degrade import Degradation, DegradeConfig, draw
from refsr.degrade.parameters import check_shares
from refsr.errors import ImageError, UsageError

MAXIMUM_REFERENCES = 5
_MAXIMUM_TRIES = 10
_MASK_NODES = 48
_COUNT_STREAM = 1  # last word of the seed for a step's count of references


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Kinds of references and their shares, 0..1, in synthetic and real pairs.

    Attributes:
        references: Shares of the pairs with 0, 1, 2, ... references, 5 at most; they add up to 1.
        unrelated: Share of references that show another photo.
        elsewhere: Share of references cut elsewhere in the same photo.
        rotation_degrees: Usual maximum rotation of a reference.
        turned: Share of references rotated by any angle.
        log2_scale: Usual maximum scale of a reference, in octaves.
        scaled: Share of references scaled by 0.4 to 2.5.
        tilted: Share of references that see the photo as a tilted plane.
        tilt_degrees: Maximum angle of the tilt.
        layered: Share of pairs with planes in front of the photo, which have homographies of their own.
        cutout: Share of these planes that show another photo; the others show the pair's own.
        relief: Share of references displaced by a smooth height field.
        light: Photometric augmentation of references.
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
        in_range = all(0 <= share <= 1 for share in self.references)
        if not 1 <= len(self.references) <= MAXIMUM_REFERENCES + 1 or not in_range:
            raise UsageError(f"references {self.references}: give shares of 0, 1, 2, ... references, 5 at most")
        if abs(sum(self.references) - 1) > 1e-6:
            raise UsageError(f"references {self.references}: the shares add up to {sum(self.references):.4g}, not to 1")
        shares = ("unrelated", "elsewhere", "turned", "scaled", "tilted", "layered", "cutout", "relief")
        check_shares(self, shares, (("unrelated", "elsewhere"),))
        if not 0 <= self.tilt_degrees <= 75:
            raise UsageError(f"tilt_degrees {self.tilt_degrees}: give an angle between 0 and 75")


@dataclass(frozen=True, kw_only=True)
class ReferencePlan:
    """A reference: a crop of a photo without known correspondences, or a view of the pair's scene.

    Attributes:
        crop: The crop; of the other attributes only `light` counts then.
        photo: Number of the photo that is viewed.
        view: Homography from the crop frame (the HR crop's pixels) to that photo.
        motions: Homographies from the reference's pixels to the crop frame: of the photo, then of each plane.
        relief: Height field, or None.
        truth_cells: Positions of the LR cells, (y, x) in cells, of a real view; None if rendering computes them.
        light: Photometric augmentation, or None.
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
    """A training pair: the HR crop, the planes in front of it, 0 to 5 references, and the degradation to LR.

    Attributes:
        lr: Crop of a real LR image, in place of a degraded one; None if there is none.
    """

    number: int
    crop: Crop
    planes: Planes | None
    references: tuple[ReferencePlan, ...]
    degradation: Degradation
    lr: Crop | None = None


@dataclass(frozen=True, kw_only=True)
class PairSampler:
    """Draws the plans of a training run.

    Attributes:
        sources: Photos and views.
        pairs: Distribution of the references.
        degrade: Distribution of the degradations.
        real: Share of real pairs, 0..1, where there are photos as well as views.
        seed: Seed of the run.
    """

    sources: Sources
    pairs: PairConfig
    degrade: DegradeConfig
    real: float
    seed: int

    def plan(self, number: int, size_px: int, count: int | None = None) -> PairPlan:
        """The plan of one pair, a function of the seed and the arguments alone.

        Args:
            number: Number of the pair.
            size_px: Side of the crops, a multiple of 4.
            count: Count of references, if the pair gets any; None to draw it.
        """
        rng, start = self._start(number)
        lr = None
        if isinstance(start, RealView):
            crop, planes, references = _real(self, start, size_px, rng, count)
            lr = _real_lr(self.sources.photos, start, crop)
        else:
            crop, planes, references = _synthetic(self, start, size_px, rng, count)
        shuffled = tuple(references[place] for place in rng.permutation(len(references)))
        degradation = draw(self.degrade, rng)
        return PairPlan(number=number, crop=crop, planes=planes, references=shuffled, degradation=degradation, lr=lr)

    def plans_of(self, step: tuple[range, int]) -> tuple[list[PairPlan], int]:
        """Plans of a step, given by the numbers of its pairs and the side of their crops in pixels.

        All pairs with references have one count of them: pairs of equal count are restored together.

        Returns:
            The plans, and the count of unusable files found so far.
        """
        numbers, size_px = step
        shares, count = np.array(self.pairs.references)[1:], 0
        if shares.any():
            rng = np.random.default_rng((self.seed, numbers.start, _COUNT_STREAM))
            count = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
        return [self.plan(number, size_px, count) for number in numbers], len(self.sources.photos.unusable)

    def file_of(self, number: int) -> str:
        """The file of a pair's HR crop."""
        start = self._start(number)[1]
        return str(self.sources.photos.files[start.photo if isinstance(start, RealView) else start])

    def _start(self, number: int) -> tuple[np.random.Generator, int | RealView]:
        """The random generator of a pair, and its view or photo."""
        rng = np.random.default_rng((self.seed, number))
        single, views = self.sources.single, self.sources.views
        real = 1.0 if not single else self.real if views else 0.0
        if rng.random() < real:
            return rng, self._usable_view(int(rng.integers(len(views))))
        return rng, self._usable_photo(rng)

    def _usable_photo(self, rng: np.random.Generator) -> int:
        """A random photo, or the next usable one."""
        single = self.sources.single
        start = int(rng.integers(len(single)))
        return self.sources.photos.first_usable(single[(start + step) % len(single)] for step in range(len(single)))

    def _usable_view(self, number: int) -> RealView:
        """This view, or the next usable one, with its usable partners.

        Raises:
            ImageError: Ten views in a row are unusable.
        """
        views, photos = self.sources.views, self.sources.photos
        for tried in range(number, number + min(_MAXIMUM_TRIES, len(views))):
            view = views[tried % len(views)]
            partners = tuple(partner for partner in view.partners if photos.is_usable(partner.photo))
            if partners and photos.is_usable(view.photo):
                return replace(view, partners=partners)
        view = views[number]
        photos.first_usable([view.photo])
        photos.first_usable(partner.photo for partner in view.partners)
        raise AssertionError("a usable view was not found usable")

    def distractor(self, size_px: int, rng: np.random.Generator) -> Crop:
        """A random crop of any photo."""
        photos, views = self.sources.photos, self.sources.views
        if self.sources.single:
            return random_crop(photos, self._usable_photo(rng), size_px, rng)
        partners = self._usable_view(int(rng.integers(len(views)))).partners
        return random_crop(photos, partners[int(rng.integers(len(partners)))].photo, size_px, rng)


def random_crop(photos: PhotoFiles, number: int, size: int, rng: np.random.Generator) -> Crop:
    """A random crop, flipped and transposed; most are reduced by 1 to 2.2, which hides compression artefacts."""
    height, width = photos.size_px(number)
    zoom = rng.uniform(1.0, max(1.0, min(2.2, min(height, width) / size))) if rng.random() > 0.25 else 1.0
    side = min(int(zoom * size), height, width)
    transposed, across, down = (bool(bit) for bit in rng.integers(2, size=3))
    left, top = (int(rng.integers(length - side + 1)) for length in (width, height))
    return Crop(photo=number, left=left, top=top, side=side, transposed=transposed, flipped=(across, down))


def _synthetic(
    sampler: PairSampler, photo: int, size: int, rng: np.random.Generator, count: int | None
) -> tuple[Crop, Planes | None, list[ReferencePlan]]:
    """A crop of one photo, and views of the same place by known homographies."""
    config = sampler.pairs
    crop = random_crop(sampler.sources.photos, photo, size, rng)
    planes = _planes(sampler, size, rng) if rng.random() < config.layered else None
    references = []
    for _ in range(_count(config, rng, count)):
        kind, light = rng.random(), draw_light(config.light, rng)
        if kind < config.unrelated:
            references.append(ReferencePlan(crop=sampler.distractor(size, rng), light=light))
            continue
        reach_px = size * (1.5 if kind < config.unrelated + config.elsewhere else 0.25)
        motion = random_motion(config, size, rng, reach_px)
        in_front = () if planes is None else planes.masks
        motions = (motion, *(random_plane_motion(size, rng) @ motion for _ in in_front))
        relief = random_relief(size, rng) if rng.random() < config.relief else None
        view = crop.view(size)
        references.append(ReferencePlan(photo=photo, view=view, motions=motions, relief=relief, light=light))
    return crop, planes, references


def _count(config: PairConfig, rng: np.random.Generator, count: int | None) -> int:
    """Count of references: 0 or `count`, or a drawn one if `count` is None."""
    drawn = int(np.searchsorted(np.cumsum(config.references)[:-1], rng.random(), side="right"))
    return drawn if drawn == 0 or count is None else count


def random_motion(config: PairConfig, size: int, rng: np.random.Generator, reach_px: float) -> Matrix:
    """A random homography from the reference's pixels to the HR crop's, shifted by up to `reach_px` per axis."""
    degrees = rng.uniform(-180, 180) if rng.random() < config.turned else rng.uniform(-1, 1) * config.rotation_degrees
    widest = math.log2(2.5)
    octaves = rng.uniform(-widest, widest) if rng.random() < config.scaled else rng.uniform(-1, 1) * config.log2_scale
    middle = np.full(2, (size - 1) / 2)
    seen = linear(2**octaves * rotation(degrees))
    if rng.random() < config.tilted:
        angle = rng.uniform(15, max(15.0, config.tilt_degrees))
        # Far enough that the corners of the plane stay in front of the camera, in either direction.
        focal_px = size * max(rng.uniform(1.5, 3.0), 1.2 * math.tan(math.radians(angle)))
        plane = tilt(angle, rng.uniform(0, 360), focal_px)
        # Either the reference sees the plane from the side, or the input does.
        seen = seen @ (np.linalg.inv(plane) if rng.random() < 0.5 else plane)
    else:
        seen = seen @ linear(np.eye(2) + rng.uniform(-0.06, 0.06, (2, 2)))
        seen[2, :2] += rng.uniform(-0.15, 0.15, 2) / size
    return translation(rng.uniform(-reach_px, reach_px, 2)) @ about(seen, middle)


def _planes(sampler: PairSampler, size: int, rng: np.random.Generator) -> Planes:
    """One or two planes, each of which covers a tenth to a half of the surroundings of the crop."""
    count = int(rng.integers(1, MAXIMUM_PLANES + 1))
    masks = np.stack([smooth_nodes(rng, 6, _MASK_NODES) for _ in range(count)])
    masks -= np.stack([np.quantile(mask, rng.uniform(0.5, 0.9)) for mask in masks])[:, None, None].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    share = sampler.pairs.cutout
    cutouts = tuple(sampler.distractor(size, rng) if rng.random() < share else None for _ in range(count))
    return Planes(masks=masks, cutouts=cutouts, fill_px=(0.4 * size * math.cos(angle), 0.4 * size * math.sin(angle)))


def _real(
    sampler: PairSampler, view: RealView, size: int, rng: np.random.Generator, count: int | None
) -> tuple[Crop, None, list[ReferencePlan]]:
    """A crop of a view and of its partners in random order; distractors make up for missing partners."""
    config, photos = sampler.pairs, sampler.sources.photos
    partners = [view.partners[place] for place in rng.permutation(len(view.partners))]
    crop = random_crop(photos, view.photo, size, rng)
    known = [partner.field_px for partner in partners if partner.field_px is not None]
    if known:
        crop = _recentred(crop, known[0], photos, rng)
    else:  # ready pairs of crops are not resized
        step = 1 if view.lr is None else SCALE
        left, top = (
            step * int(rng.integers((length - size) // step + 1)) for length in photos.size_px(view.photo)[::-1]
        )
        crop = replace(crop, left=left, top=top, side=size)
    references: list[ReferencePlan] = []
    for place in range(_count(config, rng, count)):
        unrelated = rng.random() < config.unrelated
        if place >= len(partners) or unrelated:
            references.append(ReferencePlan(crop=sampler.distractor(size, rng)))
            continue
        partner = partners[place]
        if partner.field_px is None:
            references.append(ReferencePlan(crop=_same_place(crop, partner.photo, photos)))
        else:
            references.append(_partner_view(crop, partner.photo, partner.field_px, photos, size, rng))
    return crop, None, references


def _real_lr(photos: PhotoFiles, view: RealView, crop: Crop) -> Crop | None:
    """The crop in the view's real LR image; None without a usable one.

    Raises:
        ImageError: That is not a quarter of the view's size.
    """
    if view.lr is None or not photos.is_usable(view.lr):
        return None
    small, full = photos.size_px(view.lr), photos.size_px(view.photo)
    if small != (full[0] // SCALE, full[1] // SCALE):
        raise ImageError(
            f"{photos.files[view.lr]}: has {small[1]}x{small[0]} pixels, its input makes {full[1] // SCALE}x"
            f"{full[0] // SCALE}: give LR images {SCALE} times smaller than the inputs"
        )
    left, top, side = (length // SCALE for length in (crop.left, crop.top, crop.side))
    return replace(crop, photo=view.lr, left=left, top=top, side=side)


def _recentred(crop: Crop, field_px: NDArray[np.float32], photos: PhotoFiles, rng: np.random.Generator) -> Crop:
    """The crop, moved to a place that a partner shows too."""
    nodes = np.argwhere(np.isfinite(field_px[0]))[:, ::-1] * NODE_PX
    centre = nodes[int(rng.integers(len(nodes)))] + rng.uniform(-0.25, 0.25, 2) * crop.side
    left, top = (
        int(np.clip(middle - crop.side / 2, 0, length - crop.side))
        for middle, length in zip(centre, photos.size_px(crop.photo)[::-1], strict=True)
    )
    return replace(crop, left=left, top=top)


def _same_place(crop: Crop, photo: int, photos: PhotoFiles) -> Crop:
    """The crop at the same relative position in another photo."""
    lengths = zip((crop.top, crop.left), photos.size_px(crop.photo), photos.size_px(photo), strict=True)
    top, left = (round(start / max(1, length - crop.side) * (other - crop.side)) for start, length, other in lengths)
    return replace(crop, photo=photo, left=left, top=top)


def _partner_view(
    crop: Crop, photo: int, field_px: NDArray[np.float32], photos: PhotoFiles, size: int, rng: np.random.Generator
) -> ReferencePlan:
    """A square of a partner around the content of the crop, of similar rotation and scale."""
    matched = verified_points(field_px, crop.left, crop.top, crop.side)
    height, width = photos.size_px(photo)
    side = min(crop.side * 2 ** rng.uniform(-0.4, 0.4), height, width)
    centre = np.median(matched, 0) if len(matched) else np.array((crop.left, crop.top)) + crop.side / 2
    centre = np.clip(centre + rng.uniform(-0.2, 0.2, 2) * side, side / 2, np.array((width, height)) - side / 2)
    turn = crop.view(size)[:2, :2] * size / crop.side @ rotation(rng.uniform(-10, 10))
    view = translation(centre) @ linear(side / size * turn) @ translation(np.full(2, -(size - 1) / 2))
    cells = size // 4
    x, y = np.meshgrid(np.arange(cells) * 4 + 1.5, np.arange(cells) * 4 + 1.5)
    points = project(crop.view(size), np.stack((x.ravel(), y.ravel()), 1))
    seen = (project(np.linalg.inv(view), interpolate_field(field_px, points)) - 1.5) / 4
    seen[~((seen >= 0) & (seen <= cells - 1)).all(1)] = math.nan
    truth = np.ascontiguousarray(seen[:, ::-1].T.reshape(2, cells, cells), dtype=np.float32)
    return ReferencePlan(photo=photo, view=view, motions=(np.eye(3),), truth_cells=truth)
