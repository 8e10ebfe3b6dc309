"""The network whose descriptors are matched."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_MINIMUM_DEVIATION = 0.02


class Descriptor(nn.Module):
    """Gives each pixel a unit descriptor that is nearly invariant to brightness and contrast.

    lr (B, 3, h, w) ── normalise ── five 3x3 convolutions, 19 px wide ─┬───────────────────────(+)── (B, C, h, w)
                                                                       └─ two more, 43 px wide ─┘
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, dilation in zip((3, width, width, width, width), (1, 1, 2, 4, 1), strict=True):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, size, 1))
        context: list[nn.Module] = []
        for dilation in (4, 8):
            context += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        last = nn.Conv2d(width, size, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.context = nn.Sequential(*context, last)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        even, _ = even_out(image)
        near = self.layers[:-1](even)
        return F.normalize((self.layers[-1](near) + self.context(near)).to(image.dtype), dim=1)


def even_out(image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
    """Local contrast normalisation over 9x9 pixels: (image - mean) / deviation; and that deviation, at least 0.02."""
    centred = image - _local_mean(image)
    deviation = _local_mean(centred.square().mean(1, keepdim=True)).sqrt() + _MINIMUM_DEVIATION
    return centred / deviation, deviation


def _local_mean(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    return F.avg_pool2d(image, 9, stride=1, padding=4, count_include_pad=False)
