"""A blurry photo and sharp references in, a sharp photo out.

    image ── as_photo ──> lr ── encode_query ──> query ──┐
    refs ── as_photo, find_pose ─ encode_reference ──> key ── search ──> matches ──> provenance
                                       └───────────> values ──────────────┐ │
                                                     lr ── transfer, tile by tile ──> sr ── Photo
The search always sees whole references; only `transfer`, which looks no further than a halo, is tiled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from refsr.device import Precision, autocast
from refsr.errors import ImageError, MemoryBudgetError
from refsr.io.photo import ImageSource, Photo, as_photo, write_photo
from refsr.models import RefSRModel, load_model
from refsr.models.base import Reference
from refsr.references.pose import find_pose
from refsr.references.variants import Variant, VariantConfig, make_variants
from refsr.resize import pad_to_multiple, upscale_bicubic
from refsr.restore.provenance import Provenance
from refsr.restore.tiles import GIB, search_bytes, tile_cells, transfer_tiled
from refsr.search import Engine, Match, strongest

DEFAULT_MEMORY_BYTES = 2 * GIB
_SMALLEST_REFERENCE_CELLS = 3

StageProgress = Callable[[str, float], None]
"""Called with "matching" or "restoring" and the share of that stage that is done, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """The result.

    Attributes:
        photo: The enlarged picture, with the input's alpha, bits, EXIF and ICC profile.
        provenance: Where its detail came from; how much of it was used only if that was asked for.
        unfit: Names of references that show other things, and were not used.
    """

    photo: Photo
    provenance: Provenance
    unfit: tuple[str, ...] = ()

    def to_pil(self) -> Image.Image:
        """The picture as an 8-bit PIL image."""
        return self.photo.to_pil()

    def save(self, path: str | Path) -> None:
        """Write the picture; see `refsr.io.photo.write_photo`."""
        write_photo(Path(path), self.photo)

    def save_provenance(self, path: str | Path) -> None:
        """Write the map; see `refsr.restore.provenance.Provenance.save`.

        Raises:
            UsageError: It was not asked for.
        """
        self.provenance.save(Path(path), self.to_pil())


def upscale(
    image: ImageSource | Photo,
    refs: Sequence[ImageSource | Photo] = (),
    *,
    model: RefSRModel | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    variants: VariantConfig | None = None,
    engine: Engine = "auto",
    precision: Precision = "auto",
    provenance: bool = True,
    progress: StageProgress | None = None,
) -> Upscaled:
    """Enlarge a picture with the help of sharp pictures of something similar, or without any.

    Args:
        image: The blurry picture: path, PIL image, array, tensor or `Photo`; at least 8 pixels a side.
        refs: Sharp pictures, each at least 12 pixels a side; of any sizes, in any order.
        model: From `load_model`; the default model if none is given.
        memory_bytes: Working memory allowed beside the program and the pictures as given; larger pictures are
            restored in tiles.
        variants: Scaled and rotated copies of the references to search beside them as they are. Without it, each
            reference is turned and scaled as it fits best, for models whose matches tell.
        engine: How the references are searched: see `refsr.search`.
        precision: Of the restoring network; bf16 takes half its time where the device computes it, and changes the
            result by less than can be seen (0.01 dB). Matching is always in fp32.
        provenance: Also measure how much each place owes to the references, by restoring it a second time without.
        progress: Told how far the work has come.

    Raises:
        ImageError: A picture cannot be read or used.
        MemoryBudgetError: The work does not fit the budget, or the machine.
    """
    model = model or load_model()
    photo = _take(image, "image")
    names = tuple(_name(ref, index) for index, ref in enumerate(refs))
    # No name for a single one may outlive the list: large ones are let go as soon as they are encoded.
    refs_px = [_take_reference(model, ref, name) for ref, name in zip(refs, names, strict=True)]
    try:
        with torch.inference_mode():
            pool = _pool(model, photo.pixels.to(model.device), refs_px if model.uses_references else [], variants)
            del refs_px
            fitting = {variant.reference for variant in pool}
            sr, used, matches = _restore(model, photo, pool, engine, precision, memory_bytes, provenance, progress)
            alpha = None if photo.alpha is None else upscale_bicubic(photo.alpha, model.scale)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryBudgetError) or not _is_out_of_memory(error):
            raise
        height, width = photo.size_px
        raise MemoryBudgetError(
            f"out of memory while enlarging {width}x{height} pixels: close other programs, or use smaller pictures"
        ) from error
    origin = _provenance(model, photo.size_px, used, matches, pool, names)
    unfit = tuple(name for index, name in enumerate(names) if index not in fitting) if model.uses_references else ()
    return Upscaled(photo=replace(photo, pixels=sr, alpha=alpha), provenance=origin, unfit=unfit)


def _pool(
    model: RefSRModel,
    lr: Float[Tensor, "1 3 h w"],
    refs: Sequence[Float[Tensor, "1 3 _ _"]],
    variants: VariantConfig | None,
) -> list[Variant]:
    """What is searched."""
    if variants is None and model.matches_tell_the_pose:
        posed = (find_pose(model, lr, ref, index) for index, ref in enumerate(refs))
        return [variant for variant in posed if variant is not None]
    return [
        variant for index, ref in enumerate(refs) for variant in make_variants(ref, index, variants or VariantConfig())
    ]


def _restore(
    model: RefSRModel,
    photo: Photo,
    pool: list[Variant],
    engine: Engine,
    precision: Precision,
    memory_bytes: int,
    measure: bool,
    progress: StageProgress | None,
) -> tuple[Float[Tensor, "1 3 h2 w2"], Float[Tensor, "h w"] | None, Sequence[Match]]:
    """The picture, how much of each cell the references changed if that is to be measured, and the matches.

    The images of the pool are let go as soon as they are encoded.
    """

    def report(stage: str) -> Callable[[float], None]:
        return lambda share: progress(stage, share) if progress else None

    lr = photo.pixels.to(model.device)
    tile = tile_cells(model, photo.size_px, [variant.image.shape[-2:] for variant in pool], memory_bytes)
    references: list[Reference] = []
    matches: Sequence[Match] = ()
    if pool:
        for index, variant in enumerate(pool):
            references.append(model.encode_reference(pad_to_multiple(variant.image, model.cell_px).to(lr)))
            pool[index] = replace(variant, image=lr.new_empty(1, 3, 0, 0))
        del variant
        query = model.encode_query(lr)
        matches = model.search(
            query, references, engine=engine, memory_bytes=search_bytes(memory_bytes), progress=report("matching")
        )
        del query
        references = [replace(reference, key=reference.key.new_empty(1, 0, 0, 0)) for reference in references]
    with autocast(model.device, precision):
        sr, used = transfer_tiled(model, lr, references, matches, tile, measure, report("restoring"))
    return sr, used, matches


def _provenance(
    model: RefSRModel,
    size: tuple[int, int],
    used_levels: Float[Tensor, "h w"] | None,
    matches: Sequence[Match],
    pool: Sequence[Variant],
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
    variant = match.reference[0].cpu()
    centre_px = (match.position_cells[0].cpu() + 0.5) * model.cell_px - 0.5
    maps = torch.stack([v.to_reference for v in pool])[variant]
    position = torch.einsum("hwij,jhw->ihw", maps[..., :2], centre_px) + maps[..., 2].permute(2, 0, 1)
    return Provenance(
        reference=torch.tensor([v.reference for v in pool])[variant],
        position_px=position,
        score=match.score[0, 0].cpu(),
        used_levels=used_levels,
        names=names,
    )


def _take(source: ImageSource | Photo, name: str) -> Photo:
    return source if isinstance(source, Photo) else as_photo(source, name)


def _take_reference(model: RefSRModel, source: ImageSource | Photo, name: str) -> Float[Tensor, "1 3 h w"]:
    ref = _take(source, name)
    smallest = _SMALLEST_REFERENCE_CELLS * model.cell_px
    if min(ref.size_px) < smallest:
        height, width = ref.size_px
        raise ImageError(f"{name}: {width}x{height} pixels is too small: a reference needs {smallest} a side")
    return ref.pixels


def _name(ref: ImageSource | Photo, index: int) -> str:
    return str(ref) if isinstance(ref, str | Path) else f"reference {index + 1}"


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has its own exception; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
