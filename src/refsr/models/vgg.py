"""VGG19 features, which SRNTT matches and swaps.

    rgb (B, 3, H, W) 0..1 -> relu1_1 (B, 64, H, W), relu2_1 (B, 128, H/2, W/2), relu3_1 (B, 256, H/4, W/4), ...

The weights do not ship with the package. They are taken from, in this order: an explicit path, the environment variable
REFSR_VGG19, the cache, PyTorch's public download.
"""

import os
import urllib.error
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from platformdirs import user_cache_path
from safetensors.torch import load_file
from torch import Tensor, nn

from refsr.errors import UsageError, WeightsError
from refsr.io.weights import require_finite

VGG19_URL: Final = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
VGG19_VARIABLE: Final = "REFSR_VGG19"
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)

# Channels of each convolution up to conv5_1. Source: Simonyan and Zisserman, 2015, table 1, E.
_LAYOUT: Final = (
    *(64, 64, "pool"),
    *(128, 128, "pool"),
    *(256, 256, 256, 256, "pool"),
    *(512, 512, 512, 512, "pool"),
    512,
)


def _names() -> dict[str, int]:
    """Index of each convolution in torchvision's `features`, by its name in the paper."""
    names, index, block, conv = {}, 0, 1, 1
    for item in _LAYOUT:
        if item == "pool":
            index, block, conv = index + 1, block + 1, 1
        else:
            names[f"conv{block}_{conv}"] = index
            index, conv = index + 2, conv + 1
    return names


CONVOLUTIONS: Final = _names()
LAYERS: Final = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def weight_names(layer: str) -> tuple[str, str]:
    """Keys of the weights of a layer of `LAYERS`: torchvision's and the paper's."""
    convolution = layer.replace("relu", "conv")
    return f"features.{CONVOLUTIONS[convolution]}.weight", f"{convolution}.weight"


class VGG19(nn.Module):
    """The convolutions of VGG19 down to the deepest layer asked for, frozen; torchvision's keys.

    Images are normalised by the mean and deviation of the weights: torchvision's, unless the weights file holds its
    own, as files of `refsr convert` do.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, configuration E.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, deepest: str = "relu3_1") -> None:
        """Build without weights; see `load_vgg19`.

        Raises:
            UsageError: `deepest` is none of `LAYERS`.
        """
        super().__init__()
        if deepest not in LAYERS:
            raise UsageError(f"no VGG19 layer {deepest!r}: choose from {', '.join(LAYERS)}")
        last = CONVOLUTIONS[deepest.replace("relu", "conv")]
        layers: list[nn.Module] = []
        channels = 3
        for item in _LAYOUT:
            if len(layers) > last:
                break
            if isinstance(item, int):
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU()]
                channels = item
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @property
    def is_matconvnet(self) -> bool:
        """Whether the weights are MatConvNet's, whose features have another magnitude than torchvision's."""
        return bool(self.std.amax() < 0.1)

    def forward(self, rgb: Float[Tensor, "b 3 h w"], layers: tuple[str, ...]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of the named layers, in their order.

        Args:
            rgb: Images, 0..1.
            layers: Names from `LAYERS`, none deeper than this network.
        """
        wanted = {CONVOLUTIONS[layer.replace("relu", "conv")] + 1: layer for layer in layers}
        found: dict[str, Tensor] = {}
        x = (rgb - self.mean) / self.std
        for index, module in enumerate(self.features):
            x = module(x)
            if index in wanted:
                found[wanted[index]] = x
            if len(found) == len(wanted):
                break
        return [found[layer] for layer in layers]


def load_vgg19(path: Path | None = None, deepest: str = "relu3_1", *, url: str = VGG19_URL) -> VGG19:
    """Load VGG19 with weights, under torchvision's keys (features.0.weight) or the paper's (conv1_1.weight).

    Args:
        path: Weights file; without one, see the top of this module.
        deepest: Last layer needed, from `LAYERS`; the file may hold deeper ones.
        url: Download address; its name ends in the first digits of the file's SHA-256, which are checked.

    Raises:
        WeightsError: No weights are found, or they are damaged, or end before `deepest`.
    """
    vgg = VGG19(deepest)
    file = _find_weights(path, url)
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except Exception as error:  # both raise many kinds of errors, which all mean damage
        raise WeightsError(f"{file}: damaged, or not VGG19 weights: delete it and get it again") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{file}: holds no state dict: give torchvision's VGG19 weights")
    for name, index in CONVOLUTIONS.items():
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in state:
                state[f"features.{index}.{kind}"] = state[f"{name}.{kind}"]
    needed = vgg.state_dict()
    for key, tensor in needed.items():
        if key not in state:
            raise WeightsError(f"{file}: ends before {deepest}: give the whole of torchvision's VGG19 weights")
        if state[key].shape != tensor.shape:
            raise WeightsError(
                f"{file}: {key} has the shape {tuple(state[key].shape)}, VGG19's is {tuple(tensor.shape)}"
            )
    require_finite({key: state[key] for key in needed}, file)
    vgg.load_state_dict({key: state[key].float() for key in needed})
    for name, buffer in vgg.named_buffers():
        if name in state:
            buffer.copy_(state[name].view_as(buffer))
    return vgg.eval()


def _find_weights(path: Path | None, url: str) -> Path:
    if path is not None:
        if not path.is_file():
            raise WeightsError(f"{path}: no such file of VGG19 weights")
        return path
    variable = os.environ.get(VGG19_VARIABLE)
    if variable:
        if not Path(variable).is_file():
            raise WeightsError(f"{variable}: no such file, named by {VGG19_VARIABLE}: correct or unset it")
        return Path(variable)
    try:
        cached = user_cache_path("refsr") / url.rsplit("/", 1)[1]
    except RuntimeError as error:
        raise WeightsError("VGG19 weights: this user has no home to keep them in: give --vgg19 FILE") from error
    if not cached.is_file():
        _download(url, cached)
    return cached


def _download(url: str, target: Path) -> None:
    hash_prefix = target.stem.rsplit("-", 1)[1]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), hash_prefix=hash_prefix, progress=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"VGG19 weights could not be downloaded ({reason}): give --vgg19 FILE, set {VGG19_VARIABLE}=FILE,"
            f" or put the file from {url} at {target}"
        ) from error


def _is_zip(file: Path) -> bool:
    """Whether a file is of torch's newer format, which alone can be memory-mapped."""
    with file.open("rb") as stream:
        return stream.read(2) == b"PK"
