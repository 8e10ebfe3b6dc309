"""Degradation of a batch, its reduction and its codecs; pictures that share a step go through it together."""

import io
from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from refsr.degrade import camera
from refsr.degrade.blur import blur, blur_kernel, gaussian_kernel
from refsr.degrade.jpeg import jpeg
from refsr.degrade.parameters import Degradation, Reduction
from refsr.device import moved, pick, put
from refsr.errors import UsageError
from refsr.resize import downscale_bicubic, stored
from refsr.wording import counted

_LOBES: Final = 3  # of the kernel of Lanczos
_MAXIMUM_SHIFT_PX: Final = 7  # maximum shift of a first JPEG's grid of blocks

Images = Float[Tensor, "b c h w"]
Step = Callable[[Tensor, list[Degradation]], Tensor]


def degrade(hr: Float[Tensor, "b 3 h w"], values: Sequence[Degradation], scale: int = 4) -> Float[Tensor, "b 3 h2 w2"]:
    """Make LR pictures, without gradient; each result is independent of the rest of the batch.

        hr ── light: blur ── reduce ── light: optics, noise, mosaic ── sharpen, tone ── 8 bits ── codecs ──> lr

    Args:
        hr: RGB 0..1, sides multiples of `scale`.
        values: Parameters of each picture.
        scale: Integer factor of reduction.

    Returns:
        RGB 0..1, quantised to 8 bits.

    Raises:
        UsageError: The counts of pictures and parameters differ, or a side is not a multiple of `scale`.
    """
    if len(values) != len(hr):
        raise UsageError(
            f"{counted(len(values), 'degradation')} for {counted(len(hr), 'picture')}: give one for each picture"
        )
    with torch.no_grad(), torch.autocast(hr.device.type, enabled=False):
        lr = _reduce(_apply_where(lambda one: one.blur != "none", _blur, hr, values), values, scale)
        lr = _apply_where(lambda one: _is_noisy(one) or _is_camera(one), _expose, lr, values)
        lr = _apply_where(lambda one: one.sharpen > 0, _sharpen, lr, values)
        lr = _apply_where(lambda one: one.tone != 0, _tone, lr, values)
        lr = stored(lr)
        lr = _apply_where(lambda one: one.first_quality > 0, _first_jpeg, lr, values)
        lr = _apply_where(lambda one: one.codec == "jpeg", _jpeg, lr, values)
        return _apply_where(lambda one: one.codec == "webp", _webp, lr, values)


def _apply_where(
    is_affected: Callable[[Degradation], bool], step: Step, images: Images, values: Sequence[Degradation]
) -> Images:
    """Apply a step to the pictures that it affects, chosen on the CPU so that nothing waits for the device."""
    rows = [row for row, one in enumerate(values) if is_affected(one)]
    if not rows:
        return images
    chosen = [values[row] for row in rows]
    if len(rows) == len(images):
        return step(images, chosen)
    changed = images.clone()
    put(changed, rows, step(pick(images, rows), chosen))
    return changed


def _blur(images: Images, values: list[Degradation]) -> Images:
    """Blur in linear light, where optics and shutter add it up."""
    light = blur(camera.to_linear(images), [blur_kernel(one) for one in values])
    return camera.from_linear(light.clamp(0, 1))


def _reduce(images: Images, values: Sequence[Degradation], scale: int) -> Float[Tensor, "b 3 h2 w2"]:
    groups: dict[Reduction, list[int]] = {}
    for row, one in enumerate(values):
        groups.setdefault(one.reduction, []).append(row)
    height, width = images.shape[-2:]
    lr = images.new_empty(len(images), 3, height // scale, width // scale)
    for kind, rows in groups.items():
        put(lr, rows, reduce(pick(images, rows), "area" if kind == "camera" else kind, scale))
    return lr


def _expose(images: Images, values: list[Degradation]) -> Images:
    """Optics and noise in linear light; for a camera also the mosaic, whose demosaicing correlates the noise."""
    light = blur(camera.to_linear(images), [gaussian_kernel(one.optics_px) for one in values])
    light = _apply_where(_is_noisy, _add_noise, light, values)
    light = _apply_where(_is_camera, lambda part, _: camera.demosaic(camera.mosaic(part)), light, values)
    return camera.from_linear(light.clamp(0, 1))


def _is_noisy(one: Degradation) -> bool:
    return one.shot > 0 or one.read > 0


def _is_camera(one: Degradation) -> bool:
    return one.reduction == "camera"


def _add_noise(light: Images, values: list[Degradation]) -> Images:
    noise = camera.unit_noise([one.noise_seed for one in values], light)
    noise = camera.correlate(noise, [one.grain_px for one in values])
    return camera.add_noise(light, noise, [one.shot for one in values], [one.read for one in values])


def _sharpen(images: Images, values: list[Degradation]) -> Images:
    return camera.sharpen(images, [one.sharpen for one in values], [one.sharpen_px for one in values]).clamp(0, 1)


def _tone(images: Images, values: list[Degradation]) -> Images:
    return camera.tone_curve(images.clamp(0, 1), [one.tone for one in values])


def _first_jpeg(images: Images, values: list[Degradation]) -> Images:
    """JPEG on a shifted grid of blocks: each picture is shifted on a larger canvas, its edges repeated."""
    height, width = images.shape[-2:]
    y, x = (torch.tensor([getattr(one, name) for one in values]) for name in ("first_y_px", "first_x_px"))
    canvas = _gather(
        images,
        (torch.arange(height + _MAXIMUM_SHIFT_PX) - y[:, None]).clamp(0, height - 1),
        (torch.arange(width + _MAXIMUM_SHIFT_PX) - x[:, None]).clamp(0, width - 1),
    )
    coded = jpeg(canvas, [one.first_quality for one in values], [one.subsampled for one in values])
    return _gather(coded, torch.arange(height) + y[:, None], torch.arange(width) + x[:, None])


def _gather(images: Images, rows: Int[Tensor, "b h2"], columns: Int[Tensor, "b w2"]) -> Float[Tensor, "b c h2 w2"]:
    picture = torch.arange(len(images))[:, None, None, None]
    colour = torch.arange(images.shape[1])[:, None, None]
    places = (moved(part, images) for part in (picture, colour, rows[:, None, :, None], columns[:, None, None]))
    return images[tuple(places)]


def _webp(images: Images, values: list[Degradation]) -> Images:
    return webp(images, [one.quality for one in values])


def _jpeg(images: Images, values: list[Degradation]) -> Images:
    return jpeg(images, [one.quality for one in values], [one.subsampled for one in values])


def webp(images: Float[Tensor, "b 3 h w"], qualities: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
    """Compress RGB pictures 0..1 as lossy WebP and decode them, by Pillow on the CPU; a GPU has to wait.

    Pictures are quantised to 8 bits before and after; qualities are 1..100, one per picture.
    """
    levels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    read = []
    for pixels, quality in zip(levels, qualities, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", quality=quality)
        read.append(torch.from_numpy(np.array(Image.open(buffer).convert("RGB"))))
    return (torch.stack(read).permute(0, 3, 1, 2).float() / 255).to(images.device)


def reduce(
    images: Float[Tensor, "b c h w"], kind: Literal["bicubic", "area", "lanczos"], scale: int
) -> Float[Tensor, "b c h2 w2"]:
    """Reduce pictures.

    Args:
        images: 0..1.
        kind: "bicubic", "area" (mean of each square, Pillow's BOX), or "lanczos" (three lobes, antialiased).
        scale: Integer factor.

    Raises:
        UsageError: A side is not a multiple of `scale`.
    """
    height, width = images.shape[-2:]
    if height % scale or width % scale:
        raise UsageError(f"{width}x{height} is no multiple of {scale}: crop or pad the image first")
    if kind == "bicubic":
        return downscale_bicubic(images, scale)
    if kind == "area":
        return F.avg_pool2d(images, scale)
    return _lanczos_rows(_lanczos_rows(images, scale).mT, scale).mT.contiguous()


def _lanczos_rows(images: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h w2"]:
    """Reduce the width. With an integer factor all windows have equal weights; at the border, as in Pillow, the weights
    outside are left out and the others normalised."""
    margin = 5 * scale // 2
    offset = (torch.arange(-margin, margin + scale, dtype=torch.float64) + 0.5) / scale - 0.5
    weights = torch.sinc(offset) * torch.sinc(offset / _LOBES)
    total = _windows(torch.ones(images.shape[-1], dtype=torch.float64), margin, scale) @ weights
    windows = _windows(images, margin, scale)
    product = (windows.reshape(-1, len(weights)) @ moved(weights.to(images.dtype), images)).view(windows.shape[:-1])
    return (product / moved(total.to(images.dtype), images)).clamp(0, 1)


def _windows(rows: Float[Tensor, "*n w"], margin: int, scale: int) -> Float[Tensor, "*n w2 k"]:
    return F.pad(rows, (margin, margin)).unfold(-1, 2 * margin + scale, scale)
