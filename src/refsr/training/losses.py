"""The losses: SRNTT's, and those of descriptors, choice and alignment; each a value for each picture of a batch.

Not a mean of the batch, since pairs without references have no part in some losses, and the mean must not depend on how
the batch is divided among processes.

Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, its training objective;
ZZUTK/SRNTT for the sizes of the critic.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from refsr.bench.metrics import structural_similarity
from refsr.data.geometry import pixel_grid
from refsr.device import moved
from refsr.errors import UsageError
from refsr.models.alignment import Aligned
from refsr.models.vgg import VGG19
from refsr.resize import downscale_bicubic

TEXTURE_LEVELS: Final = ("relu3_1", "relu2_1", "relu1_1")
"""Levels of the texture loss, coarsest first, as in `refsr.models.srntt`."""

_GRADIENT_EPSILON: Final = 1e-12
_SLOPE, _OFFSET = 10.0, -6.0
_VIEW_DEGREES: Final = 45.0
_VIEW_SHARE: Final = 0.5
_SCALES: Final = 4
_GRID_CELLS: Final = 4
_MAXIMUM_INITIAL_ERROR_CELLS: Final = 3.0
_EPSILON_CELLS: Final = 0.01
_STEP_DECAY: Final = 0.8
_DOUBT_WEIGHT: Final = 0.1
_MAXIMUM_ERROR_CELLS: Final = 8.0
_NEAR_CELLS: Final = 2
_CHOICE_ERROR_CELLS: Final = 0.1
_LARGEST_CHOICE_ERROR_CELLS: Final = 4.0


def reconstruction(sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Mean absolute difference. Source: the paper's reconstruction loss."""
    return (sr - hr).abs().flatten(1).mean(1)


def charbonnier(
    sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"], epsilon: float = 1e-3
) -> Float[Tensor, " b"]:
    """Smooth variant of `reconstruction`. Source: Charbonnier et al., 1994; Lai et al., LapSRN, CVPR 2017."""
    distance: Tensor = ((sr - hr).square() + epsilon**2).sqrt()
    return distance.flatten(1).mean(1)


def frequency(sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Mean absolute difference of the Fourier transforms. Source: Cho et al., MIMO-UNet, ICCV 2021."""
    distance: Tensor = torch.fft.rfft2((sr - hr).to(torch.promote_types(sr.dtype, torch.float32)), norm="ortho").abs()
    return distance.flatten(1).mean(1)


def perceptual(
    sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"], vgg: VGG19, layer: str
) -> Float[Tensor, " b"]:
    """Mean squared difference of VGG19 features; the paper's layer is relu5_1. Source: Johnson et al., ECCV 2016."""
    first, second = (vgg(image, (layer,))[0] for image in (sr, hr))
    distance: Tensor = (first - second).square()
    return distance.flatten(1).mean(1)


def dissimilarity(sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """One minus SSIM, the mean of four scales, each half the one before; sides of 88 pixels or more.

    Source: after Wang et al., "Multiscale structural similarity for image quality assessment", 2003, whose scales are
    multiplied, and differ in what they compare.
    """
    total = sr.new_zeros(len(sr))
    for scale in range(_SCALES):
        if scale:
            sr, hr = F.avg_pool2d(sr, 2), F.avg_pool2d(hr, 2)
        total = total + (1 - structural_similarity(sr, hr)) / _SCALES
    return total


def grid(sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"], scale: int) -> Float[Tensor, " b"]:
    """Mean error of the pixels at each place of a cell, in windows of four by four cells: a grid, or a shift of colour.

    The network makes the pixels of a cell side by side. LPIPS alone, and less so a critic, reward it for a pattern that
    is the same in all cells, since any fine pattern is nearer to a texture than none.
    """
    error = F.pixel_unshuffle(sr - hr, scale)
    return F.avg_pool2d(error, _GRID_CELLS).abs().flatten(1).mean(1)


def back_projection(sr: Float[Tensor, "b 3 h2 w2"], lr: Float[Tensor, "b 3 h w"], scale: int) -> Float[Tensor, " b"]:
    """Mean absolute difference of the reduced result and the LR image. Source: ZZUTK/SRNTT, use_backprojection_loss."""
    return (downscale_bicubic(sr, scale) - lr).abs().flatten(1).mean(1)


def gram(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
    """Gram matrix: inner products of the channels over all positions. Source: Gatys et al., CVPR 2016."""
    flat = rearrange(maps, "b c h w -> b c (h w)")
    return flat @ flat.mT


def viewed_alike(
    sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"], numbers: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]:
    """The same window of result and truth, at any place, turned by up to 45 degrees, magnified to the pictures' size.

    A network that compares pictures takes a mesh of few frequencies for texture, if it is always shown it at one scale
    and in one direction; magnified and turned, the mesh is seen.

    Args:
        sr: Results.
        hr: Truths.
        numbers: Numbers of the pairs, which seed the windows.

    Source: after Kettunen et al., "E-LPIPS", 2019, whose changes of the pictures are more.
    """
    placed = []
    for number in numbers:
        angle, side, x, y = torch.rand(4, generator=torch.Generator().manual_seed(int(number))).tolist()
        turn = math.radians(_VIEW_DEGREES * (2 * angle - 1))
        across = math.cos(turn) + abs(math.sin(turn))
        share = _VIEW_SHARE + side * (1 / across - _VIEW_SHARE)
        free = 1 - share * across
        cosine, sine = share * math.cos(turn), share * math.sin(turn)
        placed.append([[cosine, -sine, free * (2 * x - 1)], [sine, cosine, free * (2 * y - 1)]])
    windows = F.affine_grid(sr.new_tensor(placed), list(sr.shape), align_corners=False)
    first, second = (
        F.grid_sample(images, windows, mode="bicubic", padding_mode="reflection", align_corners=False)
        for images in (sr, hr)
    )
    return first, second


def belief(
    score: Float[Tensor, "b 1 h w"], slope: Tensor | float = _SLOPE, offset: Tensor | float = _OFFSET
) -> Float[Tensor, "b 1 h w"]:
    """How far matches of these scores are believed, 0..1. Source: the paper's texture loss."""
    return torch.sigmoid(slope * score + offset)


class TextureLoss(nn.Module):
    """Squared distance between Gram matrices of the result's features and of the swapped features.

    Both features are first weighted by the match's score, as sigmoid(a * score + b) with learned a and b, so that only
    matched texture counts; a begins above zero. The weights of a picture are divided by their mean, since otherwise
    weights of zero would minimise the loss.

    Source: the paper's texture loss; the mean of the levels, each divided by 4 (size^2 channels)^2 as in Gatys et al.
    """

    def __init__(self, vgg: VGG19) -> None:
        """Take a frozen VGG19, at least down to relu3_1."""
        super().__init__()
        self._vgg = (vgg,)  # in a tuple, so that its weights are not this module's
        self.slope = nn.Parameter(torch.tensor(_SLOPE))
        self.offset = nn.Parameter(torch.tensor(_OFFSET))

    def forward(
        self,
        sr: Float[Tensor, "b 3 h2 w2"],
        swapped: Sequence[Float[Tensor, "b _ _ _"]],
        score: Float[Tensor, "b 1 h w"],
    ) -> Float[Tensor, " b"]:
        """Loss of each picture.

        Args:
            sr: Results, 0..1.
            swapped: Features of `TEXTURE_LEVELS`, swapped into the LR images' order.
            score: Scores of the match.
        """
        total = sr.new_zeros(sr.shape[0])
        weight = belief(score, self.slope, self.offset)
        weight = weight / weight.mean((2, 3), keepdim=True)
        for maps, texture in zip(self._vgg[0](sr, TEXTURE_LEVELS), swapped, strict=True):
            here = F.interpolate(weight, size=maps.shape[-2:], mode="nearest")
            channels, size = maps.shape[1], maps.shape[-2] * maps.shape[-1]
            difference = (gram(maps * here) - gram(texture * here)) / (2 * size * channels)
            total = total + difference.square().flatten(1).sum(1)
        return total / len(TEXTURE_LEVELS)


class Critic(nn.Module):
    """Critic of WGAN: five times two convolutions, then two dense layers, without sigmoid.

    rgb (B, 3, S, S) -> 32 ... 512 channels, S / 32 wide -> 1024 -> (B,), larger for pictures that look real
    """

    def __init__(self, crop_px: int, width: int = 32) -> None:
        """Build with random weights.

        Args:
            crop_px: Side of the pictures, a multiple of 32.
            width: Channels of the first layers; 32 in the paper.

        Raises:
            UsageError: The side is not a multiple of 32.
        """
        super().__init__()
        if crop_px % 32:
            raise UsageError(f"crops of {crop_px} pixels: the critic needs a multiple of 32")
        layers: list[nn.Module] = []
        before = 3
        for level in range(5):
            channels = width * 2**level
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = channels
        side = crop_px // 32
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side**2, 1024), nn.LeakyReLU(0.2))
        self.verdict = nn.Linear(1024, 1)

    def forward(self, rgb: Float[Tensor, "b 3 s s"]) -> Float[Tensor, " b"]:
        verdict: Tensor = self.verdict(self.layers(2 * rgb - 1))
        return verdict[:, 0]


def adversarial(critic: nn.Module, sr: Float[Tensor, "b 3 s s"]) -> Float[Tensor, " b"]:
    """The network's loss by the critic. Source: Arjovsky et al., Wasserstein GAN, 2017."""
    return -critic(sr)  # type: ignore[no-any-return]


def critic_loss(
    critic: nn.Module,
    sr: Float[Tensor, "b 3 s s"],
    hr: Float[Tensor, "b 3 s s"],
    between: Float[Tensor, " b"],
    penalty: float = 10.0,
) -> Float[Tensor, " b"]:
    """The critic's loss: WGAN with gradient penalty.

    The norm of the gradient is that of a whole picture, as defined in the paper (ZZUTK/SRNTT takes it per pixel).

    Args:
        critic: From pictures to verdicts.
        sr: Results; detached here.
        hr: Truths.
        between: Points on the lines from truth to result where the gradient is penalised, 0..1.
        penalty: Weight of the gradient penalty.

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, equation 3.
    """
    sr = sr.detach()
    share = between.view(-1, 1, 1, 1)
    mixed = (hr + share * (sr - hr)).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    norm = (slope.flatten(1).square().sum(1) + _GRADIENT_EPSILON).sqrt()
    return critic(sr) - critic(hr) + penalty * (norm - 1).square()  # type: ignore[no-any-return]


def alignment_loss(
    steps: Sequence[Aligned], begun: Float[Tensor, "b 2 h w"], truth_cells: Float[Tensor, "b 2 h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Mean error of the fields in cells, plus the negative log likelihood of their doubt.

    The error counts where the initial field is within three cells of the truth, the doubt wherever the truth is known.

    Args:
        steps: Fields after each step of the alignment; earlier ones weigh less.
        begun: Initial positions (y, x).
        truth_cells: True positions (y, x); NaN where unknown.

    Returns:
        The loss of each pair, and the error of its last field; zeros where no position is known.

    Source: Teed and Deng, "RAFT", ECCV 2020, equation 7; for the doubt, the likelihood of a Laplace distribution as in
        Kendall and Gal, "What uncertainties do we need?", NeurIPS 2017, section 2.2.
    """
    known = truth_cells.isfinite().all(1)
    near = known & ((truth_cells - begun).abs().amax(1) < _MAXIMUM_INITIAL_ERROR_CELLS)
    truth = torch.where(known[:, None], truth_cells, begun)
    weights = [_STEP_DECAY ** (len(steps) - 1 - place) for place in range(len(steps))]
    total, last = torch.zeros_like(begun[:, 0, 0, 0]), torch.zeros_like(begun[:, 0, 0, 0])
    for weight, step in zip(weights, steps, strict=True):
        distance = ((step.field.position_cells - truth).square().sum(1) + _EPSILON_CELLS**2).sqrt() - _EPSILON_CELLS
        last = _mean(distance, near)
        error = distance.detach().clamp(max=_MAXIMUM_ERROR_CELLS)
        doubt = step.doubt[:, 0]
        total = total + weight / sum(weights) * (last + _DOUBT_WEIGHT * _mean(doubt + error * (-doubt).exp(), known))
    return total, last.detach()


def choice_loss(
    positions: Sequence[Float[Tensor, "b 2 h w"]],
    logits: Float[Tensor, "b n h w"],
    truth_cells: Float[Tensor, "b 2 h w"],
) -> Float[Tensor, " b"]:
    """Expected logarithm of the error, 1 + tenths of a cell up to four cells, if a position is drawn by its softmax.

    Args:
        positions: Positions (y, x) on offer; NaN where one is not.
        logits: Their logits.
        truth_cells: True positions (y, x); NaN where unknown.

    Returns:
        The loss of each pair; zero where no position is known.
    """
    known = truth_cells.isfinite().all(1)
    truth = torch.where(known[:, None], truth_cells, positions[0])
    errors = torch.stack([(position - truth).square().sum(1).sqrt() for position in positions], 1)
    cost = (
        errors.nan_to_num(_LARGEST_CHOICE_ERROR_CELLS).clamp_max(_LARGEST_CHOICE_ERROR_CELLS) / _CHOICE_ERROR_CELLS
    ).log1p()
    return _mean((logits.softmax(1) * cost).sum(1), known)


def _mean(values: Float[Tensor, "b h w"], counted: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    return (values * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)


def contrast_loss(
    query: Float[Tensor, "b c h w"],
    key: Float[Tensor, "b c h2 w2"],
    truth_cells: Float[Tensor, "b 2 h w"],
    numbers: Int[Tensor, " b"],
    queries: int,
    temperature: float,
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """InfoNCE: the positive is the key at the true position, the negatives are the reference's cells.

    Cells within two cells of the true position are not negatives.

    Args:
        query: Unit descriptors of the LR images.
        key: Unit descriptors of the references.
        truth_cells: True positions (y, x) in the reference; NaN where unknown.
        numbers: Numbers of the pairs, which seed the choice of query cells.
        queries: Maximum number of query cells of a pair, drawn from those with a known position.
        temperature: Divisor of the cosines.

    Returns:
        The loss of each pair, and the share of its query cells whose best match is within one cell of the truth; zeros
        where no position is known.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018, equation 4.
    """
    height, width = key.shape[-2:]
    cells = pixel_grid(height, width, key.device).flip(-1).flatten(0, 1).to(key)
    order = torch.stack(
        [torch.rand(truth_cells[0, 0].numel(), generator=torch.Generator().manual_seed(int(n))) for n in numbers]
    )
    order = moved(order.to(query.dtype), query)
    known = ~truth_cells[:, 0].flatten(1).isnan()
    rank, asked = order.masked_fill(~known, -1.0).topk(min(queries, order.shape[1]), dim=1)
    counted = (rank >= 0).to(query)

    def of_asked(values: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n q"]:
        return values.flatten(2).gather(2, asked[:, None].expand(-1, values.shape[1], -1))

    truth = of_asked(truth_cells).nan_to_num()
    descriptors = of_asked(query)
    grid = (2 * truth.flip(1).transpose(1, 2) + 1) / truth.new_tensor((width, height)) - 1
    positive = F.grid_sample(key, grid[:, None], align_corners=False)[:, :, 0]
    wanted = (descriptors * F.normalize(positive, dim=1)).sum(1)
    cosines = descriptors.transpose(1, 2) @ key.flatten(2)
    y, x = ((truth[:, axis, :, None] - cells[:, axis]).square() for axis in (0, 1))
    others = (cosines / temperature).masked_fill(y + x < _NEAR_CELLS**2, -math.inf)
    lost = torch.logsumexp(torch.cat((wanted[..., None] / temperature, others), 2), 2) - wanted / temperature
    best = cells[cosines.argmax(2)]
    hits = ((best - truth.transpose(1, 2)).abs().amax(-1) <= 1).to(query)
    share = counted / counted.sum(1, keepdim=True).clamp_min(1)
    return (lost * share).sum(1), (hits * share).sum(1)
