"""The way from a photograph to the picture that people have: each step against a plain implementation."""

import io
import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import texture
from PIL import Image
from scipy import ndimage, signal
from torch import Tensor

from refsr.degrade import CLEAN, Degradation, DegradeConfig, blur, blur_kernel, degrade, draw, jpeg, reduce
from refsr.degrade.apply import webp
from refsr.degrade.blur import gaussian_kernel, mirror, motion_kernel
from refsr.degrade.camera import (
    add_noise,
    correlate,
    demosaic,
    from_linear,
    mosaic,
    sharpen,
    to_linear,
    tone_curve,
    unit_noise,
)
from refsr.errors import UsageError
from refsr.resize import downscale_bicubic

EVERYTHING = DegradeConfig(clean=0.0)


def batch(count: int, height: int, width: int) -> Tensor:
    return torch.cat([texture(height, width, seed) for seed in range(count)])


def drawn(config: DegradeConfig, count: int, seed: int = 0) -> list[Degradation]:
    rng = np.random.default_rng(seed)
    return [draw(config, rng) for _ in range(count)]


def pixels(images: Tensor) -> np.ndarray:
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


def in_8_bits(images: Tensor) -> Tensor:
    return (images * 255).round() / 255


def test_kinds_are_drawn_with_their_shares() -> None:
    values = drawn(replace(EVERYTHING, webp=0.25), 4000)
    blurs, reductions, codecs = (Counter(getattr(one, n) for one in values) for n in ("blur", "reduction", "codec"))
    for count, share in (
        (blurs["gaussian"], 0.20), (blurs["anisotropic"], 0.15), (blurs["disc"], 0.15), (blurs["line"], 0.10),
        (blurs["curve"], 0.15), (blurs["none"], 0.25), (reductions["bicubic"], 0.35), (reductions["area"], 0.20),
        (reductions["lanczos"], 0.15), (reductions["camera"], 0.30), (codecs["none"], 0.30), (codecs["jpeg"], 0.525),
        (codecs["webp"], 0.175), (sum(one.shot > 0 for one in values), 0.6),
        (sum(one.grain_px > 0 for one in values), 0.6 * 0.4 * 0.7), (sum(one.sharpen > 0 for one in values), 0.3),
        (sum(one.tone != 0 for one in values), 0.2), (sum(one.first_quality > 0 for one in values), 0.7 * 0.2),
    ):  # fmt: skip
        assert count / 4000 == pytest.approx(share, abs=0.03)
    assert np.mean([one == CLEAN for one in drawn(DegradeConfig(clean=0.4), 1000)]) == pytest.approx(0.4, abs=0.05)
    assert set(drawn(DegradeConfig(), 50)) == {CLEAN}


def test_drawn_values_fill_their_ranges() -> None:
    values = drawn(EVERYTHING, 4000)
    for kinds, name, (low, high) in (
        (("gaussian", "anisotropic"), "blur_px", EVERYTHING.gaussian_px),
        (("disc",), "blur_px", EVERYTHING.disc_px),
        (("line", "curve"), "blur_px", EVERYTHING.motion_px),
        (("anisotropic",), "blur_ratio", EVERYTHING.ratio),
        (("curve",), "blur_bend_degrees", EVERYTHING.bend_degrees),
        (("curve",), "blur_sway_degrees", EVERYTHING.sway_degrees),
    ):
        numbers = [getattr(one, name) for one in values if one.blur in kinds]
        assert low <= min(numbers) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(numbers) <= high
    for name, (low, high) in (("shot", EVERYTHING.shot), ("read", EVERYTHING.read)):
        levels = np.log([getattr(one, name) for one in values if one.shot > 0])
        assert np.log(low) - 1e-9 <= levels.min() <= levels.max() <= np.log(high) + 1e-9
        assert levels.mean() == pytest.approx(np.log(low * high) / 2, abs=0.1)
    assert {one.quality for one in values if one.codec == "jpeg"} == set(range(20, 96))
    assert {one.first_x_px for one in values} == {one.first_y_px for one in values} == set(range(8))


def test_drawing_depends_on_the_seed_alone_and_takes_a_fixed_count_of_random_numbers() -> None:
    assert drawn(EVERYTHING, 20, 3) == drawn(EVERYTHING, 20, 3) != drawn(EVERYTHING, 20, 4)
    after = set()
    for config in (DegradeConfig(), EVERYTHING, DegradeConfig(clean=0.0, noise=0.0, compress=0.0, gaussian=0.0)):
        rng = np.random.default_rng(1)
        draw(config, rng)
        after.add(rng.random())
    assert len(after) == 1


def test_values_are_plain_numbers_and_words() -> None:
    for one in drawn(EVERYTHING, 30):
        assert {type(getattr(one, field.name)) for field in fields(one)} <= {float, int, str, bool}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clean": 1.5}, "clean is 1.5: give a share"),
        ({"noise": -0.1}, "noise is -0.1: give a share"),
        ({"webp": math.nan}, "webp is nan: give a share"),
        ({"gaussian": 0.9}, "gaussian, anisotropic, disc, line, curve add up to 1.45"),
        ({"area": 0.9}, "area, lanczos, camera add up to 1.35"),
        ({"disc_px": (4.0, 2.0)}, "disc_px is 4.0..2.0: give the lower limit first"),
        ({"shot": (0.0, 1e-2)}, "shot is 0.0..0.01"),
        ({"quality": (20, 101)}, "quality is 20..101"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        DegradeConfig(**settings)


def test_blur_is_that_of_scipy() -> None:
    images = batch(5, 45, 60)
    values = [
        Degradation(blur="gaussian", blur_px=1.3),
        Degradation(blur="none"),
        Degradation(blur="anisotropic", blur_px=4.0, blur_ratio=0.4, blur_degrees=30.0),
        Degradation(blur="curve", blur_px=20.0, blur_degrees=70.0, blur_bend_degrees=120.0, blur_sway_degrees=30.0),
        Degradation(blur="disc", blur_px=5.5),
    ]
    kernels = [blur_kernel(one) for one in values]
    blurred = blur(images, kernels)
    assert torch.equal(blurred[1], images[1])
    for image, kernel, result in zip(images, kernels, blurred, strict=True):
        for plane, seen in zip(image.numpy(), result.numpy(), strict=True):
            expected = ndimage.convolve(plane.astype(np.float64), kernel.numpy(), mode="mirror")
            np.testing.assert_allclose(seen, expected, atol=2e-6)
    whole = signal.convolve(images[3, 0].numpy(), kernels[3].numpy(), mode="valid")
    reach = len(kernels[3]) // 2
    np.testing.assert_allclose(blurred[3, 0, reach:-reach, reach:-reach].numpy(), whole, atol=2e-6)
    gaussian = ndimage.gaussian_filter(images[0, 0].numpy(), 1.3, mode="mirror", radius=4)
    np.testing.assert_allclose(blurred[0, 0].numpy(), gaussian, atol=2e-6)


def test_pictures_without_blur_are_the_same() -> None:
    images = batch(2, 20, 20)
    assert torch.equal(blur(images, [torch.ones(1, 1)] * 2), images)


def test_pictures_smaller_than_the_margin_are_mirrored_repeatedly() -> None:
    images = batch(2, 3, 5)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (8, 8), (8, 8)), mode="reflect")
    np.testing.assert_array_equal(mirror(images, 8).numpy(), expected)
    assert torch.equal(mirror(images[..., :1, :1], 2), images[..., :1, :1].expand(2, 3, 5, 5))
    kernel = gaussian_kernel(3.0)
    plane = ndimage.convolve(images[0, 0].numpy(), kernel.numpy(), mode="mirror")
    np.testing.assert_allclose(blur(images, [kernel] * 2)[0, 0].numpy(), plane, atol=2e-6)


def test_kernels_are_odd_and_sum_to_one() -> None:
    for one in drawn(EVERYTHING, 200):
        kernel = blur_kernel(one)
        assert kernel.shape[0] == kernel.shape[1]
        assert len(kernel) % 2 == 1
        assert len(kernel) <= 2 * math.ceil(max(3 * one.blur_px, 1)) + 1
        assert kernel.min() >= 0
        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)


def moments(kernel: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass and covariance, (y, x)."""
    weights = kernel.double().numpy()
    places = np.mgrid[: len(weights), : len(weights)].reshape(2, -1) - len(weights) // 2
    centre = places @ weights.ravel()
    return centre, (places - centre[:, None]) * weights.ravel() @ (places - centre[:, None]).T


def test_kernels_are_as_wide_as_they_say() -> None:
    centre, spread = moments(blur_kernel(Degradation(blur="disc", blur_px=6.0)))
    np.testing.assert_allclose(centre, 0, atol=1e-6)
    np.testing.assert_allclose(spread, np.eye(2) * 9, atol=0.2)  # of a disc: a quarter of the radius squared
    for degrees in (0.0, 30.0, 90.0):
        along = np.array([math.sin(math.radians(degrees)), math.cos(math.radians(degrees))])
        across = along[::-1] * (1, -1)
        centre, spread = moments(motion_kernel(24.0, degrees))
        np.testing.assert_allclose(centre, 0, atol=1e-3)
        assert along @ spread @ along == pytest.approx(24.0**2 / 12, rel=0.01)
        assert across @ spread @ across < 0.3
        _, spread = moments(gaussian_kernel(4.0, 0.5, degrees))
        assert along @ spread @ along == pytest.approx(16, rel=0.05)
        assert across @ spread @ across == pytest.approx(4, rel=0.05)


def test_a_bent_path_is_as_wide_as_its_arc() -> None:
    radius = 12.0
    kernel = motion_kernel(radius * math.pi / 2, 0.0, 90.0)
    # Variance of a quarter of a circle along its chord, and across.
    _, spread = moments(kernel)
    assert spread[1, 1] == pytest.approx(radius**2 * (0.5 - 1 / math.pi), rel=0.03)
    assert spread[0, 0] == pytest.approx(radius**2 * (0.5 + 1 / math.pi - 8 / math.pi**2), abs=0.25)
    np.testing.assert_allclose(moments(kernel)[0], 0, atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
@pytest.mark.parametrize(("kind", "filtering"), [("area", "BOX"), ("lanczos", "LANCZOS"), ("bicubic", "BICUBIC")])
def test_reductions_are_those_of_pillow(kind: Any, filtering: str, scale: int) -> None:
    images = in_8_bits(torch.cat((texture(60, 120), (texture(60, 120, 1) > 0.5).float())))
    small = reduce(images, kind, scale)
    for seen, image in zip(small, pixels(images), strict=True):
        resized = Image.fromarray(image).resize((120 // scale, 60 // scale), Image.Resampling[filtering])
        expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        assert (seen * 255 - expected).abs().max() < 1.6  # Pillow rounds to 8 bits after each direction


def test_reductions_need_whole_factors() -> None:
    with pytest.raises(UsageError, match="no multiple of 4"):
        reduce(torch.zeros(1, 3, 8, 10), "area", 4)


def test_srgb_follows_the_standard() -> None:
    levels = torch.linspace(0, 1, 256).view(1, 1, 1, -1)
    plain = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels.flatten().tolist()]
    np.testing.assert_allclose(to_linear(levels).flatten().numpy(), plain, atol=1e-6)
    plain = [12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in levels.flatten().tolist()]
    np.testing.assert_allclose(from_linear(levels).flatten().numpy(), plain, atol=1e-6)
    assert (from_linear(to_linear(levels)) - levels).abs().max() < 1e-5


def naive_demosaic(seen: np.ndarray) -> np.ndarray:
    """Malvar's formulas: the mean of the neighbours of the colour, and a share of the Laplacian of the pixel's own."""
    height, width = seen.shape
    padded = np.pad(seen, 2, mode="reflect")
    result = np.zeros((3, height, width))
    for y in range(height):
        for x in range(width):
            p = {(j, i): padded[y + 2 + j, x + 2 + i] for j in range(-2, 3) for i in range(-2, 3)}
            here = p[0, 0]
            beside, above = (p[0, -1] + p[0, 1]) / 2, (p[-1, 0] + p[1, 0]) / 2
            corners = (p[-1, -1] + p[-1, 1] + p[1, -1] + p[1, 1]) / 4
            far_beside, far_above = (p[0, -2] + p[0, 2]) / 2, (p[-2, 0] + p[2, 0]) / 2
            far = (far_beside + far_above) / 2
            if y % 2 == x % 2:
                own, other = (0, 2) if y % 2 == 0 else (2, 0)
                result[own, y, x] = here
                result[1, y, x] = (beside + above) / 2 + (here - far) / 2
                result[other, y, x] = corners + 0.75 * (here - far)
            else:
                row, column = (0, 2) if y % 2 == 0 else (2, 0)
                result[1, y, x] = here
                result[row, y, x] = beside + (5 * here - 4 * corners - 2 * far_beside + far_above) / 8
                result[column, y, x] = above + (5 * here - 4 * corners - 2 * far_above + far_beside) / 8
    return result


@pytest.mark.parametrize(("height", "width"), [(8, 10), (7, 9), (5, 6)])
def test_mosaic_and_demosaic_equal_a_naive_loop(height: int, width: int) -> None:
    light = batch(2, height, width)
    seen = mosaic(light)
    for y in range(height):
        for x in range(width):
            assert torch.equal(seen[:, 0, y, x], light[:, y % 2 + x % 2, y, x])
    for one, result in zip(seen, demosaic(seen), strict=True):
        np.testing.assert_allclose(result.numpy(), naive_demosaic(one[0].double().numpy()), atol=1e-6)


def test_a_grey_picture_survives_the_mosaic() -> None:
    grey = torch.full((1, 3, 9, 8), 0.3)
    torch.testing.assert_close(demosaic(mosaic(grey)), grey)


def test_noise_has_its_variance() -> None:
    light = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(1, 1, 4, 1).expand(2, 3, 4, 20000)
    shots, reads = [0.01, 0.0], [0.02, 0.1]
    noisy = add_noise(light, unit_noise([1, 2], light), shots, reads)
    for one, shot, read in zip(noisy - light, shots, reads, strict=True):
        for row, signal_level in zip(one.permute(1, 0, 2).flatten(1), (0.0, 0.1, 0.5, 1.0), strict=True):
            assert row.mean().item() == pytest.approx(0, abs=0.002)
            assert row.var().item() == pytest.approx(shot * signal_level + read**2, rel=0.03)


def test_noise_depends_on_its_seed_alone() -> None:
    like = torch.zeros(3, 3, 20, 30)
    noise = unit_noise([5, 6, 5], like)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(unit_noise([6], like[:1])[0], noise[1])


def test_grain_is_correlated_and_of_variance_one() -> None:
    noise = unit_noise([1, 2], torch.zeros(2, 3, 200, 200))
    grain = correlate(noise, [0.0, 0.8])
    assert torch.equal(grain[0], noise[0])
    inside = grain[1, :, 4:-4, 4:-4]
    assert inside.var().item() == pytest.approx(1, rel=0.03)
    kernel = gaussian_kernel(0.8).double()
    expected = (kernel[:, 1:] * kernel[:, :-1]).sum() / kernel.square().sum()
    assert (inside[..., 1:] * inside[..., :-1]).mean().item() == pytest.approx(expected.item(), abs=0.02)


def test_the_tone_curve_is_an_s_that_keeps_its_order() -> None:
    ramp = torch.linspace(0, 1, 101).view(1, 1, 1, -1).expand(3, -1, -1, -1)
    curved = tone_curve(ramp, [0.8, -1.0, 0.0])
    assert torch.equal(curved[2], ramp[2])
    assert (curved.diff(dim=-1) >= 0).all()
    torch.testing.assert_close(curved[..., [0, 50, 100]], ramp[..., [0, 50, 100]])
    assert curved[0, 0, 0, 25] < 0.25 < curved[1, 0, 0, 25]
    assert curved[0, 0, 0, 25].item() == pytest.approx(0.2 * 0.25 + 0.8 * (3 * 0.25**2 - 2 * 0.25**3))


def test_sharpening_is_an_unsharp_mask() -> None:
    images = batch(2, 30, 31)
    sharp = sharpen(images, [1.5, 0.0], [1.0, 0.7])
    soft = ndimage.gaussian_filter(images[0, 1].numpy(), 1.0, mode="mirror", radius=3)
    np.testing.assert_allclose(sharp[0, 1].numpy(), images[0, 1].numpy() * 2.5 - 1.5 * soft, atol=1e-5)
    assert torch.equal(sharp[1], images[1])


def saved(images: Tensor, quality: int, form: str, **settings: Any) -> Tensor:
    read = []
    for image in pixels(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, form, quality=quality, **settings)
        read.append(torch.from_numpy(np.array(Image.open(buffer).convert("RGB"))))
    return torch.stack(read).permute(0, 3, 1, 2).float() / 255


def jpeg_subjects(sample: dict[str, Tensor]) -> list[Tensor]:
    photo = in_8_bits(sample["truth"][..., :120, :131])
    dark, noise = torch.zeros(1, 3, 17, 33), in_8_bits(torch.rand(1, 3, 40, 40))
    return [
        photo,
        *(in_8_bits(texture(*size)) for size in ((64, 80), (41, 37), (50, 52), (3, 4), (16, 1))),
        dark,
        noise,
    ]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("quality", [1, 20, 37, 49, 50, 62, 75, 88, 95, 100])
def test_jpeg_is_that_of_pillow(sample: dict[str, Tensor], quality: int, half: bool) -> None:
    """libjpeg-turbo's integers, bit by bit. Other builds of libjpeg may round otherwise: a few levels are let pass."""
    for images in jpeg_subjects(sample):
        difference = (
            jpeg(images, [quality], [half]) - saved(images, quality, "JPEG", subsampling=2 * half)
        ).abs() * 255
        assert difference.mean() < 0.01
        assert (difference > 0.5).float().mean() < 0.001


def test_each_picture_has_its_own_jpeg() -> None:
    images = in_8_bits(batch(4, 33, 47))
    qualities, halves = [20, 95, 60, 60], [True, False, False, True]
    for image, quality, half, seen in zip(images, qualities, halves, jpeg(images, qualities, halves), strict=True):
        assert torch.equal(seen, jpeg(image[None], [quality], [half])[0])
    with pytest.raises(UsageError, match="between 1 and 100"):
        jpeg(images, [0, 1, 2, 3], halves)


def test_webp_is_that_of_pillow() -> None:
    images = in_8_bits(batch(2, 20, 31))
    seen = webp(images, [30, 80])
    for row, quality in enumerate((30, 80)):
        assert torch.equal(seen[row : row + 1], saved(images[row : row + 1], quality, "WEBP"))


def test_clean_is_bicubic() -> None:
    hr = batch(3, 40, 48)
    assert torch.equal(degrade(hr, [CLEAN] * 3), (downscale_bicubic(hr, 4) * 255).round() / 255)
    assert torch.equal(degrade(hr, [CLEAN] * 3, 2), (downscale_bicubic(hr, 2) * 255).round() / 255)


def test_a_picture_does_not_depend_on_the_others() -> None:
    values = [*drawn(replace(EVERYTHING, webp=0.2, twice=0.5), 23), CLEAN]
    hr = batch(24, 64, 80)
    together = degrade(hr, values)
    assert together.shape == (24, 3, 16, 20)
    assert torch.equal(together, in_8_bits(together))
    for row, one in enumerate(values):
        assert torch.equal(degrade(hr[row : row + 1], [one]), together[row : row + 1]), one
    order = list(range(23, -1, -1))
    assert torch.equal(degrade(hr[order], [values[row] for row in order]), together[order])


def test_the_input_is_not_changed() -> None:
    hr = batch(8, 32, 32)
    before = hr.clone()
    first = degrade(hr, drawn(EVERYTHING, 8))
    assert torch.equal(hr, before)
    assert torch.equal(degrade(hr, drawn(EVERYTHING, 8)), first)
    assert not torch.equal(degrade(hr, drawn(EVERYTHING, 8, 1)), first)


def test_degrading_equals_its_steps_one_by_one() -> None:
    """The same picture by hand, one step after the other."""
    one = Degradation(
        blur="disc", blur_px=2.5, reduction="camera", optics_px=0.4, shot=1e-3, read=5e-3, noise_seed=7, sharpen=0.8,
        sharpen_px=0.9, tone=0.4, first_quality=40, first_y_px=3, first_x_px=5, codec="jpeg", quality=70,
        subsampled=True,
    )  # fmt: skip
    hr = texture(96, 128)
    light = blur(to_linear(hr), [blur_kernel(one)])
    lr = reduce(from_linear(light.clamp(0, 1)), "area", 4)
    light = blur(to_linear(lr), [gaussian_kernel(0.4)])
    light = demosaic(mosaic(add_noise(light, unit_noise([7], light), [1e-3], [5e-3])))
    lr = sharpen(from_linear(light.clamp(0, 1)), [0.8], [0.9]).clamp(0, 1)
    lr = in_8_bits(tone_curve(lr, [0.4]).clamp(0, 1))
    moved = torch.nn.functional.pad(lr, (5, 2, 3, 4), mode="replicate")
    lr = saved(saved(moved, 40, "JPEG", subsampling=2)[..., 3:27, 5:37], 70, "JPEG", subsampling=2)
    difference = (degrade(hr, [one]) - lr).abs() * 255
    assert difference.mean() < 0.05


def test_each_step_changes_the_picture() -> None:
    hr = batch(1, 64, 64)
    clean = degrade(hr, [CLEAN])
    for change in (
        {"blur": "gaussian", "blur_px": 2.0}, {"reduction": "area"}, {"reduction": "lanczos"}, {"reduction": "camera"},
        {"shot": 1e-2}, {"read": 1e-2}, {"sharpen": 1.0, "sharpen_px": 1.0}, {"tone": 0.5},
        {"codec": "jpeg", "quality": 40}, {"codec": "webp", "quality": 40}, {"first_quality": 30},
    ):  # fmt: skip
        changed: dict[str, Any] = dict(change)
        assert 0.1 < (degrade(hr, [Degradation(**changed)]) - clean).abs().mean() * 255 < 40, change


def test_black_stays_black_without_noise() -> None:
    black = torch.zeros(16, 3, 32, 32)
    for share, level in ((0.0, 0), (1.0, 5)):  # JPEG has no exact black at every quality
        values = drawn(replace(EVERYTHING, noise=0.0, compress=share), 16)
        assert degrade(black, values).max() * 255 <= level


def test_tiny_pictures_and_empty_batches() -> None:
    lr = degrade(batch(12, 8, 12), drawn(EVERYTHING, 12))
    assert lr.shape == (12, 3, 2, 3)
    assert lr.isfinite().all()
    assert degrade(torch.zeros(0, 3, 8, 8), []).shape == (0, 3, 2, 2)


def test_degrading_needs_a_value_for_each_picture() -> None:
    with pytest.raises(UsageError, match="1 degradation for 2 pictures: give one for each picture"):
        degrade(torch.zeros(2, 3, 8, 8), [CLEAN])
    with pytest.raises(UsageError, match="no multiple of 4"):
        degrade(torch.zeros(1, 3, 8, 10), [CLEAN])


def test_everything_happens_on_the_device_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without memory refuses numbers of any other, and cannot be asked for a result."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    for count in (2, 24):
        lr = degrade(torch.zeros(count, 3, 16, 20, device="meta"), drawn(replace(EVERYTHING, twice=0.5), count))
        assert lr.is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pictures() -> None:
    hr, values = batch(24, 64, 80), drawn(replace(EVERYTHING, twice=0.5), 24)
    assert (degrade(hr.cuda(), values).cpu() - degrade(hr, values)).abs().mean() * 255 < 0.05


def test_mixed_precision_leaves_pictures_exact() -> None:
    hr, values = batch(8, 32, 32).requires_grad_(), drawn(EVERYTHING, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = degrade(hr, values)
    assert torch.equal(inside, degrade(hr, values))
    assert not inside.requires_grad
