"""Pairs made of their plans, a batch at a time, on the device that holds the photographs.

    crop ──────────────> (cut-outs before it) ──> hr ── degrade ──> lr
    each reference:  square ─────────────────────────────┬── light ──> ref
                     or, front to back, planes' views ────┘
    truth_cells: where each LR cell lies in each reference, (y, x) in cells; NaN where hidden, outside or not known
Random numbers are in the plans: the same plan gives the same pair on any device, within rounding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from refsr.data.geometry import pixel_grid, project_many
from refsr.data.light import relight
from refsr.data.photos import PhotoSource
from refsr.data.plan import PairPlan, ReferencePlan
from refsr.data.sample import Crop, View, cut, warp
from refsr.data.scene import PLANES, coverage, mask_at, stack_geometry, true_cells
from refsr.degrade import degrade
from refsr.device import moved, pick, put
from refsr.resize import stored

Batch = dict[str, Tensor]


def render(plans: Sequence[PairPlan], photos: PhotoSource, size_px: int, scale: int = 4) -> Batch:
    """Make a batch.

    Args:
        plans: At least one.
        photos: That they name.
        size_px: Side of the crops.
        scale: Between LR and HR.

    Returns:
        On the photographs' device: hr (b, 3, S, S) and lr (b, 3, S / scale, S / scale), RGB 0..1 in 256 steps; refs
        (b, n, 3, S, S), n the largest count of the batch or 1, zero beyond each pair's count; truth_cells (b, n, 2, S /
        4, S / 4). On the CPU: references (b,), how many there are; number (b,), the pairs' own.
    """
    hr = _with_cutouts(_cut([plan.crop for plan in plans], photos, size_px), plans, photos, size_px)
    wanted = [(plan, reference) for plan in plans for reference in plan.references]
    most = max(1, *(len(plan.references) for plan in plans))
    refs = hr.new_zeros((len(plans), most, 3, size_px, size_px))
    truth = hr.new_full((len(plans), most, 2, size_px // 4, size_px // 4), torch.nan)
    if wanted:
        images, truths = _references(wanted, photos, size_px)
        slots = [place * most + slot for place, plan in enumerate(plans) for slot in range(len(plan.references))]
        put(refs.flatten(0, 1), slots, images)
        put(truth.flatten(0, 1), slots, truths)
    return {
        "hr": hr,
        "lr": degrade(hr, [plan.degradation for plan in plans], scale),
        "refs": refs,
        "truth_cells": truth,
        "references": torch.tensor([len(plan.references) for plan in plans]),
        "number": torch.tensor([plan.number for plan in plans]),
    }


def _with_cutouts(
    hr: Float[Tensor, "b 3 s s"], plans: Sequence[PairPlan], photos: PhotoSource, size: int
) -> Float[Tensor, "b 3 s s"]:
    """The crops with what stands before them; the result has 256 steps again."""
    for plane in range(PLANES):
        before = {
            place: (plan.planes.cutouts[plane] or plan.crop, plan.planes.masks[plane])
            for place, plan in enumerate(plans)
            # A plane of the pair's own photograph shows what is there already, but where a cut-out is behind it.
            if plan.planes is not None and any(plan.planes.cutouts[: plane + 1]) and plane < len(plan.planes.masks)
        }
        if not before:
            continue
        places = list(before)
        crops, masks = zip(*before.values(), strict=True)
        grid = pixel_grid(size, size, hr.device).expand(len(places), size, size, 2)
        shares = coverage(mask_at(_placed(np.stack(masks), hr), grid, size))
        mixed = pick(hr, places).lerp(_cut(crops, photos, size), shares)
        put(hr, places, stored(mixed))
    return hr


def _references(
    wanted: Sequence[tuple[PairPlan, ReferencePlan]], photos: PhotoSource, size: int
) -> tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 2 h w"]]:
    """Pictures and truths, in order."""
    device = photos.device
    images = torch.empty((len(wanted), 3, size, size), device=device)
    truth = torch.full((len(wanted), 2, size // 4, size // 4), torch.nan, device=device)
    squares = {place: ref.crop for place, (_, ref) in enumerate(wanted) if ref.crop is not None}
    if squares:
        put(images, list(squares), _cut(list(squares.values()), photos, size))
    for deep in (False, True):
        alike = [place for place, both in enumerate(wanted) if place not in squares and _is_deep(*both) == deep]
        if alike:
            made, known = (_deep_views if deep else _flat_views)([wanted[place] for place in alike], photos, size)
            put(images, alike, made)
            put(truth, alike, known)
    given = {
        # What stands in for a damaged view shows another place.
        place: ref.truth_cells
        if photos.replaced.isdisjoint((plan.crop.photo, ref.photo))
        else np.full_like(ref.truth_cells, np.nan)
        for place, (plan, ref) in enumerate(wanted)
        if ref.truth_cells is not None
    }
    if given:
        put(truth, list(given), _placed(np.stack(list(given.values())), images))
    lit = {place: ref.light for place, (_, ref) in enumerate(wanted) if ref.light is not None}
    if lit:
        put(images, list(lit), relight(pick(images, list(lit)), list(lit.values())))
    rest = [place for place in range(len(wanted)) if place not in lit]
    if rest:
        put(images, rest, stored(pick(images, rest)))
    return images, truth


def _is_deep(plan: PairPlan, reference: ReferencePlan) -> bool:
    """Whether one homography is not enough."""
    return reference.relief is not None or (plan.planes is not None and len(reference.motions) > 1)


def _flat_views(
    wanted: Sequence[tuple[PairPlan, ReferencePlan]], photos: PhotoSource, size: int
) -> tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 2 h w"]]:
    """Views through one homography each."""
    views = [View(photo=ref.photo, matrix=ref.view @ ref.motions[0]) for _, ref in wanted]  # type: ignore[operator]
    grid = pixel_grid(size, size, photos.device).expand(len(views), size, size, 2)
    points = project_many(_placed(np.stack([view.matrix for view in views]), grid), grid)
    backwards = _placed(np.linalg.inv(np.stack([ref.motions[0] for _, ref in wanted])), grid)
    return warp([photos[view.photo] for view in views], views, points), true_cells(backwards, size)


def _deep_views(
    wanted: Sequence[tuple[PairPlan, ReferencePlan]], photos: PhotoSource, size: int
) -> tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 2 h w"]]:
    """Views with planes before them, or with relief: each plane is sampled, and laid over what is behind it."""
    grid = pixel_grid(size, size, photos.device).expand(len(wanted), size, size, 2)
    geometry = stack_geometry(
        [ref.motions for _, ref in wanted], [plan.planes for plan, _ in wanted], [ref.relief for _, ref in wanted], grid
    )
    places = geometry.places(grid, size)
    background = geometry.filled(places[:, 0], size)
    images = _plane_views(wanted, 0, background, photos)
    shares = geometry.covers(places[:, 1:], size)
    for plane in range(shares.shape[1]):
        shown = [place for place, (_, ref) in enumerate(wanted) if len(ref.motions) > plane + 1]
        before = _plane_views([wanted[n] for n in shown], plane + 1, pick(places[:, plane + 1], shown), photos)
        share = coverage(pick(shares[:, plane], shown))
        put(images, shown, pick(images, shown).lerp(before, share))
    return images, geometry.true_cells(size)


def _plane_views(
    wanted: Sequence[tuple[PairPlan, ReferencePlan]], plane: int, places: Float[Tensor, "n s s 2"], photos: PhotoSource
) -> Float[Tensor, "n 3 s s"]:
    """One plane of several references, 0 the photograph itself.

    Args:
        wanted: Pairs and references.
        plane: Its number.
        places: Of each pixel in the crop frame.
        photos: That they show.
    """
    size = places.shape[1]
    views, frames = [], []
    for plan, ref in wanted:
        cutout = plan.planes.cutouts[plane - 1] if plan.planes is not None and plane else None
        number, frame = (cutout.photo, cutout.view(size)) if cutout is not None else (ref.photo, ref.view)
        assert frame is not None
        moved_px = np.abs(ref.relief.shift_px).max() if ref.relief is not None else 0.0
        if plan.planes is not None and plane == 0:
            moved_px += np.hypot(*plan.planes.fill_px)
        reach_px = float(moved_px * np.abs(frame[:2, :2]).max())
        views.append(View(photo=number, matrix=frame @ ref.motions[plane], reach_px=reach_px))
        frames.append(frame)
    points = project_many(_placed(np.stack(frames), places), places)
    return warp([photos[view.photo] for view in views], views, points)


def _cut(crops: Sequence[Crop], photos: PhotoSource, size: int) -> Float[Tensor, "n 3 s s"]:
    return cut([photos[crop.photo] for crop in crops], crops, size)


def _placed(array: NDArray[Any], like: Tensor) -> Tensor:
    """Numbers of the plans, on the device."""
    return moved(torch.from_numpy(np.ascontiguousarray(array)).float(), like)
