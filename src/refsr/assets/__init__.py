"""The bundled sample: two views of one scene, from different places and in different light."""

from importlib import resources
from pathlib import Path
from typing import Literal


def sample_path(name: Literal["truth", "reference"]) -> Path:
    """Path of a picture of the sample."""
    return Path(str(resources.files("refsr.assets") / f"{name}.webp"))


def figure_path() -> Path:
    """Path of the picture that explains the idea; made by `python scripts/screenshots.py --figure`."""
    return Path(str(resources.files("refsr.assets") / "idea.webp"))
