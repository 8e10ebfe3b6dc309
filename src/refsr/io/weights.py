"""Weights files: safetensors, with the model's name and config in the header. Never pickle."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from refsr.errors import WeightsError
from refsr.io.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "refsr-weights-1"


def save_weights(path: Path, model: str, config: object, state: "Mapping[str, Tensor]") -> None:
    """Write a state dict with the config dataclass that builds its model.

    Raises:
        OutputError: The file cannot be written; an existing one is left as it was.
    """
    header = {"format": FORMAT, "model": model, "config": json.dumps(asdict(config))}  # type: ignore[call-overload]
    data = save({name: tensor.detach().contiguous() for name, tensor in state.items()}, metadata=header)
    write_atomically(path, data)


def read_weights(path: Path) -> tuple[str, dict[str, object], dict[str, Tensor]]:
    """Read (model name, config fields, state dict).

    Raises:
        WeightsError: The file is missing, damaged, or not one of refsr's.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, or not a safetensors file ({error}): get it again") from error
    if header.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a weights file of refsr: its header says {header.get('format')!r}")
    try:
        return header["model"], json.loads(header["config"]), state
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its header is damaged ({error}): get the file again") from error
