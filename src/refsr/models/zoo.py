"""The zoo: architectures and shipped weights, each by name."""

from dataclasses import dataclass, field, make_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from refsr.models.base import RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow, NoConfig
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.vgg import VGG19


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture.

    Attributes:
        model: The model's class; constructed from a config, and a VGG19 where it needs one.
        config: Dataclass of its sizes, which the header of a weights file fills.
        needs_vgg19: Whether it computes VGG19 features.
        weights_of: The architecture whose weights it uses; None if it has its own, or none.
    """

    model: type[RefSRModel]
    config: type[Any]
    needs_vgg19: bool = False
    weights_of: str | None = None

    def build(self, config: Any = None, vgg: VGG19 | None = None) -> RefSRModel:
        """A model with random weights.

        Args:
            config: Sizes; without it, the defaults.
            vgg: VGG19, where one is needed; without it, one with random weights.
        """
        sizes = self.config() if config is None else config
        return self.model(sizes, vgg) if self.needs_vgg19 else self.model(sizes)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Shipped weights.

    Attributes:
        architecture: A key of `ARCHITECTURES`.
        about: One line for the user.
        file: Name of a file in `models/weights`; None for an architecture without parameters.
    """

    architecture: str
    about: str
    file: str | None = None

    @property
    def path(self) -> Path | None:
        """Path of the file."""
        return Path(str(resources.files("refsr.models") / "weights" / self.file)) if self.file else None


ARCHITECTURES: Final[dict[str, Architecture]] = {
    "default": Architecture(model=DefaultModel, config=DefaultConfig),
    "srntt": Architecture(model=SRNTT, config=SRNTTConfig, needs_vgg19=True),
    "flow": Architecture(model=Flow, config=DefaultConfig, weights_of="default"),
    "sisr": Architecture(model=SISR, config=DefaultConfig, weights_of="default"),
    "bicubic": Architecture(model=Bicubic, config=NoConfig),
}

WEIGHTS: Final[dict[str, Weights]] = {
    "default": Weights(
        architecture="default",
        file="default.safetensors",
        about="small and fast: learned descriptors, aligned texture, all on the LR grid",
    ),
    "default-texture": Weights(
        architecture="default",
        file="default-texture.safetensors",
        about="default, fine-tuned with all of the paper's losses: crisper, lower PSNR",
    ),
    "default-real": Weights(
        architecture="default",
        file="default-real.safetensors",
        about="default, fine-tuned for blurred, noisy and compressed photographs",
    ),
    "srntt": Weights(
        architecture="srntt",
        file="srntt.safetensors",
        about="the CVPR 2019 paper with all losses: VGG19 patches swapped at three levels; slow, for comparison",
    ),
    "srntt-rec": Weights(
        architecture="srntt",
        file="srntt-rec.safetensors",
        about="srntt with the reconstruction loss alone: higher PSNR, less texture",
    ),
    "flow": Weights(
        architecture="flow",
        file="default.safetensors",
        about="default with dense optical flow (OpenCV DIS) in place of matching, for comparison",
    ),
    "sisr": Weights(
        architecture="sisr",
        file="default.safetensors",
        about="default without references, for comparison",
    ),
    "bicubic": Weights(architecture="bicubic", about="bicubic interpolation, for comparison"),
}

TRAINABLE: Final = tuple(
    name for name, kind in ARCHITECTURES.items() if kind.weights_of is None and kind.config is not NoConfig
)
"""Architectures with their own weights."""

_SIZES: Final[list[Any]] = [
    (name, ARCHITECTURES[name].config, field(default_factory=ARCHITECTURES[name].config)) for name in TRAINABLE
]
NetworkSettings = make_dataclass("NetworkSettings", [("model", str, "default"), *_SIZES], frozen=True, kw_only=True)
"""A recipe's network: the architecture's name as `model`, and under each architecture's name its sizes."""
