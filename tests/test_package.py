"""Promises of the package as a whole: its public names, and what it does without the optional dependencies."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import fails, random_pixels, texture

import refsr
from refsr.cli import main
from refsr.extras import EXTRA_OF
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.resize import downscale_bicubic

ROOT = Path(__file__).parent.parent


def test_public_names() -> None:
    assert set(refsr.__all__) == {
        "ARCHITECTURES", "WEIGHTS", "ImageError", "MemoryBudgetError", "MissingExtraError", "OutputError", "Photo",
        "Provenance", "RefSRError", "TrainingError", "Upscaled", "UsageError", "VariantConfig", "WeightsError",
        "__version__", "load_blend", "load_model", "upscale",
    }  # fmt: skip


def test_the_extras_are_those_of_pyproject() -> None:
    """All but the one for those who work on refsr, which installs every other."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    dev = extras.pop("dev")
    assert extras.keys() == set(EXTRA_OF.values())
    (every,) = [requirement for requirement in dev if requirement.startswith("refsr")]
    assert set(re.findall(r"\w+", every)) == extras.keys() | {"refsr"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with blurry.png, and sharp.png, which shows the same."""
    sharp = texture(96, 112)
    write_photo(tmp_path / "blurry.png", Photo(pixels=downscale_bicubic(sharp, 4).clamp(0, 1)))
    write_photo(tmp_path / "sharp.png", Photo(pixels=sharp))
    return tmp_path


def test_the_main_job_needs_no_extra(pictures: Path) -> None:
    """In processes in which no module of any extra can be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(EXTRA_OF)})); "
    run = blocked + "from refsr.__main__ import run; run()"
    for code, arguments in (
        (blocked + "import refsr, refsr.cli", ()),
        (run, ("--help",)),
        (run, ("upscale", "blurry.png", "--ref", "sharp.png", "-o", "large.png", "--quiet")),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=pictures, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert as_photo(pictures / "large.png").size_px == (96, 112)


def use_of(module: str, folder: Path) -> tuple[object, ...]:
    """A command that needs a module of an extra, for pictures in a folder."""
    out = folder / "out"
    blurry, sharp = folder / "blurry.png", folder / "sharp.png"
    (folder / "recipe.yaml").write_text(
        "default: {width: 8, blocks_before: 1, blocks_after: 1, descriptor_width: 8, descriptor_size: 8}\n"
        "rec: {steps: 1, batch: 1, crop_px: 16}\nworkers: 0\n"
    )
    for name in ("video.mp4", "vgg.mat"):
        (folder / name).write_bytes(b"")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    training = ("train", folder / "recipe.yaml", "--data", folder, "-o", out, "--device", "cpu")
    deep = ("upscale", folder / "deep.png", "-o", folder / "large.png", "--model", "bicubic")
    return {
        "av": ("video", folder / "video.mp4", "--keyframes", folder, "-o", folder / "large.mp4"),
        "cv2": ("pairs", folder, "-o", out),
        "faiss": ("upscale", blurry, "--ref", sharp, "-o", folder / "large.png", "--search", "faiss"),
        "gradio": ("serve",),
        "imagecodecs": deep,
        "matplotlib": ("bench", "report", next((ROOT / "docs" / "results").glob("*.json")), "-o", out),
        "onnxscript": ("export", "-o", out),
        "pillow_heif": ("upscale", folder / "photo.heic", "-o", folder / "large.png", "--model", "bicubic"),
        "ray": ("batch", folder, "-o", out, "--where", "ray", "--model", "bicubic"),
        "scipy": ("convert", folder / "vgg.mat", "-o", folder / "vgg.safetensors"),
        "lightning_fabric": training,
        "tensorboard": (*training, "--tensorboard"),
        "yaml": training,
        "tifffile": deep,
    }[module]


@pytest.mark.parametrize("module", sorted(EXTRA_OF))
def test_what_needs_an_extra_says_how_to_install_it(
    module: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, whatever else is installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pictures / "cache"))
    if module in ("imagecodecs", "tifffile"):
        pixels = torch.from_numpy(random_pixels(3, 16, 16, dtype=np.uint16).astype(np.float32))[None] / 65535
        write_photo(pictures / "deep.png", Photo(pixels=pixels, bits=16))
    for name in [name for name in sys.modules if name.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    command = use_of(module, pictures)
    if module == "tensorboard":  # said after what the run says of its data, on standard output
        assert main([str(argument) for argument in command]) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert said.endswith(f"needs an extra: pip install 'refsr[{EXTRA_OF[module]}]'")
    else:
        fails(capsys, 2, rf"needs an extra: pip install 'refsr\[{EXTRA_OF[module]}\]'$", *command)
