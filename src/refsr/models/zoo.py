"""The zoo: architectures, and the weights files that ship with the package, each by name."""

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
    """A kind of network.

    Attributes:
        model: Its class; made from a config, and from VGG19 where it needs that.
        config: Its sizes, the dataclass that a weights file's header fills.
        needs_vgg19: Whether it looks at VGG19's features.
        weights_of: The architecture whose weights it takes, if it has none of its own.
    """

    model: type[RefSRModel]
    config: type[Any]
    needs_vgg19: bool = False
    weights_of: str | None = None

    def build(self, config: Any = None, vgg: VGG19 | None = None) -> RefSRModel:
        """A model with random weights.

        Args:
            config: Sizes; those by default without it.
            vgg: Features, where they are needed; random ones without them.
        """
        sizes = self.config() if config is None else config
        return self.model(sizes, vgg) if self.needs_vgg19 else self.model(sizes)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What ships under a name: with an architecture and a file, the same as a weights file of the user's.

    Attributes:
        architecture: A key of `ARCHITECTURES`.
        about: One line for people.
        file: In the package's folder `models/weights`; none for an architecture without parameters.
    """

    architecture: str
    about: str
    file: str | None = None

    @property
    def path(self) -> Path | None:
        """The file."""
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
        about="small and quick: learned descriptors, texture sampled between pixels, all on the LR grid",
    ),
    "default-texture": Weights(
        architecture="default",
        file="default-texture.safetensors",
        about="default, trained on with all of the paper's losses: crisper, lower PSNR",
    ),
    "default-real": Weights(
        architecture="default",
        file="default-real.safetensors",
        about="default, trained on for blurred, noisy and compressed photographs",
    ),
    "srntt": Weights(
        architecture="srntt",
        file="srntt.safetensors",
        about="the CVPR 2019 paper, all losses: VGG19 patches swapped at three levels; slow, for comparison",
    ),
    "srntt-rec": Weights(
        architecture="srntt",
        file="srntt-rec.safetensors",
        about="the same, reconstruction only: higher PSNR, less texture",
    ),
    "flow": Weights(
        architecture="flow",
        file="default.safetensors",
        about="default, but matched by dense optical flow (OpenCV DIS): what the paper set out to beat",
    ),
    "sisr": Weights(
        architecture="sisr",
        file="default.safetensors",
        about="default, but never given a reference",
    ),
    "bicubic": Weights(architecture="bicubic", about="plain interpolation"),
}

TRAINABLE: Final = tuple(
    name for name, kind in ARCHITECTURES.items() if kind.weights_of is None and kind.config is not NoConfig
)
"""Architectures with weights of their own."""

_SIZES: Final[list[Any]] = [
    (name, ARCHITECTURES[name].config, field(default_factory=ARCHITECTURES[name].config)) for name in TRAINABLE
]
NetworkSettings = make_dataclass("NetworkSettings", [("model", str, "default"), *_SIZES], frozen=True, kw_only=True)
"""What a recipe says of its network: the architecture's name as `model`, and each architecture's sizes by its name."""
