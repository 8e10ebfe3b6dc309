"""The one way to load a model: a name of the zoo or a weights file."""

from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from refsr.device import Device, choose_device
from refsr.errors import UsageError, WeightsError
from refsr.io.weights import read_weights
from refsr.models.base import RefSRModel
from refsr.models.vgg import VGG19, load_vgg19
from refsr.models.zoo import MODELS


def load_model(
    model: str | Path = "default", *, device: Device | torch.device = "auto", vgg19: Path | None = None
) -> RefSRModel:
    """Load a model, ready to use.

    Args:
        model: A name of the zoo, or the path of a weights file.
        device: "auto" takes CUDA, then MPS, then the CPU.
        vgg19: File of VGG19 weights, for models that need them; see `refsr.models.vgg`.

    Raises:
        WeightsError: The weights are missing, damaged, or do not fit the model that they name.
        UsageError: The device is not there.
    """
    chosen = choose_device(device)
    if isinstance(model, str) and model in MODELS and not MODELS[model].has_weights:
        spec = MODELS[model]
        return spec.build(spec.config(), None).eval()
    name, file = _locate(model)
    header_name, values, state = read_weights(file)
    if name is not None and header_name != (MODELS[name].trained_as or name):
        raise WeightsError(f"{file}: holds weights of the model {header_name!r}, not of {name!r}")
    if header_name not in MODELS:
        raise WeightsError(f"{file}: is for the model {header_name!r}, which is none of {', '.join(MODELS)}")
    spec = MODELS[name or header_name]
    built = spec.build(network_config(header_name, values, file), load_vgg19(vgg19) if spec.needs_vgg19 else None)
    expected = built.own_state()
    wrong = sorted(
        key for key in expected.keys() | state.keys()
        if key not in expected or key not in state or expected[key].shape != state[key].shape
    )  # fmt: skip
    if wrong:
        raise WeightsError(f"{file}: {len(wrong)} of its tensors do not fit {header_name!r}, {wrong[0]!r} first")
    built.load_state_dict(state, strict=False)
    built.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return built.eval().requires_grad_(False)


def build_model(name: str, config: Any, vgg: VGG19 | None = None) -> RefSRModel:
    """A model with random weights, to be trained.

    Args:
        name: Of the zoo.
        config: Of the kind that its `ModelSpec` names.
        vgg: Features, for models that need them.
    """
    return MODELS[name].build(config, vgg)


def packaged_model(name: str) -> RefSRModel:
    """A model of the sizes that its packaged weights have, or of the usual ones if there are none; random weights.

    Args:
        name: Of the zoo.
    """
    file, spec = packaged_weights(name), MODELS[name]
    config = spec.config() if file is None else network_config(name, read_weights(file)[1], file)
    return spec.build(config, None)


def packaged_weights(name: str) -> Path | None:
    """The weights file of a model inside the package, or none if there are no trained weights yet."""
    file = MODELS[name].weights
    return Path(str(resources.files("refsr.models") / "weights" / file)) if file else None


def _locate(model: str | Path) -> tuple[str | None, Path]:
    if isinstance(model, str) and model in MODELS:
        file = packaged_weights(model)
        if file is None:
            raise WeightsError(f"the model {model!r} has no trained weights yet: give the path of a weights file")
        return model, file
    path = Path(model)
    if not path.is_file():
        raise WeightsError(f"{model}: neither a model ({', '.join(MODELS)}) nor a weights file")
    return None, path


def network_config(name: str, values: dict[str, Any], file: Path) -> Any:
    """The sizes of a network as a weights file's header has them; what it lacks is as by default.

    Args:
        name: Of the zoo.
        values: From the header.
        file: For the error.

    Raises:
        WeightsError: They are none of this model's.
    """
    kind = MODELS[name].config
    known = {field.name for field in fields(kind)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise WeightsError(f"{file}: was made by another version of refsr: its config has {unknown[0]!r}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (TypeError, UsageError) as error:
        raise WeightsError(f"{file}: its config is damaged ({error}): get the file again") from error
