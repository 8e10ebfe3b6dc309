"""Another light on a reference: each effect against its formula, and the usual one against the one of the pairs."""

import io
import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import texture
from PIL import Image
from torch import Tensor

from refsr.data.light import Light, LightConfig, daylight_gains, draw_light, relight
from refsr.degrade.camera import unit_noise
from refsr.errors import UsageError

EVERYTHING = LightConfig(temperature=0.5, shading=0.5, shadow=0.5, haze=0.5, blur=0.2, noise=0.2, jpeg=0.2)


def drawn(config: LightConfig, count: int, seed: int = 0) -> list[Light]:
    rng = np.random.default_rng(seed)
    return [draw_light(config, rng) for _ in range(count)]


def in_8_bits(images: Tensor) -> Tensor:
    return (images * 255).round() / 255


def jpeg_of_pillow(image: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float() / 255


def one_by_one(ref: Tensor, rng: np.random.Generator) -> Tensor:
    """Exposure, white balance and gamma; now and then a little blur, noise or JPEG: the default in a plain form."""
    gain = torch.from_numpy(2 ** (rng.normal(0, 0.25) + rng.normal(0, 0.06, 3))).float()[:, None, None]
    ref = (ref.clamp_min(1e-4) ** float(2 ** rng.normal(0, 0.2)) * gain).clamp(0, 1)
    artefact = rng.random()
    if artefact < 0.06:
        ref = F.avg_pool2d(ref[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    elif artefact < 0.12:
        ref = ref + torch.from_numpy(rng.normal(0, rng.uniform(0.005, 0.03), ref.shape)).float()
    elif artefact < 0.20:
        ref = jpeg_of_pillow(ref, int(rng.integers(40, 92)))
    return (ref.clamp(0, 1) * 255).round() / 255


def test_the_default_has_the_distribution_of_a_plain_form() -> None:
    grey = torch.tensor([0.4, 0.45, 0.1]).view(3, 1, 1).expand(3, 2, 2)
    rng = np.random.default_rng(0)
    usual = torch.stack([one_by_one(grey, rng) for _ in range(4000)])
    here = relight(grey.expand(4000, 3, 2, 2), drawn(LightConfig(), 4000))
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        both = [light[..., 0, 0].quantile(share, 0) for light in (usual, here)]
        torch.testing.assert_close(both[0], both[1], atol=0.025, rtol=0.05)
    white_balance = [(light[:, 0, 0, 0] / light[:, 1, 0, 0]).log2().std() for light in (usual, here)]
    torch.testing.assert_close(white_balance[0], white_balance[1], atol=0.0, rtol=0.1)


def test_lights_are_drawn_with_their_shares() -> None:
    lights = drawn(LightConfig(), 5000)
    artefacts: Counter[str] = Counter(light.artefact for light in lights)
    for artefact, share in (("blur", 0.06), ("noise", 0.06), ("jpeg", 0.08), ("none", 0.80)):
        assert artefacts[artefact] / 5000 == pytest.approx(share, abs=0.015)
    assert {light.quality for light in lights if light.artefact == "jpeg"} == set(range(40, 92))
    assert np.std([light.gamma_log2 for light in lights]) == pytest.approx(0.2, rel=0.05)
    gains = np.array([light.gains_log2 for light in lights])
    assert gains.mean(1).std() == pytest.approx(math.hypot(0.25, 0.06 / math.sqrt(3)), rel=0.05)
    assert (gains[:, 0] - gains[:, 1]).std() == pytest.approx(0.06 * math.sqrt(2), rel=0.05)
    assert all(light.kelvin == 6504 and not light.shading_log2 + light.shadow + light.haze for light in lights)
    many = drawn(EVERYTHING, 3000)
    for count in (
        sum(light.kelvin != 6504 for light in many),
        sum(light.shading_log2 > 0 for light in many),
        sum(light.shadow > 0 for light in many),
        sum(light.haze > 0 for light in many),
        sum(light.shadow_blob for light in many) * 2,
    ):
        assert count / 3000 == pytest.approx(0.5, abs=0.05)
    assert {0.3 <= light.shadow <= 0.8 for light in many if light.shadow} == {True}
    assert {4000 <= light.kelvin <= 12000 for light in many} == {True}
    assert {0.005 <= light.noise <= 0.03 for light in many if light.artefact == "noise"} == {True}


def test_drawing_depends_on_the_seed_alone_and_takes_a_fixed_count_of_random_numbers() -> None:
    assert drawn(EVERYTHING, 20, 3) == drawn(EVERYTHING, 20, 3) != drawn(EVERYTHING, 20, 4)
    after = set()
    for config in (LightConfig(), EVERYTHING, LightConfig(blur=1.0, noise=0.0, jpeg=0.0)):
        rng = np.random.default_rng(1)
        draw_light(config, rng)
        after.add(rng.random())
    assert len(after) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shadow": 2.0}, "shadow is 2.0: give a share"),
        ({"gamma_log2": -1.0}, "gamma_log2 is -1.0: give a standard deviation"),
        ({"jpeg": 0.95}, "blur, noise, jpeg add up to 1.07"),
        ({"kelvin": (9000.0, 5000.0)}, "kelvin is 9000.0..5000.0: give the lower limit first"),
        ({"quality": (0, 50)}, "quality is 0..50"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        LightConfig(**settings)


def test_no_light_changes_nothing_but_the_rounding() -> None:
    images = texture(20, 30)
    torch.testing.assert_close(relight(images, [Light()]), in_8_bits(images))


def test_exposure_white_balance_and_gamma() -> None:
    images = texture(12, 16)
    light = Light(gains_log2=(0.3, 0.1, -0.4), gamma_log2=0.25)
    gains = torch.tensor([2**0.3, 2**0.1, 2**-0.4]).view(3, 1, 1)
    expected = (images.clamp_min(1e-4) ** 2**0.25 * gains).clamp(0, 1)
    torch.testing.assert_close(relight(images, [light]), in_8_bits(expected), atol=1.1 / 255, rtol=0)


def test_daylight_is_red_when_warm_and_blue_when_cold() -> None:
    assert daylight_gains(6504.0) == (1.0, 1.0, 1.0)
    red, green, blue = zip(
        *(daylight_gains(kelvin) for kelvin in (4000.0, 5000.0, 6000.0, 7500.0, 12000.0)), strict=True
    )
    assert list(red) == sorted(red, reverse=True)
    assert list(blue) == sorted(blue)
    assert set(green) == {1.0}
    assert red[2] > 1 > red[3]
    assert 1.1 < red[0] < 1.4
    assert daylight_gains(6503.0) == pytest.approx((1, 1, 1), abs=1e-3)
    seen = relight(torch.full((1, 3, 4, 4), 0.5), [Light(kelvin=5000.0)])[0, :, 0, 0]
    torch.testing.assert_close(seen, 0.5 * torch.tensor(daylight_gains(5000.0)), atol=1 / 255, rtol=0)


def test_shading_is_a_slope_of_octaves() -> None:
    lights = [Light(shading_log2=0.8, shading_degrees=degrees) for degrees in (0.0, 90.0, 180.0)]
    seen = relight(torch.full((3, 3, 40, 60), 0.4), lights)
    x = (torch.arange(60) + 0.5) / 60 - 0.5
    torch.testing.assert_close(seen[0, 0, 7], 0.4 * 2 ** (0.8 * x), atol=1 / 255, rtol=0)
    torch.testing.assert_close(seen[2], seen[0].flip(-1), atol=1 / 255, rtol=0)
    assert seen[1, 0, 39, 0] > seen[1, 0, 0, 0]
    assert torch.equal(seen[1, 0, :, 0], seen[1, 0, :, 59])


def test_a_shadow_darkens_one_side_of_its_edge() -> None:
    light = Light(shadow=0.6, shadow_degrees=0.0, shadow_offset=0.1, shadow_soft=0.05)
    seen = relight(torch.full((1, 3, 10, 200), 0.5), [light])[0, 0, 3]
    assert seen[:100].sub(0.5).abs().max() < 0.01
    assert seen[140:].sub(0.2).abs().max() < 0.01
    assert (seen.diff() <= 0).all()
    inside = ((seen > 0.21) & (seen < 0.49)).sum()
    assert 5 <= inside <= 15


def test_a_shadow_of_irregular_shape_depends_on_its_seed() -> None:
    lights = [Light(shadow=0.6, shadow_blob=True, shadow_seed=seed, shadow_soft=0.1) for seed in (1, 2, 1)]
    seen = relight(torch.full((3, 3, 64, 48), 0.5), lights)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    for one in seen[:2, 0]:
        assert one.min() < 0.21
        assert one.max() > 0.49
        assert 0.1 < (one < 0.35).float().mean() < 0.9


def test_haze_is_a_blend_with_grey() -> None:
    light = Light(haze=0.4, haze_slope=0.5, haze_degrees=90.0, haze_grey=0.9)
    images = texture(50, 20)
    share = 0.4 * (1 - 0.5 * (0.5 - ((torch.arange(50) + 0.5) / 50 - 0.5)))[:, None]
    expected = images * (1 - share) + 0.9 * share
    torch.testing.assert_close(relight(images, [light]), expected, atol=0.6 / 255, rtol=0)


def test_artefacts_are_blur_noise_or_jpeg() -> None:
    images = in_8_bits(texture(24, 33)).expand(4, -1, -1, -1)
    lights = [
        Light(artefact="blur"), Light(artefact="noise", noise=0.02, noise_seed=5),
        Light(artefact="jpeg", quality=60), Light(),
    ]  # fmt: skip
    seen = relight(images, lights)
    soft = F.avg_pool2d(images[:1], 3, stride=1, padding=1, count_include_pad=False)
    noisy = (images[:1] + 0.02 * unit_noise([5], images[:1])).clamp(0, 1)
    for result, expected in zip(seen, (soft, noisy), strict=False):
        torch.testing.assert_close(result, in_8_bits(expected)[0], atol=1.1 / 255, rtol=0)
    assert (seen[2] - jpeg_of_pillow(images[2], 60)).abs().mean() * 255 < 0.05
    torch.testing.assert_close(seen[3], images[3])


def test_a_picture_does_not_depend_on_the_others() -> None:
    images = torch.cat([texture(21, 34, seed) for seed in range(12)])
    lights = drawn(EVERYTHING, 12)
    together = relight(images, lights)
    assert together.shape == images.shape
    assert torch.equal(together, in_8_bits(together))
    assert together.min() >= 0
    assert together.max() <= 1
    for row, light in enumerate(lights):
        assert torch.equal(relight(images[row : row + 1], [light])[0], together[row])


def test_everything_happens_on_the_device_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without memory refuses numbers of any other, and cannot be asked for a result."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    assert relight(torch.zeros(24, 3, 16, 20, device="meta"), drawn(EVERYTHING, 24)).is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pictures() -> None:
    images, lights = torch.cat([texture(40, 50, seed) for seed in range(12)]), drawn(EVERYTHING, 12)
    assert (relight(images.cuda(), lights).cpu() - relight(images, lights)).abs().mean() * 255 < 0.05


def test_black_pictures_and_empty_batches() -> None:
    plain = replace(EVERYTHING, haze=0.0, blur=0.0, noise=0.0, jpeg=0.0)
    assert relight(torch.zeros(6, 3, 8, 8), drawn(plain, 6)).max() <= 2 / 255
    assert relight(torch.zeros(0, 3, 8, 8), []).shape == (0, 3, 8, 8)
    with pytest.raises(UsageError, match="0 lights for 2 pictures: give one for each"):
        relight(torch.zeros(2, 3, 8, 8), [])
