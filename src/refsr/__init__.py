"""Reference-based image super-resolution: detail taken from another sharp photo, not invented.

from refsr import load_model, upscale

result = upscale("blurry.jpg", ["sharp.jpg"])
result.save("restored.png")
result.save_provenance("map.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from refsr.errors import (
    ImageError,
    MemoryBudgetError,
    MissingExtraError,
    OutputError,
    RefSRError,
    TrainingError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from refsr.io.photo import Photo
    from refsr.models import ARCHITECTURES, WEIGHTS, load_blend, load_model
    from refsr.references.variants import VariantConfig
    from refsr.restore.provenance import Provenance
    from refsr.restore.upscale import Upscaled, upscale

__version__ = "0.1.0"

__all__ = [
    "ARCHITECTURES",
    "WEIGHTS",
    "ImageError",
    "MemoryBudgetError",
    "MissingExtraError",
    "OutputError",
    "Photo",
    "Provenance",
    "RefSRError",
    "TrainingError",
    "Upscaled",
    "UsageError",
    "VariantConfig",
    "WeightsError",
    "__version__",
    "load_blend",
    "load_model",
    "upscale",
]

_HOMES: Final = {
    "ARCHITECTURES": "refsr.models",
    "WEIGHTS": "refsr.models",
    "Photo": "refsr.io.photo",
    "Provenance": "refsr.restore.provenance",
    "Upscaled": "refsr.restore.upscale",
    "VariantConfig": "refsr.references.variants",
    "load_blend": "refsr.models",
    "load_model": "refsr.models",
    "upscale": "refsr.restore.upscale",
}
"""Modules of the names that are imported when they are first used, since torch takes seconds."""


def __getattr__(name: str) -> Any:
    """A public name that is not imported yet."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
