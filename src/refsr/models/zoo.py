"""The zoo: architectures and shipped weights by name, and loading them."""

from dataclasses import dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from refsr.device import Device, choose_device
from refsr.errors import WeightsError
from refsr.io.records import parse_record
from refsr.io.weights import read_weights
from refsr.models.base import RefSRModel
from refsr.models.baselines import SISR, Bicubic, Flow, NoConfig
from refsr.models.default import DefaultConfig, DefaultModel
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.vgg import VGG19, load_vgg19
from refsr.wording import counted


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
        about="default, fine-tuned to look crisp: lower PSNR, and more that is guessed",
    ),
    "default-real": Weights(
        architecture="default",
        file="default-real.safetensors",
        about="default, fine-tuned for blurred, noisy and compressed photographs",
    ),
    "default-texture-real": Weights(
        architecture="default",
        file="default-texture-real.safetensors",
        about="default-real, fine-tuned to look crisp",
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


def load_model(
    model: str | Path = "default", *, device: Device | torch.device = "auto", vgg19: Path | None = None
) -> RefSRModel:
    """Load a model for inference.

    Args:
        model: A key of `WEIGHTS`, or the path of a weights file.
        device: "auto" takes CUDA, then MPS, then the CPU.
        vgg19: File of VGG19 weights, for models that need them; see `refsr.models.vgg`.

    Raises:
        WeightsError: The weights are missing, damaged, or do not fit their architecture.
        UsageError: The device is not available.
    """
    chosen = choose_device(device)
    shipped = WEIGHTS.get(model) if isinstance(model, str) else None
    if shipped is None and not Path(model).is_file():
        near = get_close_matches(str(model), WEIGHTS, n=1)
        remedy = f"did you mean {near[0]}?" if near else "check the name"
        raise WeightsError(f"{model}: neither a model ({', '.join(WEIGHTS)}) nor a weights file: {remedy}")
    file = shipped.path if shipped else Path(model)
    if file is None:
        assert shipped is not None
        return ARCHITECTURES[shipped.architecture].build().to(chosen).eval()
    trained, values, state = read_weights(file)
    name = shipped.architecture if shipped else trained
    if name not in ARCHITECTURES:
        raise WeightsError(
            f"{file}: is for the model {name!r}, not for one of {', '.join(ARCHITECTURES)}: get another file"
        )
    kind = ARCHITECTURES[name]
    if trained not in (name, kind.weights_of):
        raise WeightsError(f"{file}: holds weights of the model {trained!r}, not of {name!r}: get the file again")
    config = _config(kind, values, file)
    _require_fit(kind, config, state, file)
    built = kind.build(config, load_vgg19(vgg19) if kind.needs_vgg19 else None)
    built.load_state_dict(state, strict=False)
    built.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return built.eval().requires_grad_(False)


def _require_fit(kind: Architecture, config: Any, state: dict[str, Tensor], file: Path) -> None:
    """Compare shapes without allocating anything, since a damaged config may ask for any size."""
    try:
        with torch.device("meta"):
            expected = kind.build(config).own_state()
    except (RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(f"{file}: its config is damaged ({error}): get the file again") from error
    wrong = sorted(
        key for key in expected.keys() | state.keys()
        if key not in expected or key not in state or expected[key].shape != state[key].shape
    )  # fmt: skip
    if wrong:
        raise WeightsError(
            f"{file}: its tensors do not fit its model ({counted(len(wrong), 'difference')}, such as {wrong[0]!r}):"
            " it is damaged, or of another version of refsr"
        )


def packaged_model(name: str) -> RefSRModel:
    """A model of `WEIGHTS` in the sizes of its file, with random weights."""
    file, kind = WEIGHTS[name].path, ARCHITECTURES[WEIGHTS[name].architecture]
    return kind.build() if file is None else kind.build(_config(kind, read_weights(file)[1], file))


def _config(kind: Architecture, values: dict[str, Any], file: Path) -> Any:
    """Config from a weights file's header; sizes that it lacks have their defaults."""
    unknown = sorted(values.keys() - {field.name for field in fields(kind.config)})
    if unknown:
        raise WeightsError(f"{file}: its config has {unknown[0]!r}, of another version of refsr: update this one")
    try:
        return parse_record(values, kind.config)
    except ValueError as error:
        raise WeightsError(f"{file}: its config is damaged ({error}): get the file again") from error
