"""Loading a model, by the name of shipped weights or from a weights file."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from refsr.device import Device, choose_device
from refsr.errors import UsageError, WeightsError
from refsr.io.weights import read_weights
from refsr.models.base import RefSRModel
from refsr.models.vgg import load_vgg19
from refsr.models.zoo import ARCHITECTURES, WEIGHTS, Architecture


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
        raise WeightsError(f"{model}: neither a model ({', '.join(WEIGHTS)}) nor a weights file: check the name")
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
    built = kind.build(_config(kind, values, file), load_vgg19(vgg19) if kind.needs_vgg19 else None)
    expected = built.own_state()
    wrong = sorted(
        key for key in expected.keys() | state.keys()
        if key not in expected or key not in state or expected[key].shape != state[key].shape
    )  # fmt: skip
    if wrong:
        raise WeightsError(
            f"{file}: {len(wrong)} of its tensors do not fit {trained!r}, the first is {wrong[0]!r}:"
            " it is damaged, or of another version of refsr"
        )
    built.load_state_dict(state, strict=False)
    built.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return built.eval().requires_grad_(False)


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
        return kind.config(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (TypeError, UsageError) as error:
        raise WeightsError(f"{file}: its config is damaged ({error}): get the file again") from error
