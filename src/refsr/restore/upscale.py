"""A blurry photo and sharp references in, a sharp photo out.

image ── as_photo ── shrunk where it is soft ──> lr ──┬─ condition ── weights ──┐            ┌──> provenance
                                                       └─────────────────────────┼─ run_passes ─┴──> sr ── Photo
refs ── as_photo ── posed_references ───────────────────────────────────────────┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refsr import __version__
from refsr.device import Precision
from refsr.errors import ImageError, MemoryBudgetError, UsageError
from refsr.io.mark import Mark, marked
from refsr.io.metadata import Metadata
from refsr.io.photo import ImageSource, Photo, as_photo, write_photo
from refsr.io.progress import Progress, silent
from refsr.models import Blend, RefSRModel
from refsr.references.choose import FoundReference
from refsr.references.pose import Pose
from refsr.references.variants import VariantConfig
from refsr.resize import resize
from refsr.restore.condition import CLEAN, Condition, Quality, check_quality, measure_condition, share_of_real
from refsr.restore.delicate import find_delicate
from refsr.restore.passes import PassConfig, run_passes
from refsr.restore.posed import posed_references
from refsr.restore.provenance import Provenance
from refsr.restore.size import asked_px, passes
from refsr.restore.tiles import Gentle
from refsr.restore.transparency import filled
from refsr.search import Engine

_MINIMUM_REFERENCE_CELLS = 3

AnyReference = ImageSource | Photo | FoundReference
"""A sharp picture, or one that was found in a folder, with its pose."""


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """The result.

    Attributes:
        photo: The enlarged picture, with the input's alpha, bits, EXIF and ICC profile.
        provenance: Origin of its detail; its `used_levels` only if asked for.
        unfit: References that were not used, with the reason of each, such as "shows other things than the photo".
        notes: Lines for the user: what was not read of the pictures, or not done.
        condition: Blur, noise and compression of the photo, as measured.
        real_share: Share of the weights for real photographs, 0..1, by which it was restored.
        texture: Share of the crisp weights, 0..1.
        is_restored: False for a photo that is as sharp as its size allows, and was left as it is, or reduced.
    """

    photo: Photo
    provenance: Provenance
    unfit: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    condition: Condition = CLEAN
    real_share: float = 0.0
    texture: float = 0.0
    is_restored: bool = True

    @property
    def seen(self) -> str:
        """A line for the user: the photo's condition, and what was made of it."""
        weights = {0.0: "as a clean photo", 1.0: "as a real photo"}.get(
            self.real_share, f"with {self.real_share:.0%} of the weights for real photos"
        )
        crisper = f", {self.texture:.0%} crisper" if self.texture else ""
        return f"{self.condition}: {f'restored {weights}{crisper}' if self.is_restored else 'not restored'}"

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
class RestoreConfig(PassConfig):
    """Settings of `upscale` that a whole job shares; see there.

    Attributes:
        scale: Size of the result as a multiple of the picture's, 1 to 8: 1 sharpens a soft picture, 4 is the default.
        size: Width and height into which the result must fit, in place of a scale.
        quality: What the photo is taken for: clean, real (blurred, noisy or compressed), or what is measured.
        denoise: Share of the weights for real photographs, 0..1, in place of a quality: 0 keeps grain, 1 removes it.
        texture: Share of the crisp weights, 0..1: 0 stays faithful where nothing is known, 1 looks sharper.
    """

    scale: int | float | None = None
    size: tuple[int, int] | None = None
    quality: Quality = "auto"
    denoise: int | float | None = None
    texture: int | float = 0

    def result_px(self, photo: Photo, model: Blend) -> tuple[int, int]:
        """Height and width of the result; see `refsr.restore.size.asked_px`."""
        return asked_px(photo.size_px, model.clean.scale, self.scale, self.size)

    def upscale(self, image: ImageSource | Photo, refs: Sequence[AnyReference] = (), **others: Any) -> Upscaled:
        """`upscale` with these settings, and others by name."""
        how = {each.name: getattr(self, each.name) for each in fields(RestoreConfig)}
        return upscale(image, refs, **how | others)


def upscale(
    image: ImageSource | Photo,
    refs: Sequence[AnyReference] = (),
    *,
    model: RefSRModel | Blend | None = None,
    scale: int | float | None = None,
    size: tuple[int, int] | None = None,
    quality: Quality = "auto",
    denoise: int | float | None = None,
    texture: int | float = 0,
    memory_bytes: int | None = None,
    variants: VariantConfig | None = None,
    engine: Engine = "auto",
    precision: Precision = "auto",
    provenance: bool = True,
    progress: Progress = silent,
) -> Upscaled:
    """Enlarge or sharpen a picture with the help of sharp pictures of something similar, or without any.

    Args:
        image: The blurry picture: path, PIL image, array, tensor or `Photo`; at least 8 pixels a side.
        refs: Sharp pictures, each at least 12 pixels a side, of any sizes, in any order. References found in a folder
            are not read again, and keep their pose.
        model: From `load_model`, or by default the blend of the default models, from `load_blend`.
        scale: Size of the result as a multiple of the picture's, 1 to 8; by default the model's, 4. Up to it, a soft
            picture is shrunk first as far as its blur allows, so that 1 sharpens it; beyond it, it is restored twice.
        size: Width and height in pixels into which the result must fit, in place of a scale.
        quality: What the photo is taken for: "clean", "real" (blurred, noisy or compressed), or "auto", by its
            measured condition. Of a blend, it takes the weights for that.
        denoise: Share of the weights for real photographs, 0..1, in place of a quality.
        texture: Share of the blend's crisp weights, 0..1. Where faces or print are likely, which needs OpenCV 4 (the
            extra geometry), the faithful ones are kept.
        memory_bytes: Working memory allowed beside the program and the pictures as given; large pictures are restored
            in parts and tiles. By default a third of the free memory, at least 2 GiB.
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
        UsageError: The scale is below 1 or above 8, the size is too small or too large, both are given, the references
            are no list, or `quality`, `denoise` and `texture` ask for a blend and the model is none, for a share beyond
            0..1, or for two things.
    """
    if isinstance(refs, str | Path | Image.Image | np.ndarray | Tensor | Photo | FoundReference):
        raise UsageError("refs: is one picture, not several: put it into a list, as in [picture]")
    blend = Blend.of(model)
    check_quality(blend, quality, denoise, texture)
    photo = _take(image, "image")
    names = tuple(_name(ref, f"reference {index}") for index, ref in enumerate(refs, 1))
    out_px = asked_px(photo.size_px, blend.clean.scale, scale, size)
    config = PassConfig(engine=engine, precision=precision, memory_bytes=memory_bytes)
    try:
        with torch.inference_mode():
            taken = [_take_reference(blend.clean, ref, name) for ref, name in zip(refs, names, strict=True)]
            notes = [note for each in (photo, *taken) for note in each.notes]
            notes += [
                f"{name}: was made by refsr: detail that was guessed in it is taken for real"
                for name, ref in zip(names, taken, strict=True)
                if ref.is_result
            ]
            pixels = filled(photo).to(blend.clean.device)
            condition = measure_condition(pixels)
            softness = condition.softness(pixels, blend.clean.scale * photo.size_px[0] / out_px[0])
            steps = passes(photo.size_px, out_px, blend.clean.scale, softness)
            is_shrunk = steps and steps[0].lr_px != photo.size_px
            seen = measure_condition(resize(pixels, steps[0].lr_px)) if is_shrunk else condition
            share = share_of_real(seen, quality, denoise)
            restoring = blend.at(share, texture)
            if not steps:
                what = "stays as it is" if out_px == photo.size_px else "is only reduced"
                notes.append(f"the photo is as sharp as its size allows, and {what}")
                taken.clear()
            gentle = None
            delicate = find_delicate(pixels) if texture and steps else None
            if delicate is not None:
                notes.append(delicate.warning)
                gentle = Gentle(model=blend.at(share), mask=delicate.mask)
            posed = posed_references(restoring, pixels, taken, [_pose(ref) for ref in refs[: len(taken)]], variants)
            del taken
            restored = run_passes(
                restoring,
                pixels,
                steps,
                posed,
                softness,
                config,
                names=names,
                gentle=gentle,
                measure=provenance,
                progress=progress,
            )
            sr = resize(restored.sr, out_px).cpu()
            alpha = None if photo.alpha is None else resize(photo.alpha, out_px)
    except MemoryBudgetError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        height, width = photo.size_px
        raise MemoryBudgetError(
            f"out of memory while enlarging {width}x{height} pixels: close other programs, or use smaller pictures"
        ) from error
    unfit = {names[ref.index]: ref.left_out for ref in posed if ref.left_out}
    metadata = _marked(photo, restoring, restored.provenance, unfit) if steps else photo.metadata
    return Upscaled(
        photo=replace(photo, pixels=sr, alpha=alpha, metadata=metadata),
        provenance=restored.provenance,
        unfit=unfit,
        notes=tuple(notes),
        condition=condition,
        real_share=0.0 if blend.is_single else share,
        texture=float(texture),
        is_restored=bool(steps),
    )


def _marked(photo: Photo, model: RefSRModel, provenance: Provenance, unfit: Mapping[str, str]) -> Metadata:
    """The photo's metadata with the mark of the result."""
    used = [name for name in provenance.names if model.uses_references and name not in unfit]
    return marked(
        photo.metadata,
        Mark(
            version=__version__,
            model=f"{model.name} {model.digest()}",
            references={Path(name).name: provenance.shares.get(name) for name in used},
        ),
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


def _name(source: AnyReference, otherwise: str) -> str:
    if isinstance(source, FoundReference):
        return str(source.path)
    return str(source) if isinstance(source, str | Path) else otherwise


def _pose(ref: AnyReference) -> Pose | None:
    return ref.pose if isinstance(ref, FoundReference) else None


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator failed; the CPU's raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
