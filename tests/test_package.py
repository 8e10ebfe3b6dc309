"""Promises of the package as a whole."""

import subprocess
import sys

import refsr


def test_public_names() -> None:
    assert set(refsr.__all__) == {
        "ARCHITECTURES", "WEIGHTS", "ImageError", "MemoryBudgetError", "MissingExtraError", "OutputError", "Photo",
        "Provenance", "RefSRError", "TrainingError", "Upscaled", "UsageError", "VariantConfig", "WeightsError",
        "__version__", "load_model", "upscale",
    }  # fmt: skip


def test_import_needs_the_core_only() -> None:
    extras = ("imagecodecs", "tifffile", "skimage", "scipy", "cv2", "torchvision")
    code = f"import sys; sys.modules.update(dict.fromkeys({extras!r})); import refsr, refsr.cli"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
