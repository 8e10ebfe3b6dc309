"""Reference-based image super-resolution: detail taken from another sharp photo, not invented.

from refsr import load_model, upscale

result = upscale("blurry.jpg", ["sharp.jpg"])
result.save("restored.png")
result.save_provenance("map.png")
"""

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
from refsr.io.photo import Photo
from refsr.models import ARCHITECTURES, WEIGHTS, load_model
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
    "load_model",
    "upscale",
]
