"""A blurry photo and sharp references in, a sharp photo out.

    image ── as_photo ────────────────> lr ──┐                   ┌──> provenance
    refs ── as_photo ── find_pose ── posed ──┴─ encode ── match ─┴─ transfer in tiles ──> sr ── Photo
The search sees whole references; only `transfer`, whose receptive field is small, is tiled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from refsr.device import GIB, Precision, autocast
from refsr.errors import ImageError, MemoryBudgetError
from refsr.io.photo import ImageSource, Photo, as_photo, write_photo
from refsr.io.progress import Progress, silent, stage_of
from refsr.models import RefSRModel, load_model
from refsr.references.choose import FoundReference
from refsr.references.pose import find_pose
from refsr.references.variants import Origin, Variant, VariantConfig, make_variants, transform
from refsr.resize import upscale_bicubic
from refsr.restore.pipeline import Matched, encode, match
from refsr.restore.provenance import Provenance
from refsr.restore.tiles import plan_memory, too_little, transfer_tiled
from refsr.search import Engine, Match, strongest

DEFAULT_MEMORY_BYTES = 2 * GIB
_MINIMUM_REFERENCE_CELLS = 3

AnyReference = ImageSource | Photo | FoundReference
"""A sharp picture, or one that was found in a folder, with its pose."""


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """The result.

    Attributes:
        photo: The enlarged picture, with the input's alpha, bits, EXIF and ICC profile.
        provenance: Origin of its detail; its `used_levels` only if asked for.
        unfit: Names of references that were not used because they show other things.
        notes: Lines for the user about what was not read of the pictures.
    """

    photo: Photo
    provenance: Provenance
    unfit: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_pil(self) -> Image.Image:
        """The picture as an 8-bit PIL image."""
        return self.photo.to_pil()

    def save(self, path: str | Path) -> None:
        """Write the picture; see `refsr.io.photo.write_photo`."""
        write_photo(Path(path), self.photo)

    def save_provenance(self, path: str | Path) -> None:
        """Write the map; see `refsr.restore.provenance.Provenance.save`.

        Raises:
            UsageError: `upscale` was called with provenance=False.
        """
        self.provenance.save(Path(path), self.to_pil())


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """Settings of `upscale` that a whole job shares; see there."""

    engine: Engine = "auto"
    precision: Precision = "auto"
    memory_bytes: int = DEFAULT_MEMORY_BYTES

    def upscale(self, image: ImageSource | Photo, refs: Sequence[AnyReference] = (), **others: Any) -> Upscaled:
        """`upscale` with these settings, and others by name."""
        how = {name: getattr(self, name) for name in ("engine", "precision", "memory_bytes")}
        return upscale(image, refs, **how, **others)


def upscale(
    image: ImageSource | Photo,
    refs: Sequence[AnyReference] = (),
    *,
    model: RefSRModel | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    variants: VariantConfig | None = None,
    engine: Engine = "auto",
    precision: Precision = "auto",
    provenance: bool = True,
    progress: Progress = silent,
) -> Upscaled:
    """Enlarge a picture with the help of sharp pictures of something similar, or without any.

    Args:
        image: The blurry picture: path, PIL image, array, tensor or `Photo`; at least 8 pixels a side.
        refs: Sharp pictures, each at least 12 pixels a side, of any sizes, in any order. References found in a folder
            are not read again, and keep their pose.
        model: From `load_model`; by default the default model.
        memory_bytes: Working memory allowed beside the program and the pictures as given; large pictures are restored
            in tiles.
        variants: Scaled and rotated copies of the references to search beside them. By default, the pose of each
            reference is estimated, for models whose matches tell it.
        engine: Search engine: see `refsr.search`.
        precision: Precision of the restoring network. bf16 takes half the time where the device computes it, and
            changes the result by 0.01 dB. Matching is always in fp32.
        provenance: Also measure how much the references changed each cell, by restoring it a second time without them.
        progress: Told the finished share of the stages "matching" and "restoring".

    Raises:
        ImageError: A picture cannot be read or used.
        MemoryBudgetError: The work does not fit the budget, or the machine.
    """
    model = model or load_model()
    photo = _take(image, "image")
    names = tuple(_name(ref, index) for index, ref in enumerate(refs))

    try:
        with torch.inference_mode():
            lr = _filled(photo).to(model.device)
            taken = [_take_reference(model, ref, name) for ref, name in zip(refs, names, strict=True)]
            notes = tuple(note for each in (photo, *taken) for note in each.notes)
            pool = _pool(model, lr, refs, [ref.pixels for ref in taken], variants)
            del taken
            origins = [variant.origin for variant in pool]
            images = [variant.image for variant in pool]
            del pool
            plan = plan_memory(model, photo.size_px, [image.shape[-2:] for image in images], memory_bytes)
            matched = Matched(lr=lr)
            if images:
                matched = match(
                    model,
                    encode(model, lr, _let_go(images)),
                    engine=engine,
                    memory_bytes=plan.search_bytes,
                    progress=stage_of(progress, "matching"),
                )
            with autocast(model.device, precision):
                sr, used = transfer_tiled(
                    model, matched, plan.tile, measure=provenance, progress=stage_of(progress, "restoring")
                )
            alpha = None if photo.alpha is None else upscale_bicubic(photo.alpha, model.scale)
    except MemoryBudgetError as error:
        if error.minimum_search_bytes is None:
            raise
        needed = memory_bytes - plan.search_bytes + error.minimum_search_bytes
        raise too_little(photo.size_px, len(origins), needed, memory_bytes) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        height, width = photo.size_px
        raise MemoryBudgetError(
            f"out of memory while enlarging {width}x{height} pixels: close other programs, or use smaller pictures"
        ) from error
    fitting = {origin.reference for origin in origins}
    return Upscaled(
        photo=replace(photo, pixels=sr, alpha=alpha),
        provenance=_provenance(model, photo.size_px, used, matched.matches, origins, names),
        unfit=tuple(name for index, name in enumerate(names) if model.uses_references and index not in fitting),
        notes=notes,
    )


def _pool(
    model: RefSRModel,
    lr: Float[Tensor, "1 3 h w"],
    refs: Sequence[AnyReference],
    taken: Sequence[Float[Tensor, "1 3 _ _"]],
    variants: VariantConfig | None,
) -> list[Variant]:
    """References to search: the copies of each, or each in its pose if it fits."""
    found: list[Variant] = []
    if not model.uses_references:
        return []
    for index, (ref, pixels) in enumerate(zip(refs, taken, strict=True)):
        if variants is not None or not model.matches_tell_the_pose:
            found += make_variants(pixels, index, variants or VariantConfig())
            continue
        pose = ref.pose if isinstance(ref, FoundReference) else find_pose(model, lr, pixels)
        if pose is not None:
            found.append(transform(pixels, index, pose.scale, pose.degrees))
    return found


def _let_go(images: list[Float[Tensor, "1 3 _ _"]]) -> Iterator[Float[Tensor, "1 3 _ _"]]:
    """Images one by one, each removed from the list."""
    while images:
        yield images.pop(0)


def _provenance(
    model: RefSRModel,
    size: tuple[int, int],
    used_levels: Float[Tensor, "h w"] | None,
    matches: Sequence[Match],
    origins: Sequence[Origin],
    names: tuple[str, ...],
) -> Provenance:
    if not matches:
        return Provenance(
            reference=torch.full(size, -1),
            position_px=torch.full((2, *size), torch.nan),
            score=torch.zeros(size),
            used_levels=used_levels,
            names=names,
        )
    match = strongest(matches)
    copy = match.reference[0].cpu()
    centre_px = (match.position_cells[0].cpu() + 0.5) * model.cell_px - 0.5
    maps = torch.stack([origin.to_reference for origin in origins])[copy]
    position = torch.einsum("hwij,jhw->ihw", maps[..., :2], centre_px) + maps[..., 2].permute(2, 0, 1)
    return Provenance(
        reference=torch.tensor([origin.reference for origin in origins])[copy],
        position_px=position,
        score=match.score[0, 0].cpu(),
        used_levels=used_levels,
        names=names,
    )


def _take(source: ImageSource | Photo, name: str) -> Photo:
    return source if isinstance(source, Photo) else as_photo(source, name)


def _take_reference(model: RefSRModel, source: AnyReference, name: str) -> Photo:
    ref = source.photo if isinstance(source, FoundReference) else _take(source, name)
    smallest = _MINIMUM_REFERENCE_CELLS * model.cell_px
    if min(ref.size_px) < smallest:
        height, width = ref.size_px
        raise ImageError(f"{name}: {width}x{height} pixels is too small: a reference needs {smallest} a side")
    return ref


def _filled(photo: Photo) -> Float[Tensor, "1 3 h w"]:
    """The colours of a photo; where it is transparent, those of what is visible nearby, so that edges have no rim."""
    if photo.alpha is None:
        return photo.pixels
    return _pull_push(photo.pixels, (photo.alpha > 0).to(photo.pixels))


def _pull_push(pixels: Float[Tensor, "1 3 h w"], known: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Fill unknown pixels from coarser and coarser means of known ones.

    Source: Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.
    """
    if bool((known > 0).all()) or max(pixels.shape[-2:]) == 1:
        return pixels
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    means = F.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = _pull_push(means, (share > 0).to(share))
    fine = F.interpolate(coarse, scale_factor=2)[..., : pixels.shape[-2], : pixels.shape[-1]]
    return torch.where(known > 0, pixels, fine)


def _name(ref: AnyReference, index: int) -> str:
    if isinstance(ref, FoundReference):
        return str(ref.path)
    return str(ref) if isinstance(ref, str | Path) else f"reference {index + 1}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator failed; the CPU's raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
