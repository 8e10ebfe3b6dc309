"""Optional dependencies: imported when they are needed, with a kind message where they are missing."""

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
    "ray": "ray",
    "scipy": "convert",
    "lightning_fabric": "train",
    "tensorboard": "train",
    "yaml": "train",
    "tifffile": "deep",
}
"""The extra that brings each module."""


def is_installed(module: str) -> bool:
    """Whether a module of one of the extras is here; it is not imported."""
    return importlib.util.find_spec(module) is not None


def import_extra(module: str, purpose: str) -> Any:
    """Import a module of one of the extras.

    Args:
        module: Its name, dotted if it is a part of one.
        purpose: What it is needed for, as the error's first words.

    Raises:
        MissingExtraError: It is not installed.
    """
    extra = EXTRA_OF[module.partition(".")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{purpose} needs an extra: pip install 'refsr[{extra}]'") from error
