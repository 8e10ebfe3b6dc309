"""LPIPS: perceptual distance of two pictures, from the features of a network.

    sr, hr ── network ──> maps of each layer, unit length per place ── squared difference, weighted ── mean ── sum

The user gives the network's weights: torchvision's AlexNet or SqueezeNet 1.1, or VGG19 down to the last layer of the
file. AlexNet and SqueezeNet with the authors' learned channel weights (lpips/weights/v0.1/alex.pth, squeeze.pth) give
LPIPS itself. Without them all channels have equal weight, which the authors call the baseline; its figures are not
comparable with LPIPS and are named so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from refsr.errors import UsageError, WeightsError
from refsr.models.vgg import LAYERS, VGG19, load_vgg19, weight_names

_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)
_EPSILON: Final = 1e-10
_MINIMUM_SIDE_PX: Final = 63
"""Smallest side for which AlexNet's last maps are not empty."""

_FIRES: Final = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192),
                 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}  # fmt: skip
"""Fire modules of SqueezeNet by their place: channels of input, squeezed, and of each of the two expansions."""


class FeatureNet(nn.Module):
    """Convolutions under torchvision's key names, of which some maps are compared.

    Attributes:
        taken: Places of the modules whose maps are compared.
        channels: Channels of these maps.
    """

    shift: Tensor
    scale: Tensor
    taken: ClassVar[tuple[int, ...]]
    channels: ClassVar[list[int]]

    def __init__(self, *features: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, rgb: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of pictures in 0..1."""
        maps = []
        x = (2 * rgb - 1 - self.shift) / self.scale
        for place, module in enumerate(self.features):
            x = module(x)
            if place in self.taken:
                maps.append(x)
        return maps


class AlexNet(FeatureNet):
    """Convolutions of AlexNet; compared after each of the five ReLUs.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """

    taken: ClassVar[tuple[int, ...]] = (1, 4, 7, 9, 11)
    channels: ClassVar[list[int]] = [64, 192, 384, 256, 256]

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip


class Fire(nn.Module):
    """Squeeze to few channels, and expand by 1x1 and 3x3 convolutions side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Float[Tensor, "b _ h w"]) -> Float[Tensor, "b _ h w"]:
        squeezed = self.squeeze(x).relu()
        return torch.cat((self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()), 1)


class SqueezeNet(FeatureNet):
    """Convolutions of SqueezeNet 1.1; compared after the first layer, the last fire module of each resolution, and all
    at the last one.

    Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016; version 1.1.
    """

    taken: ClassVar[tuple[int, ...]] = (1, 4, 7, 9, 10, 11, 12)
    channels: ClassVar[list[int]] = [64, 128, 256, 384, 384, 512, 512]

    def __init__(self) -> None:
        layers: dict[int, nn.Module] = {0: nn.Conv2d(3, 64, 3, stride=2), 1: nn.ReLU()}
        layers |= {place: nn.MaxPool2d(3, 2, ceil_mode=True) for place in (2, 5, 8)}
        layers |= {place: Fire(*sizes) for place, sizes in _FIRES.items()}
        super().__init__(*(layers[place] for place in sorted(layers)))


class LPIPS(nn.Module):
    """Perceptual distance of pictures; 0 for identical ones.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, eq. 1.
    """

    def __init__(self, network: FeatureNet | VGG19, layers: tuple[str, ...], linear: Sequence[Tensor] | None) -> None:
        """Combine network and channel weights.

        Args:
            layers: Layers of VGG19 to compare; empty for the others.
            linear: Learned channel weights, one tensor per layer; None for equal weights.
        """
        super().__init__()
        self.network = network
        self.layers = layers
        self.linear = nn.ParameterList(nn.Parameter(weight.flatten(), requires_grad=False) for weight in linear or ())

    @property
    def name(self) -> str:
        """Name of the metric in results."""
        network = f"VGG19 to {self.layers[-1]}" if self.layers else type(self.network).__name__
        return f"LPIPS, {network}" if self.linear else f"LPIPS baseline (channels unweighted), {network}"

    def forward(self, sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Distance of each pair of pictures in 0..1.

        Raises:
            UsageError: A side is shorter than 63 pixels.
        """
        if min(sr.shape[-2:]) < _MINIMUM_SIDE_PX:
            raise UsageError(f"LPIPS needs pictures of at least {_MINIMUM_SIDE_PX} pixels a side: use larger ones")
        total = sr.new_zeros(sr.shape[0])
        for index, (first, second) in enumerate(zip(self._maps(sr), self._maps(hr), strict=True)):
            first, second = (x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON) for x in (first, second))  # noqa: PLW2901
            difference = (first - second).square()
            if self.linear:
                difference = difference * self.linear[index].view(1, -1, 1, 1)
            total = total + difference.sum(1).flatten(1).mean(1)
        return total

    def _maps(self, rgb: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        maps: list[Tensor] = self.network(rgb, self.layers) if self.layers else self.network(rgb)
        return maps


def load_lpips(files: Sequence[Path]) -> LPIPS:
    """Build LPIPS from the user's weights files.

    Args:
        files: Weights of AlexNet, SqueezeNet or VGG19, and for the first two optionally the authors' channel weights,
            in the same file or another.

    Raises:
        WeightsError: A file is missing, damaged, or holds other weights.
    """
    network: FeatureNet | VGG19 | None = None
    layers: tuple[str, ...] = ()
    linear: list[Tensor] = []
    for file in files:
        state = _read(file)
        names = [name for name in state if name.startswith("lin")]
        linear += [state[name] for name in sorted(names)]
        if _shape(state, "features.0.weight") == (64, 3, 11, 11):
            network, layers = _filled(AlexNet(), state, file), ()
        elif _shape(state, "features.0.weight") == (64, 3, 3, 3) and "features.3.squeeze.weight" in state:
            network, layers = _filled(SqueezeNet(), state, file), ()
        elif not names:
            depth = [layer for layer in LAYERS if any(len(_shape(state, name)) == 4 for name in weight_names(layer))]
            if not depth:
                raise WeightsError(f"{file}: weights of no AlexNet, SqueezeNet or VGG19: give torchvision's")
            network, layers = load_vgg19(file, depth[-1]), tuple(depth)
    if network is None:
        raise WeightsError("--lpips needs the weights of AlexNet, SqueezeNet or VGG19: give the file as well")
    if linear and isinstance(network, VGG19):
        raise WeightsError("--lpips: learned weights go with AlexNet or SqueezeNet, not with VGG19: give one network")
    if linear and not isinstance(network, VGG19) and [w.numel() for w in linear] != network.channels:
        raise WeightsError(
            f"--lpips: the learned weights do not fit {type(network).__name__}: give the authors' for it"
        )
    return LPIPS(network, layers, linear or None).eval()


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise WeightsError(f"{file}: no such weights file: check the name")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file
        raise WeightsError(f"{file}: damaged, or not a weights file: get it again") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{file}: holds no state dict: give torchvision's weights")
    return state


def _filled(network: FeatureNet, state: dict[str, Tensor], file: Path) -> FeatureNet:
    try:
        network.load_state_dict({key: state[key].float() for key in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{file}: lacks layers of {type(network).__name__}: give torchvision's weights") from error
    return network.eval()


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...]:
    return tuple(state[key].shape) if key in state else ()
