"""Results of the program, to the bit, before and after a change of its code.

python scripts/golden.py write before.npz      on the code as it was
python scripts/golden.py compare before.npz    on the changed code: measures anew, exits with 1 where a bit differs
python scripts/golden.py summarise tests/golden.json      after a change that is meant to change results

Everything is computed on the CPU in float32 by one thread, from the bundled pictures and seeded noise, through nothing
but the public names and the command line, so that what lies behind them may be rebuilt. Bits differ among processors:
compare on the machine that wrote. `tests/test_golden.py` holds a summary with a tolerance, which holds on all.
"""

import argparse
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.numpy import load_file

from refsr import VariantConfig, load_model, upscale
from refsr.assets import sample_path
from refsr.cli import main as refsr

Results = dict[str, NDArray[Any]]

_BOX: Final = (200, 120, 456, 312)
"""Left, top, right, bottom in the bundled truth: 256x192 pixels."""

_SEARCHED: Final = (150, 60, 502, 380)
"""The part of the bundled reference that shows the same, with some margin."""

_TIMES: Final = ("seconds", "share_", "peak")
"""Beginnings of the names of figures that no two runs have alike."""


def enlarged(_: Path) -> Results:
    """`upscale`: without reference, with one, with three of which one shows other things, in tiles, by each engine."""
    lr = _small(_truth())
    ref = _reference()
    turned = ref.rotate(90, expand=True)
    runs: dict[str, dict[str, Any]] = {
        "none": {},
        "one": {"refs": [ref]},
        "three": {"refs": [turned, ref.resize((176, 160)), _noise((128, 120), 1)]},
        "tiles": {"refs": [ref], "memory_bytes": 28 * 2**20},
        "variants": {"refs": [turned], "variants": VariantConfig(degrees=(-90.0,))},
        "exact": {"refs": [ref], "engine": "exact"},
    }
    model = load_model(device="cpu")
    results: Results = {}
    for name, options in runs.items():
        results |= _enlarged(name, lr, options | {"model": model})
    results |= _enlarged("flow", lr, {"refs": [ref], "model": load_model("flow", device="cpu")})
    return results


def paper(folder: Path) -> Results:
    """`upscale` with SRNTT, on random VGG19 weights."""
    model = load_model("srntt", device="cpu", vgg19=_vgg19(folder))
    box = (0, 0, 24, 20)
    ref = _reference().crop((60, 60, 140, 124))
    return _enlarged("srntt", _small(_truth()).crop(box), {"refs": [ref], "model": model})


def measured(folder: Path) -> Results:
    """Figures of `refsr bench` on two groups: with the best reference, with all, found among all, another protocol."""
    data = folder / "groups"
    data.mkdir()
    for number, left in enumerate((0, 128)):
        _truth().crop((left, 0, left + 128, 96)).save(data / f"{number:03}_0.png")
        _reference().crop((left, 20, left + 160, 140)).save(data / f"{number:03}_1.png")
        _reference().crop((left, 160, left + 160, 280)).save(data / f"{number:03}_3.png")
    runs = {
        "best": (),
        "all": ("--references", "all"),
        "album": ("--references", "album"),
        "masa": ("--protocol", "masa"),
    }
    results: Results = {}
    for name, options in runs.items():
        file = folder / f"{name}.json"
        _call("bench", data, "--output", file, "--precision", "fp32", "--device", "cpu", *options)
        for image in json.loads(file.read_text())["images"]:
            for figure, value in image.items():
                if isinstance(value, float | int) and not figure.startswith(_TIMES):
                    results[f"{name}/{image['name']}/{figure}"] = np.array(float(value))
    return results


def filmed(folder: Path) -> Results:
    """Frames of `refsr video`, with matches carried from frame to frame, and with each frame matched anew."""
    source = folder / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv444p"
        for number in range(3):
            seen = _truth().crop((2 * number, 0, 2 * number + 192, 160))
            frame = av.VideoFrame.from_ndarray(np.asarray(_small(seen)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    stills = folder / "stills"
    stills.mkdir()
    _reference().save(stills / "same.png")
    _noise((200, 160), 3).save(stills / "other.png")
    results: Results = {}
    common = ("--keyframes", stills, "--crf", "0", "--precision", "fp32", "--device", "cpu")
    for name, options in {"carried": (), "anew": ("--each-frame-anew",)}.items():
        file = folder / f"{name}.mp4"
        said = _call("video", source, "--output", file, *common, *options)
        results[f"{name}/flicker"] = np.array(float(said.rpartition("flicker: ")[2].split()[0]))
        with av.open(str(file)) as container:
            results[f"{name}/frames"] = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    return results


def paired(folder: Path) -> Results:
    """The sets that `refsr pairs` builds of photographs: pictures, and their manifests."""
    album, out = folder / "album", folder / "pairs"
    album.mkdir()
    views = {"truth": _sample("truth"), "reference": _sample("reference")}
    for name, view in views.items():
        for number, left in enumerate((0, 100, 180)):
            view.crop((left, 20, left + 420, 420)).save(album / f"{name}_{number}.png")
    shapes = Image.new("RGB", (400, 400))
    draw, rng = ImageDraw.Draw(shapes), np.random.default_rng(5)
    for x, y, size, *colour in rng.integers((0, 0, 8, 0, 0, 0), (400, 400, 60, 256, 256, 256), (300, 6)).tolist():
        draw.rectangle((x, y, x + size, y + size), fill=tuple(colour))
    for number, left in enumerate((0, 60)):
        shapes.crop((left, 0, left + 340, 400)).save(album / f"shapes_{number}.png")
    _call("pairs", album, "--output", out, "--test-share", "0.4", "--train-from", "both", "--processes", "1")
    results: Results = {}
    for file in sorted(out.rglob("*")):
        name = file.relative_to(out).as_posix()
        if file.suffix == ".png":
            results[name] = np.asarray(Image.open(file))
        elif file.name == "manifest.jsonl":
            results[name] = np.frombuffer(file.read_bytes(), np.uint8)
    return results


def trained(folder: Path) -> Results:
    """Losses and weights of `refsr train`: the default model with its own losses, SRNTT with every other one."""
    photos = folder / "photos"
    photos.mkdir()
    for name in ("truth", "reference"):
        _sample(name).resize((240, 180)).save(photos / f"{name}.png")
    _noise((90, 80), 2).resize((180, 160), Image.Resampling.BICUBIC).save(photos / "noise.png")
    common = "seed: 3\nprecision: 32-true\nema_decay: 0.0\nlog_steps: 1\n"
    recipes = {
        "default": "default: {width: 8, blocks_before: 1, blocks_after: 1, descriptor_width: 8, descriptor_size: 8}\n"
        "pairs: {references: [0.2, 0.4, 0.4], tilted: 0.3, layered: 0.3, relief: 0.3}\ndegrade: {clean: 0.3}\n"
        "rec: {steps: 2, batch: 6, crop_px: 32, learning_rate: 2.0e-5, "
        "losses: {contrast: 0.01, alignment: 0.1, charbonnier: 0.5}}\n",
        "srntt": "model: srntt\nsrntt: {width: 4, trunk_blocks: 1, transfer_blocks: [1, 1, 1]}\ncritic_width: 2\n"
        "rec: {steps: 1, batch: 2, crop_px: 32, learning_rate: 2.0e-5}\n"
        "full: {steps: 2, batch: 3, crop_px: 32, learning_rate: 2.0e-5, truth: true, "
        "losses: {perceptual: 1.0e-3, texture: 1.0e-3, adversarial: 1.0e-3, back_projection: 0.1, frequency: 0.1}}\n",
    }
    options = ("--data", photos, "--vgg19", _vgg19(folder), "--accelerator", "cpu", "--devices", "1")
    results: Results = {}
    for name, recipe in recipes.items():
        file, run = folder / f"{name}.yaml", folder / name
        file.write_text(common + recipe)
        _call("train", file, "--output", run, *options)
        for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
            for figure, value in line.items():
                if isinstance(value, float) and not figure.startswith(_TIMES):
                    results[f"{name}/{line['step']}/{figure}"] = np.array(value)
        for key, value in load_file(run / f"{name}.safetensors").items():
            results[f"{name}/weights/{key}"] = value
    return results


KINDS: Final[dict[str, Callable[[Path], Results]]] = {
    "upscale": enlarged,
    "srntt": paper,
    "bench": measured,
    "video": filmed,
    "pairs": paired,
    "train": trained,
}


def measure(kind: str) -> Results:
    """All results of a kind, by name.

    Args:
        kind: A key of `KINDS`.
    """
    with tempfile.TemporaryDirectory() as folder, _single_thread(), _own_cache(Path(folder) / "cache"):
        return {f"{kind}/{name}": value for name, value in KINDS[kind](Path(folder)).items()}


def summarise(results: Results) -> dict[str, list[float]]:
    """Shape, deviation, and the means of four parts of each result, for a comparison with a tolerance."""
    found = {}
    for name, value in results.items():
        flat = np.nan_to_num(value.astype(np.float64).ravel(), nan=-1.0) / (255 if value.dtype == np.uint8 else 1)
        parts = np.array_split(flat, min(4, flat.size))
        found[name] = [
            float(f"{figure:.8g}") for figure in (*value.shape, flat.std(), *(part.mean() for part in parts))
        ]
    return found


def main() -> int:
    """Write, compare or summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("write", "compare", "summarise"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", choices=tuple(KINDS), nargs="+", default=tuple(KINDS), help="kinds of results")
    arguments = parser.parse_args()
    results: Results = {}
    for kind in arguments.only:
        results |= measure(kind)
    if arguments.task == "summarise":
        arguments.file.write_text(_readable(summarise(results)))
    elif arguments.task == "write":
        np.savez_compressed(arguments.file, **results)  # type: ignore[arg-type]
    else:
        with np.load(arguments.file) as file:
            before = {name: file[name] for name in file.files if name.partition("/")[0] in arguments.only}
        wrong = [name for name in sorted(before.keys() | results.keys()) if not _same(name, before, results)]
        for name in wrong:
            print(f"differs: {name}", file=sys.stderr)
        print(f"{len(before.keys() | results.keys()) - len(wrong)} results are equal, {len(wrong)} differ")
        return 1 if wrong else 0
    return 0


def _same(name: str, before: Results, after: Results) -> bool:
    if name not in before or name not in after:
        return False
    a, b = before[name], after[name]
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _readable(summary: dict[str, list[float]]) -> str:
    """As JSON, one result a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in summary.items()) + "\n}\n"


def _enlarged(name: str, lr: Image.Image, options: dict[str, Any]) -> Results:
    result = upscale(lr, precision="fp32", **options)
    origin = result.provenance
    assert origin.used_levels is not None
    return {
        f"{name}/pixels": result.photo.pixels.numpy(),
        f"{name}/reference": origin.reference.numpy(),
        f"{name}/position_px": origin.position_px.numpy(),
        f"{name}/score": origin.score.numpy(),
        f"{name}/used_levels": origin.used_levels.numpy(),
        f"{name}/unfit": np.array(len(result.unfit)),
    }


def _call(*arguments: object) -> str:
    """What a command prints.

    Raises:
        RuntimeError: It failed.
    """
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        code = refsr([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(f"refsr {arguments[0]} ended with {code}: {complained.getvalue()}")
    return said.getvalue()


@contextmanager
def _single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """The user's cache of albums is neither read nor written."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def _sample(name: Any) -> Image.Image:
    with Image.open(sample_path(name)) as image:
        return image.convert("RGB")


def _truth() -> Image.Image:
    return _sample("truth").crop(_BOX)


def _reference() -> Image.Image:
    return _sample("reference").crop(_SEARCHED)


def _small(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC)


def _noise(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def _vgg19(folder: Path) -> Path:
    """A file of random weights, down to relu3_1."""
    generator, file = torch.Generator().manual_seed(0), folder / "vgg19.pth"
    state: dict[str, torch.Tensor] = {}
    for number, before, after in ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256)):
        weight = torch.randn((after, before, 3, 3), generator=generator) * (2 / (9 * before)) ** 0.5
        state |= {f"features.{number}.weight": weight, f"features.{number}.bias": torch.zeros(after)}
    torch.save(state, file)
    return file


if __name__ == "__main__":
    sys.exit(main())
