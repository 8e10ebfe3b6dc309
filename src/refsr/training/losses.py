"""SRNTT's losses, each a value for each picture of a batch.

Not a mean of the batch, since pairs without references have no part in some losses, and the mean must not depend on how
the batch is divided among processes.

Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, its training objective;
ZZUTK/SRNTT for the sizes of the critic.
"""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from refsr.errors import UsageError
from refsr.models.vgg import VGG19
from refsr.resize import downscale_bicubic

TEXTURE_LEVELS: Final = ("relu3_1", "relu2_1", "relu1_1")
"""Levels of the texture loss, coarsest first, as in `refsr.models.srntt`."""

_GRADIENT_EPSILON: Final = 1e-12


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


def back_projection(sr: Float[Tensor, "b 3 h2 w2"], lr: Float[Tensor, "b 3 h w"], scale: int) -> Float[Tensor, " b"]:
    """Mean absolute difference of the reduced result and the LR image. Source: ZZUTK/SRNTT, use_backprojection_loss."""
    return (downscale_bicubic(sr, scale) - lr).abs().flatten(1).mean(1)


def gram(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
    """Gram matrix: inner products of the channels over all positions. Source: Gatys et al., CVPR 2016."""
    flat = rearrange(maps, "b c h w -> b c (h w)")
    return flat @ flat.mT


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
        self.slope = nn.Parameter(torch.tensor(10.0))
        self.offset = nn.Parameter(torch.tensor(-6.0))

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
        weight = torch.sigmoid(self.slope * score + self.offset)
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
