"""The losses: known values, zero where they must be zero, gradients against finite differences."""

import pytest
import torch
import torch.nn.functional as F
from conftest import texture
from torch import Tensor, nn

from refsr.errors import UsageError
from refsr.models.vgg import VGG19
from refsr.resize import downscale_bicubic
from refsr.training.losses import (
    TEXTURE_LEVELS,
    Critic,
    TextureLoss,
    adversarial,
    back_projection,
    charbonnier,
    critic_loss,
    dissimilarity,
    frequency,
    gram,
    grid,
    perceptual,
    reconstruction,
    viewed_alike,
)


@pytest.fixture(scope="module")
def vgg() -> VGG19:
    """Small and random, with activations of the size that trained ones have."""
    torch.manual_seed(0)
    return VGG19("relu3_1").double()


def pair(size: int = 16) -> tuple[Tensor, Tensor]:
    return torch.cat([texture(size, size, s) for s in (0, 1)]).double(), torch.cat(
        [texture(size, size, s) for s in (2, 3)]
    ).double()


def test_known_values() -> None:
    hr = torch.full((2, 3, 8, 8), 0.25)
    sr = hr.clone()
    sr[0] += 0.5
    assert torch.allclose(reconstruction(sr, hr), torch.tensor([0.5, 0.0]))
    assert torch.allclose(charbonnier(sr, hr, 0.01), torch.tensor([(0.25 + 1e-4) ** 0.5, 0.01]))
    # A constant difference is in the zero frequency alone: 0.5 * 64 / 8 in one of 8 * 5 coefficients.
    assert torch.allclose(frequency(sr, hr), torch.tensor([0.5 * 8 / 40, 0.0]), atol=1e-6)
    assert torch.allclose(back_projection(sr, downscale_bicubic(hr, 4), 4), torch.tensor([0.5, 0.0]), atol=1e-6)


def test_each_picture_has_its_own_loss(vgg: VGG19) -> None:
    sr, hr = pair()
    torch.manual_seed(0)
    critic = Critic(32, width=2).double()
    large = [F.interpolate(x, scale_factor=2) for x in (sr, hr)]
    between = torch.tensor([0.3, 0.8], dtype=torch.float64)
    for whole, parts in (
        (reconstruction(sr, hr), [reconstruction(sr[b : b + 1], hr[b : b + 1]) for b in (0, 1)]),
        (
            perceptual(sr, hr, vgg, "relu2_1"),
            [perceptual(sr[b : b + 1], hr[b : b + 1], vgg, "relu2_1") for b in (0, 1)],
        ),
        (
            critic_loss(critic, large[0], large[1], between),
            [critic_loss(critic, large[0][b : b + 1], large[1][b : b + 1], between[b : b + 1]) for b in (0, 1)],
        ),
    ):
        assert torch.allclose(whole, torch.cat(parts))


def test_losses_of_perfect_results_are_zero(vgg: VGG19) -> None:
    sr, _ = pair()
    for loss in (reconstruction, frequency):
        assert not loss(sr, sr).any()
    assert not perceptual(sr, sr, vgg, "relu3_1").any()
    assert back_projection(sr, downscale_bicubic(sr, 4), 4).abs().max() < 1e-12
    score = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    loss = TextureLoss(vgg).double()
    assert loss(sr, vgg(sr, TEXTURE_LEVELS), score).abs().max() < 1e-20
    assert not grid(sr, sr, 4).any()
    large = texture(96, 96).double()
    assert dissimilarity(large, large).abs().max() < 1e-12


def test_dissimilarity_is_that_of_four_scales() -> None:
    """SSIM by scikit-image, of pictures reduced by means."""
    skimage = pytest.importorskip("skimage.metrics")
    sr, hr = texture(96, 104, 1).double(), texture(96, 104, 2).double()
    expected = 0.0
    for scale in range(4):
        first, second = (F.avg_pool2d(image, 2**scale)[0].permute(1, 2, 0).numpy() for image in (sr, hr))
        _, full = skimage.structural_similarity(
            first, second, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        expected += (1 - full[5:-5, 5:-5].mean()) / 4
    assert dissimilarity(sr, hr).item() == pytest.approx(expected, rel=1e-6)


def test_a_grid_is_told_from_texture() -> None:
    """The same pattern in all cells counts with its size, one of changing signs with nothing."""
    hr = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    pattern = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
    everywhere = pattern.repeat(16).expand(64, 64)
    signs = torch.tensor([1.0, -1.0]).double().repeat_interleave(4).repeat(8)  # of each cell
    assert grid(hr + 0.1 * everywhere, hr, 4).item() == pytest.approx(0.1)
    assert grid(hr + 0.1 * everywhere * signs, hr, 4).item() == pytest.approx(0, abs=1e-12)
    shifted = hr.clone()
    shifted[:, 0, :32, :32] += 0.2  # a shift of one colour in a quarter of the picture
    assert grid(shifted, hr, 4).item() == pytest.approx(0.2 / 4 / 3)


def test_pairs_are_viewed_alike_each_its_own_way() -> None:
    """Coordinates as pictures tell where each view looks: a window inside, turned and magnified, of both the same."""
    size = 32
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    sr, hr = torch.stack((y, x, 0 * x)).repeat(12, 1, 1, 1), torch.stack((x, y, x + y)).repeat(12, 1, 1, 1)
    first, second = viewed_alike(sr, hr, torch.arange(12))
    assert torch.allclose(first[:, :2].flip(1), second[:, :2], atol=1e-9)
    inside = first[:, :2, 8:-8, 8:-8]  # where bicubic interpolation sees no border
    assert inside.min() > 0
    assert inside.max() < size - 1
    down, right = (inside.diff(dim=axis).mean((2, 3)) for axis in (2, 3))  # of y and x, a step
    share = down.norm(dim=1)
    assert torch.allclose(right.norm(dim=1), share, atol=0.01)
    assert torch.allclose(down[:, 0], right[:, 1], atol=0.01)
    assert torch.allclose(down[:, 1], -right[:, 0], atol=0.01)
    assert share.min() > 0.49
    assert share.max() < 1.01
    turns = torch.rad2deg(torch.atan2(right[:, 0], right[:, 1]))
    assert turns.abs().max() < 46
    assert turns.std() > 10
    alone = viewed_alike(sr[3:4], hr[3:4], torch.tensor([3]))
    assert torch.equal(alone[0], first[3:4])


def test_gram_against_a_naive_loop() -> None:
    maps = torch.rand(1, 3, 4, 5)
    expected = [[(maps[0, i] * maps[0, j]).sum() for j in range(3)] for i in range(3)]
    assert torch.allclose(gram(maps)[0], torch.tensor(expected))


def test_texture_against_the_formula(vgg: VGG19) -> None:
    sr, other = pair()
    swapped = vgg(other, TEXTURE_LEVELS)
    score = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    loss = TextureLoss(vgg).double()
    expected = torch.zeros(2, dtype=torch.float64)
    for level, maps in enumerate(vgg(sr, TEXTURE_LEVELS)):
        for b in range(2):
            weight = torch.sigmoid(10 * score[b, 0] - 6)
            weight = (weight / weight.mean()).repeat_interleave(2**level, 0).repeat_interleave(2**level, 1)
            first, second = ((m[b] * weight).flatten(1) for m in (maps, swapped[level]))
            channels, size = first.shape
            distance = ((first @ first.T - second @ second.T) ** 2).sum()
            expected[b] += distance / (4 * (size * channels) ** 2) / 3
    assert torch.allclose(loss(sr, swapped, score), expected)


def test_texture_loss_does_not_depend_on_the_place() -> None:
    """Moving the swapped texture about changes nothing, as long as all scores are alike; another texture does."""
    torch.manual_seed(0)
    vgg = VGG19("relu3_1").double()
    sr, other = pair(32)
    swapped = [maps.roll((2**level * 2, 0), (2, 3)) for level, maps in enumerate(vgg(sr, TEXTURE_LEVELS))]
    score = torch.full((2, 1, 8, 8), 0.7, dtype=torch.float64)
    loss = TextureLoss(vgg).double()
    moved, foreign = loss(sr, swapped, score), loss(sr, vgg(other, TEXTURE_LEVELS), score)
    assert moved.max() < 1e-9 * foreign.min()


def test_good_matches_weigh_more(vgg: VGG19) -> None:
    """A wrong texture costs more where the score says that it was found."""
    sr, other = pair(32)
    right, wrong = vgg(sr, TEXTURE_LEVELS), vgg(other, TEXTURE_LEVELS)
    half = [
        torch.cat((a[..., : a.shape[-1] // 2], b[..., b.shape[-1] // 2 :]), -1)
        for a, b in zip(wrong, right, strict=True)
    ]
    score = torch.full((2, 1, 8, 8), 0.3, dtype=torch.float64)
    score[..., :4] = 0.9
    loss = TextureLoss(vgg).double()
    assert (loss(sr, half, score) > loss(sr, half, score.flip(-1))).all()
    total = loss(sr, half, score).sum()
    total.backward()
    assert loss.slope.grad is not None
    assert loss.slope.grad.abs() > 0


def finite_difference(function: object, x: Tensor, places: int = 12) -> None:
    """The gradient of a sum agrees with central differences at some places."""
    assert callable(function)
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    step = 1e-6
    for place in torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0))[:places].tolist():
        move = torch.zeros_like(x).flatten()
        move[place] = step
        with torch.no_grad():
            up, down = (function(x + sign * move.view_as(x)).sum().item() for sign in (1, -1))
        assert gradient.flatten()[place].item() == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-9)


def test_gradients_against_finite_differences(vgg: VGG19) -> None:
    sr, hr = pair()
    lr = downscale_bicubic(hr, 4)
    score = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    swapped = vgg(hr, TEXTURE_LEVELS)
    loss = TextureLoss(vgg).double()
    torch.manual_seed(0)
    critic = Critic(32, width=2).double()
    for function in (
        lambda x: reconstruction(x, hr),
        lambda x: charbonnier(x, hr),
        lambda x: frequency(x, hr),
        lambda x: perceptual(x, hr, vgg, "relu3_1"),
        lambda x: back_projection(x, lr, 4),
        lambda x: loss(x, swapped, score),
        lambda x: grid(x, hr, 4),
        lambda x: dissimilarity(F.interpolate(x, scale_factor=6), F.interpolate(hr, scale_factor=6)),
        lambda x: adversarial(critic, F.interpolate(x, scale_factor=2)),
    ):
        finite_difference(function, sr)


class Linear(nn.Module):
    """A critic whose slope is known: the same everywhere."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.flatten(1).sum(1)


def test_the_gradient_penalty_takes_the_norm_over_whole_pictures() -> None:
    """critic(x) = s * sum(x) over 768 numbers has a slope of s * sqrt(768); taken per pixel it would be s * sqrt(3)."""
    sr, hr = pair()
    slope = 2 / 768**0.5
    critic = Linear(slope)
    expected = slope * (sr - hr).flatten(1).sum(1) + 10 * (2 - 1) ** 2
    found = critic_loss(critic, sr, hr, torch.tensor([0.2, 0.9], dtype=torch.float64))
    assert torch.allclose(found, expected)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert critic.slope.grad is not None
    exact = (sr - hr).sum() + 2 * 10 * 2 * (2 - 1) * 768**0.5
    assert torch.allclose(critic.slope.grad, exact)


def test_no_gradient_goes_from_the_critics_loss_into_the_result() -> None:
    sr, hr = pair()
    sr.requires_grad_(True)
    critic_loss(Linear(1.0), sr, hr, torch.tensor([0.5, 0.5], dtype=torch.float64)).sum().backward()  # type: ignore[no-untyped-call]
    assert sr.grad is None


def test_the_critic_has_the_papers_layers() -> None:
    critic = Critic(160)
    convolutions = [m for m in critic.layers if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert [c.stride[0] for c in convolutions] == [1, 2] * 5
    assert critic(torch.rand(2, 3, 160, 160)).shape == (2,)
    with pytest.raises(UsageError, match="crops of 100 pixels: the critic needs a multiple of 32"):
        Critic(100)
