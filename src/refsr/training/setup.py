"""Parts that a run begins with: optimiser, VGG19 of the losses, initial weights, precision."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from refsr.device import computes_bf16
from refsr.errors import WeightsError
from refsr.io.weights import read_weights
from refsr.models import RefSRModel
from refsr.models.vgg import load_vgg19
from refsr.training.config import TrainConfig
from refsr.training.step import Perception

Report = Callable[[str], None]
"""Receives lines for the user."""

_FABRIC: Final = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_optimiser(parameters: Sequence[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser."""
    betas = (config.beta1, 0.999)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=1e-4)
    return torch.optim.Adam(parameters, betas=betas)


def open_perception(config: TrainConfig, vgg19: Path | None, report: Report) -> Perception | None:
    """VGG19 as deep as the losses need and the weights reach; None if no loss needs it."""
    weights = [stage.losses for _, stage in config.stages]
    if not any(loss.perceptual or loss.texture for loss in weights):
        return None
    deepest = "relu5_1" if any(loss.perceptual for loss in weights) else "relu3_1"
    try:
        return Perception(vgg=load_vgg19(vgg19, deepest), layer=deepest)
    except WeightsError as error:
        if deepest == "relu3_1" or "ends before" not in str(error):
            raise
    report("VGG19's weights end before relu5_1: the perceptual loss takes relu3_1")
    return Perception(vgg=load_vgg19(vgg19, "relu3_1"), layer="relu3_1")


def begin_with(init: Path, model: RefSRModel, report: Report) -> None:
    """Load initial weights; parts and blocks that the file lacks keep their random weights.

    Source of growing a trained network by identity blocks: Chen et al., "Net2Net", ICLR 2016, section 2.3.
    """
    name, _, state = read_weights(init)
    expected = model.own_state()
    fits = all(key in expected and expected[key].shape == value.shape for key, value in state.items())
    if name != model.name or not fits:
        raise WeightsError(
            f"{init}: does not fit the model {model.name} of this run: give other weights or another recipe"
        )
    lacking = sorted({_part(key, state) for key in expected.keys() - state.keys()})
    if lacking:
        report(f"{init} has no {', '.join(lacking)}: trained from the beginning")
    model.load_state_dict(state, strict=False)


def _part(key: str, state: Mapping[str, Tensor]) -> str:
    """Part of the network that a missing tensor belongs to ("align"), or block of a part ("after.12")."""
    part, _, rest = key.partition(".")
    there = any(other.startswith(f"{part}.") for other in state)
    return f"{part}.{rest.partition('.')[0]}" if there else part


def choose_precision(wanted: str, device: torch.device) -> str:
    """Fabric's name of a precision; auto is bf16 where the device has instructions for it, else fp32.

    Args:
        wanted: auto, fp32, bf16, fp16, or a name of fabric's.
        device: Device to train on.
    """
    if wanted == "auto":
        wanted = "bf16" if computes_bf16(device) else "fp32"
    return _FABRIC.get(wanted, wanted)


def fabric_precision(wanted: str, device: torch.device) -> dict[str, Any]:
    """Fabric's arguments for a precision; see `choose_precision`."""
    chosen = choose_precision(wanted, device)
    if chosen == "32-true":
        return {"precision": chosen}
    return {"plugins": ExactInputs(chosen, device.type)}  # type: ignore[arg-type]


class ExactInputs(MixedPrecision):
    """Mixed precision without fabric's rounding of the inputs, which would be of images too."""

    def convert_input(self, data: Any) -> Any:
        return data
