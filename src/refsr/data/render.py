"""Training batches from plans, on the device that holds the photos.

    crop ── cut-outs in front ──> hr ── degrade, or a crop of a real one ──> lr
    each reference:  crop of a photo ────────────────────┬── light ──> ref
                     or views of planes, back to front ──┘
    truth_cells: position of each LR cell in each reference, (y, x) in cells; NaN where hidden, outside or unknown

All random numbers are in the plans: a plan gives the same pair on every device, within rounding.
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
from refsr.data.sample import Crop, cut, warp
from refsr.data.scene import MAXIMUM_PLANES, coverage, mask_at, stack_geometry, true_cells
from refsr.degrade import degrade
from refsr.device import moved, pick, put
from refsr.resize import stored

Batch = dict[str, Tensor]
_References = Sequence[tuple[PairPlan, ReferencePlan]]
_Rendered = tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 2 h w"]]


def render(plans: Sequence[PairPlan], photos: PhotoSource, size_px: int, scale: int = 4) -> Batch:
    """Render a batch.

    Args:
        plans: At least one.
        photos: The photos that the plans name.
        size_px: Side S of the HR crops.
        scale: Factor between LR and HR.

    Returns:
        On the photos' device: hr (b, 3, S, S) and lr (b, 3, S / scale, S / scale), RGB 0..1, quantised to 8 bits; refs
        (b, n, 3, S, S), n the maximum count of references, at least 1, zero beyond a pair's count; truth_cells
        (b, n, 2, S / 4, S / 4). On the CPU: references (b,), the counts of references; number (b,), the pairs' numbers.
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
        "lr": _with_real(degrade(hr, [plan.degradation for plan in plans], scale), plans, photos),
        "refs": refs,
        "truth_cells": truth,
        "references": torch.tensor([len(plan.references) for plan in plans]),
        "number": torch.tensor([plan.number for plan in plans]),
    }


def _with_real(
    lr: Float[Tensor, "b 3 s s"], plans: Sequence[PairPlan], photos: PhotoSource
) -> Float[Tensor, "b 3 s s"]:
    """LR images, real ones where there are such."""
    real = {row: plan.lr for row, plan in enumerate(plans) if plan.lr is not None}
    cuts = {row: _cut([crop], photos, lr.shape[-1]) for row, crop in real.items()}
    whole = {
        row: cut for row, cut in cuts.items() if photos.replaced.isdisjoint((real[row].photo, plans[row].crop.photo))
    }
    if whole:  # the substitute of a damaged photo shows another place
        put(lr, list(whole), torch.cat(list(whole.values())))
    return lr


def _with_cutouts(
    hr: Float[Tensor, "b 3 s s"], plans: Sequence[PairPlan], photos: PhotoSource, size: int
) -> Float[Tensor, "b 3 s s"]:
    """The crops with the cut-outs in front of them, quantised to 8 bits."""
    for plane in range(MAXIMUM_PLANES):
        in_front = {
            row: (plan.planes.cutouts[plane] or plan.crop, plan.planes.masks[plane])
            for row, plan in enumerate(plans)
            # A plane of the pair's own photo changes the crop only if a cut-out is behind it.
            if plan.planes is not None and any(plan.planes.cutouts[: plane + 1]) and plane < len(plan.planes.masks)
        }
        if not in_front:
            continue
        rows = list(in_front)
        crops, masks = zip(*in_front.values(), strict=True)
        grid = pixel_grid(size, size, hr.device).expand(len(rows), size, size, 2)
        shares = coverage(mask_at(_to_device(np.stack(masks), hr), grid, size))
        put(hr, rows, stored(pick(hr, rows).lerp(_cut(crops, photos, size), shares)))
    return hr


def _references(wanted: _References, photos: PhotoSource, size: int) -> _Rendered:
    """Pictures and true cells of references, in order."""
    device = photos.device
    images = torch.empty((len(wanted), 3, size, size), device=device)
    truth = torch.full((len(wanted), 2, size // 4, size // 4), torch.nan, device=device)
    crops = {row: ref.crop for row, (_, ref) in enumerate(wanted) if ref.crop is not None}
    if crops:
        put(images, list(crops), _cut(list(crops.values()), photos, size))
    for layered in (False, True):
        rows = [row for row, pair in enumerate(wanted) if row not in crops and _is_layered(*pair) == layered]
        if rows:
            made, known = (_layered_views if layered else _flat_views)([wanted[row] for row in rows], photos, size)
            put(images, rows, made)
            put(truth, rows, known)
    given = {
        # The substitute of a damaged view shows another place.
        row: ref.truth_cells
        if photos.replaced.isdisjoint((plan.crop.photo, ref.photo))
        else np.full_like(ref.truth_cells, np.nan)
        for row, (plan, ref) in enumerate(wanted)
        if ref.truth_cells is not None
    }
    if given:
        put(truth, list(given), _to_device(np.stack(list(given.values())), images))
    lit = {row: ref.light for row, (_, ref) in enumerate(wanted) if ref.light is not None}
    if lit:
        put(images, list(lit), relight(pick(images, list(lit)), list(lit.values())))
    rest = [row for row in range(len(wanted)) if row not in lit]
    if rest:
        put(images, rest, stored(pick(images, rest)))
    return images, truth


def _is_layered(plan: PairPlan, reference: ReferencePlan) -> bool:
    """Whether the view takes more than one homography."""
    return reference.relief is not None or (plan.planes is not None and len(reference.motions) > 1)


def _flat_views(wanted: _References, photos: PhotoSource, size: int) -> _Rendered:
    """Views through one homography each."""
    views = [ref.view @ ref.motions[0] for _, ref in wanted]  # type: ignore[operator]
    grid = pixel_grid(size, size, photos.device).expand(len(views), size, size, 2)
    points = project_many(_to_device(np.stack(views), grid), grid)
    inverses = _to_device(np.linalg.inv(np.stack([ref.motions[0] for _, ref in wanted])), grid)
    images = warp([photos[ref.photo] for _, ref in wanted], views, [0.0] * len(views), points)
    return images, true_cells(inverses, size)


def _layered_views(wanted: _References, photos: PhotoSource, size: int) -> _Rendered:
    """Views with planes or relief: each plane is sampled, and blended over those behind it."""
    grid = pixel_grid(size, size, photos.device).expand(len(wanted), size, size, 2)
    geometry = stack_geometry(
        [ref.motions for _, ref in wanted], [plan.planes for plan, _ in wanted], [ref.relief for _, ref in wanted], grid
    )
    places = geometry.crop_places(grid, size)
    images = _plane_views(wanted, 0, geometry.fill_uncovered(places[:, 0], size), photos)
    masks = geometry.mask_values(places[:, 1:], size)
    for plane in range(masks.shape[1]):
        rows = [row for row, (_, ref) in enumerate(wanted) if len(ref.motions) > plane + 1]
        front = _plane_views([wanted[row] for row in rows], plane + 1, pick(places[:, plane + 1], rows), photos)
        put(images, rows, pick(images, rows).lerp(front, coverage(pick(masks[:, plane], rows))))
    return images, geometry.true_cells(size)


def _plane_views(
    wanted: _References, plane: int, places: Float[Tensor, "n s s 2"], photos: PhotoSource
) -> Float[Tensor, "n 3 s s"]:
    """One plane of several references, 0 the photo itself, at places (x, y) of the crop frame."""
    size = places.shape[1]
    shown, views, reaches_px, frames = [], [], [], []
    for plan, ref in wanted:
        cutout = plan.planes.cutouts[plane - 1] if plan.planes is not None and plane else None
        number, frame = (cutout.photo, cutout.view(size)) if cutout is not None else (ref.photo, ref.view)
        assert frame is not None
        moved_px = np.abs(ref.relief.shift_px).max() if ref.relief is not None else 0.0
        if plan.planes is not None and plane == 0:
            moved_px += np.hypot(*plan.planes.fill_px)
        shown.append(photos[number])
        views.append(frame @ ref.motions[plane])
        reaches_px.append(float(moved_px * np.abs(frame[:2, :2]).max()))
        frames.append(frame)
    points = project_many(_to_device(np.stack(frames), places), places)
    return warp(shown, views, reaches_px, points)


def _cut(crops: Sequence[Crop], photos: PhotoSource, size: int) -> Float[Tensor, "n 3 s s"]:
    return cut([photos[crop.photo] for crop in crops], crops, size)


def _to_device(array: NDArray[Any], like: Tensor) -> Tensor:
    """An array as float32 on the device of a tensor."""
    return moved(torch.from_numpy(np.ascontiguousarray(array)).float(), like)
