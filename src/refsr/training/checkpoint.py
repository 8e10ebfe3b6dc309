"""All that a broken run goes on from, in one file, written whole or not at all."""

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
"""Settings that a resumed run may have otherwise."""


def save_checkpoint(path: Path, config: TrainConfig, state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Args:
        path: Where to.
        config: Of the run; kept beside the state.
        state: Tensors, numbers, and containers of them.

    Raises:
        OutputError: It cannot be written; the last one is left as it was.
    """
    buffer = io.BytesIO()
    torch.save({"config": asdict(config), **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, config: TrainConfig) -> dict[str, Any] | None:
    """Read a run's checkpoint, if there is one.

    Args:
        path: Where it would be.
        config: Of the run that goes on.

    Raises:
        WeightsError: It is damaged.
        UsageError: It is of a run with other settings.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state["config"]
    except Exception as error:  # torch.load fails in many ways, and all of them mean the same
        raise WeightsError(f"{path}: damaged, or not a checkpoint: delete it to begin anew") from error
    defaults = asdict(TrainConfig(rec=StageConfig(steps=1)))
    if (name := _difference(_completed(before, defaults), asdict(config))) is not None:
        raise UsageError(f"{path}: is of a run with another {name}: choose another folder, or set {name} as it was")
    return state


def _completed(before: Any, defaults: Any) -> Any:
    """A run's settings, with those that its version of refsr did not have yet as by default."""
    if not isinstance(before, dict) or not isinstance(defaults, dict):
        return before
    return defaults | {key: _completed(value, defaults.get(key)) for key, value in before.items()}


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """The first setting that differs and may not, dotted."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            if key not in _MAY_DIFFER:
                found = _difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
                if found:
                    return found
        return None
    return None if before == now else name
