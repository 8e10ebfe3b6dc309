"""Weights files: safetensors, with the model's name and config in the header; never pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from refsr.errors import WeightsError
from refsr.io.files import write_atomically
from refsr.io.records import parse_object, parse_record
from refsr.wording import cause

FORMAT = "refsr-weights-1"


@dataclass(frozen=True, kw_only=True)
class _Header:
    format: str = FORMAT
    model: str
    config: str  # a JSON object


def save_weights(path: Path, model: str, config: object, state: Mapping[str, Tensor]) -> None:
    """Write a state dict with the config dataclass that builds its model.

    Raises:
        OutputError: The file cannot be written; an existing one is left as it was.
    """
    header = _Header(model=model, config=json.dumps(asdict(config)))  # type: ignore[call-overload]
    data = save({name: tensor.detach().contiguous() for name, tensor in state.items()}, metadata=asdict(header))
    write_atomically(path, data)


def read_weights(path: Path) -> tuple[str, dict[str, object], dict[str, Tensor]]:
    """Read (model name, config fields, state dict).

    Raises:
        WeightsError: The file is missing, damaged, holds NaN, or was not written by refsr.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file: check the name")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, or not a safetensors file ({cause(error)}): get it again") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise WeightsError(f"{path}: not a weights file of refsr, its header says {found!r}: name another file")
    try:
        header = parse_record(metadata, _Header)
        config = parse_object(header.config)
    except ValueError as error:
        raise WeightsError(f"{path}: its header is damaged ({error}): get the file again") from error
    require_finite(state, path)
    return header.model, config, state


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that would make every picture black.

    Raises:
        WeightsError: Some are NaN or infinite.
    """
    wrong = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if wrong:
        raise WeightsError(
            f"{path}: holds NaN or infinite values, first in {wrong[0]!r}: get the file again, or train anew from an"
            " earlier checkpoint"
        )
