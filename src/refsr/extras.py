"""Optional dependencies, imported when they are needed."""

import importlib
import importlib.util
from typing import Any, Final

from refsr.errors import MissingExtraError

EXTRA_OF: Final = {
    "av": "video",
    "cv2": "geometry",
    "faiss": "faiss",
    "gradio": "web",
    "imagecodecs": "deep",
    "matplotlib": "bench",
    "onnxscript": "onnx",
    "pillow_heif": "heic",
    "ray": "ray",
    "scipy": "convert",
    "lightning_fabric": "train",
    "tensorboard": "train",
    "yaml": "train",
    "tifffile": "deep",
}
"""The extra of the package that installs each module."""


def is_installed(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def import_extra(module: str, purpose: str) -> Any:
    """Import an optional dependency.

    Args:
        module: Name of a module or submodule of `EXTRA_OF`.
        purpose: What needs it: the first words of the error.

    Raises:
        MissingExtraError: The module is not installed.
    """
    extra = EXTRA_OF[module.partition(".")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{purpose} needs an extra: pip install 'refsr[{extra}]'") from error
