"""The zoo: every model by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from refsr.models.base import RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow, NoConfig
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.vgg import VGG19


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """An entry of the zoo.

    Attributes:
        about: One line for people.
        config: The dataclass that a weights file's header fills; its defaults make the model of that name.
        build: Makes the model from its config, with random weights; VGG19 is given to those that need it.
        needs_vgg19: Whether it does.
        weights: File inside the package, or none if there are no trained weights yet.
        trained_as: The model whose weights these are, if not its own.
        has_weights: False for a model without any parameters.
    """

    about: str
    config: type[Any]
    build: Callable[[Any, VGG19 | None], RefSRModel]
    needs_vgg19: bool = False
    weights: str | None = None
    trained_as: str | None = None
    has_weights: bool = True


MODELS: Final[dict[str, ModelSpec]] = {
    "default": ModelSpec(
        about="small and quick: learned descriptors, texture sampled between pixels, all on the LR grid",
        config=DefaultConfig,
        build=lambda config, _vgg: DefaultModel(config),
        weights="default.safetensors",
    ),
    "default-texture": ModelSpec(
        about="default, trained on with all of the paper's losses: crisper, lower PSNR",
        config=DefaultConfig,
        build=lambda config, _vgg: DefaultModel(config),
        weights="default-texture.safetensors",
        trained_as="default",
    ),
    "srntt": ModelSpec(
        about="the CVPR 2019 paper, all losses: VGG19 patches swapped at three levels; slow, for comparison",
        config=SRNTTConfig,
        build=SRNTT,
        needs_vgg19=True,
        weights="srntt.safetensors",
    ),
    "srntt-rec": ModelSpec(
        about="the same, reconstruction only: higher PSNR, less texture",
        config=SRNTTConfig,
        build=SRNTT,
        needs_vgg19=True,
        weights="srntt-rec.safetensors",
        trained_as="srntt",
    ),
    "flow": ModelSpec(
        about="default, but matched by dense optical flow (OpenCV DIS): what the paper set out to beat",
        config=DefaultConfig,
        build=lambda config, _vgg: Flow(config),
        weights="default.safetensors",
        trained_as="default",
    ),
    "sisr": ModelSpec(
        about="default, but never given a reference",
        config=DefaultConfig,
        build=lambda config, _vgg: SISR(config),
        weights="default.safetensors",
        trained_as="default",
    ),
    "bicubic": ModelSpec(
        about="plain interpolation",
        config=NoConfig,
        build=lambda _config, _vgg: Bicubic(),
        has_weights=False,
    ),
}
