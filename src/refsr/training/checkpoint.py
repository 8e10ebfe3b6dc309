"""Checkpoints: the whole state of a run in one file, written atomically."""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from refsr.errors import UsageError, WeightsError
from refsr.io.files import write_atomically
from refsr.training.config import StageConfig, TrainConfig

_MAY_DIFFER = frozenset({"steps", "decay_share", "checkpoint_minutes", "validate_steps", "validate_samples",
                         "log_steps", "precision", "compiled", "workers", "cache_mib"})  # fmt: skip
"""Settings that may change when a run is continued."""


def save_checkpoint(path: Path, config: TrainConfig, state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: File to write.
        config: The run's config, kept beside the state.
        state: Tensors, numbers, and containers of them.

    Raises:
        OutputError: The file cannot be written; the previous one is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"config": asdict(config), **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, config: TrainConfig) -> dict[str, Any] | None:
    """Read a run's checkpoint, if there is one.

    Raises:
        WeightsError: The file is damaged.
        UsageError: It belongs to a run with other settings than `config`.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state["config"]
    except Exception as error:  # torch.load raises many kinds of errors
        raise WeightsError(f"{path}: damaged, or not a checkpoint: delete it to begin anew") from error
    defaults = asdict(TrainConfig(rec=StageConfig(steps=1)))
    if (name := _difference(_completed(before, defaults), asdict(config))) is not None:
        raise UsageError(
            f"{path}: belongs to a run with another {name}: choose another folder, or set {name} as it was"
        )
    return state


def _completed(before: Any, defaults: Any) -> Any:
    """Settings of an earlier version of refsr, with defaults for those that it did not have."""
    if not isinstance(before, dict) or not isinstance(defaults, dict):
        return before
    return defaults | {key: _completed(value, defaults.get(key)) for key, value in before.items()}


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """Dotted name of the first setting that differs but may not."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            if key not in _MAY_DIFFER:
                found = _difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
                if found:
                    return found
        return None
    return None if before == now else name
