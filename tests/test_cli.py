"""The command line as a person meets it: what comes out, and one line for whatever goes wrong."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import bomb, encoded, fails, texture
from PIL import Image

import refsr.cli.enlarge
from refsr.cli import main, with_new_names
from refsr.cli.quantities import parse_bytes
from refsr.cli.verbs import VERBS
from refsr.errors import OutputError, UsageError
from refsr.wording import cause, counted, times, told


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with in.png and ref.png, small ones."""
    for name, size, seed in (("in.png", (20, 27), 0), ("ref.png", (60, 72), 1)):
        pixels = (texture(*size, seed=seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_the_main_job(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, chart = pictures / "out.png", pictures / "map.png"
    arguments = ["upscale", str(pictures / "in.png"), "--ref", str(pictures / "ref.png"), str(pictures / "ref.png")]
    arguments += ["-o", str(out), "--provenance", str(chart)]
    assert main([*arguments, "--device", "cpu", "--memory", "1GiB", "--ref-degrees", "90", "--ref-scales", "0.5"]) == 0
    assert size_of(out) == (108, 80)
    assert size_of(chart) == (108, 80 + 22)
    captured = capsys.readouterr()
    assert captured.err == ""
    seen = r"noise [\d.]+, blur [\d.]+ px, (no JPEG|JPEG about \d+): restored as a (clean|real) photo"
    made = rf".*out.png: 108x80 in [\d.]+ s, \d+% from .*ref.png, \d+% from .*ref.png; {seen}\n"
    assert re.fullmatch(made, captured.out)


def test_a_free_name_beside_the_picture_and_a_summary(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in_refsr.png", "in_refsr_2.png", "in_refsr_3.png"):
        assert main(["upscale", str(pictures / "in.png"), "--json", "--quiet"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        summary = json.loads(captured.out)
        assert summary.pop("seconds") >= 0
        output = str(pictures / name)
        clean = {"condition": {"blur_px": 0.0, "noise": 0.0, "jpeg": 100.0}, "real_share": 0.0}  # too small to tell
        clean |= {"texture": 0.0}
        nothing: dict[str, Any] = {"used": [], "shares": {}, "unfit": {}, "notes": [], **clean}
        assert summary == {"output": output, "width": 108, "height": 80} | nothing
        assert size_of(pictures / name) == (108, 80)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff"])
def test_without_a_reference_in_other_formats(pictures: Path, suffix: str) -> None:
    assert main(["upscale", str(pictures / "in.png"), "--output", str(pictures / f"out.{suffix}")]) == 0
    assert size_of(pictures / f"out.{suffix}") == (108, 80)


@pytest.mark.parametrize(
    ("flags", "size"),
    [("--scale 1.5", (40, 30)), ("--scale 8", (216, 160)), ("--size 60x60", (60, 44)), ("--size 20X20", (20, 15))],
)
def test_results_of_any_size(pictures: Path, flags: str, size: tuple[int, int]) -> None:
    out = pictures / "out.png"
    assert main(["upscale", str(pictures / "in.png"), "-o", str(out), "--quiet", *flags.split()]) == 0
    assert size_of(out) == size


def test_a_sharp_photo_stays_as_it_is(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = pictures / "out.png"
    assert main(["upscale", str(pictures / "ref.png"), "--scale", "1", "-o", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "refsr: the photo is as sharp as its size allows, and stays as it is\n"
    assert re.fullmatch(r".*out.png: 72x60 in [\d.]+ s, no detail added; noise .* not restored\n", captured.out)
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(pictures / "ref.png")))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--scale 0.9", "--scale 0.9: give a number from 1 to 8"),
        ("--scale 8.1", "--scale 8.1: give a number from 1 to 8"),
        ("--size 100", "--size '100' is not a size: write it like 1920x1080"),
        ("--size 1x1", "--size 1x1: is too small: at least 8 pixels a side"),
        ("--size 1000x1000", "--size 1000x1000: 27x20 pixels become 216x160 at the most"),
    ],
)
def test_impossible_sizes(pictures: Path, capsys: pytest.CaptureFixture[str], flags: str, message: str) -> None:
    fails(capsys, 2, message, "upscale", pictures / "in.png", "-o", pictures / "out.png", *flags.split())
    assert not (pictures / "out.png").exists()


def test_as_a_program(pictures: Path) -> None:
    """In a process of its own, as installed; what is wrong is one line without a traceback."""
    command = [sys.executable, "-m", "refsr", "upscale", "in.png", "--ref", "ref.png", "-o"]
    good = subprocess.run([*command, "out.png"], cwd=pictures, capture_output=True, text=True, check=False)
    unused = "refsr: ref.png: shows other things than the photo, and was not used\n"
    assert (good.returncode, good.stderr) == (0, unused)
    assert re.fullmatch(r"out.png: 108x80 in [\d.]+ s, all detail guessed; .* restored as a \w+ photo\n", good.stdout)
    bad = subprocess.run([*command, "none/out.png"], cwd=pictures, capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "refsr: none/out.png: the folder none does not exist: make it first\n"


def test_models_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "default" in listed
    assert "0.55 M" in listed
    for arguments in (["--help"], ["upscale", "--help"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{refsr.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_ends_with_examples_that_are_understood(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    examples = capsys.readouterr().out.partition("Examples")[2]
    lines = re.findall(rf"^ *refsr ({verb}\b.*(?:\n(?! *refsr| *$).*)*)", examples, re.MULTILINE)
    assert lines, examples
    for line in lines:
        refsr.cli.app.parse_args(line.split(), exit_on_error=False, print_error=False)


def test_one_flag_for_one_thing() -> None:
    """Nothing that several verbs have goes by two names."""
    flags = {
        verb: {name for argument in refsr.cli.app[verb].assemble_argument_collection() for name in argument.names}
        for verb in VERBS if verb != "models"
    }  # fmt: skip
    for verb, names in flags.items():
        assert not names & {"--out", "--refs", "--jobs", "--engine", "--accelerator", "--threads"}, verb
        assert ("--output" in names and "-o" in names) or verb == "serve"
    restoring = {"--model", "--device", "--memory", "--search", "--precision"}
    assert all(restoring <= flags[verb] for verb in ("upscale", "batch", "bench", "serve", "video"))
    assert all("--processes" in flags[verb] for verb in ("batch", "pairs", "train"))


def test_old_flags_work_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", str(tmp_path / "none"), "--output", str(tmp_path / "out"), "--jobs=1"]) == 2
    hint, error = capsys.readouterr().err.splitlines()
    assert hint == "refsr: --jobs is called --processes now: the old name works in this release only"
    assert "none: no such folder" in error
    assert with_new_names(["bench", "D", "--refs", "1", "--json=a.json"]) == [
        "bench", "D", "--references", "1", "--output=a.json"
    ]  # fmt: skip
    assert with_new_names(["train", "R", "--out", "--devices", "2", "--refs"])[2:] == [
        "--output", "--processes", "2", "--refs"
    ]  # fmt: skip
    assert with_new_names([]) == []


def test_completion_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert main(["--install-completion"]) == 0
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "upscale" in written
    assert "--provenance" in written


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"text", "not a PNG, JPEG, .* or TGA picture"),
        (encoded("PNG")[:2000], "damaged or truncated"),
        (bomb(), "more than 178 million pixels"),
    ],
)
@pytest.mark.parametrize("place", ["image", "ref"])
def test_bad_pictures(
    pictures: Path, data: bytes, message: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "bad.png").write_bytes(data)
    names = ("bad.png", "ref.png") if place == "image" else ("in.png", "bad.png")
    out = pictures / "out.png"
    fails(capsys, 2, f"bad.png: .*{message}", "upscale", pictures / names[0], "--ref", pictures / names[1], "-o", out)
    assert not out.exists()


def test_bad_usage(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, ref, out = pictures / "in.png", pictures / "ref.png", pictures / "out.png"
    small = pictures / "small.png"
    Image.new("RGB", (30, 7)).save(small)
    narrow = pictures / "narrow.png"
    Image.new("RGB", (30, 9)).save(narrow)
    Image.new("RGBA", (30, 30)).save(pictures / "alpha.png")
    (pictures / "bad.safetensors").write_bytes(b"junk")
    given = ("upscale", image, "--ref", ref, "-o", out)
    for pattern, arguments in {
        "in.jpg: no such file": ("upscale", pictures / "in.jpg", "-o", out),
        "none.png: no such file": ("upscale", image, "--ref", pictures / "none.png", "-o", out),
        "small.png: 30x7 pixels is too small": ("upscale", small, "-o", out),
        "narrow.png: 30x9 pixels is too small: a reference": ("upscale", image, "--ref", narrow, "-o", out),
        "the folder .* does not exist": ("upscale", image, "-o", pictures / "none" / "out.png"),
        "no format is known for '.xyz'": ("upscale", image, "-o", pictures / "out.xyz"),
        "JPEG cannot keep": ("upscale", pictures / "alpha.png", "-o", pictures / "out.jpg"),
        "in.png: is one of the input pictures": ("upscale", image, "-o", image),
        "ref.png: is one of the input pictures": (*given, "--provenance", ref),
        "out.png: is the output as well": (*given, "--provenance", out),
        "a map cannot be written as '.jpg': use .png": (*given, "--provenance", pictures / "map.jpg"),
        "neither a model .*: check the name": (*given, "--model", "best"),
        "neither a model .*: did you mean default-real": (*given, "--model", "default-rael"),
        "ref.png: `refsr upscale` takes one picture: enlarge several with `refsr batch": ("upscale", image, ref),
        "ref.png: `refsr batch` takes one folder or list": ("batch", image, ref, "-o", pictures / "batch"),
        "x: is more than `refsr bench compare` takes: see": ("bench", "compare", "a.json", "b.json", "x"),
        "-: standard input and output are not offered as files: name": ("upscale", image, "-o", "-"),
        "-: standard input and output are not offered": ("batch", pictures, "--output=-"),
        "in.png: a file, not a folder: name a folder": ("upscale", image, "--album", image, "-o", out),
        "--ref-degrees: there is no reference to search: give": ("upscale", image, "--ref-degrees", "90", "-o", out),
        "--ref-scales: there is no reference": ("upscale", image, "--ref-scales", "0.5", "-o", out),
        "--memory 500TiB: this machine has .*GiB: allow less": (*given, "--memory", "500TiB"),
        "bad.safetensors: damaged": (*given, "--model", pictures / "bad.safetensors"),
        "none.pth: no such": (*given, "--model", "srntt", "--vgg19", pictures / "none.pth"),
        "--memory 'much' is not a size": (*given, "--memory", "much"),
        "need .* of working memory, .*: allow more .--memory .*MiB": (*given, "--memory", "1MiB"),
        "--scale 0: give a number from 1 to 8": (*given, "--scale", "0"),
        "--scale 'twice' is not a number: write it like 2 or 1.5": (*given, "--scale", "twice"),
        "--scale 2 and --size 90x90: give one of them": (*given, "--scale", "2", "--size", "90x90"),
        "between 0.1 and 10": (*given, "--ref-scales", "99"),
        "--device": (*given, "--device", "tpu"),
        "--sharp": (*given, "--sharp"),
        "upscal": ("upscal",),
    }.items():
        fails(capsys, 2, pattern, *arguments)
        assert not out.exists()


def test_a_folder_that_cannot_be_written(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(folder, os.W_OK):  # root may write anywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    fails(capsys, 2, "locked is not writable", "upscale", pictures / "in.png", "-o", folder / "out.png")


def test_an_existing_output_outlives_a_failure(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = pictures / "out.png"
    out.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fails(capsys, 2, "out.png: cannot be written", "upscale", pictures / "in.png", "-o", out)
    assert out.read_bytes() == b"precious"
    assert {p.name for p in pictures.iterdir()} == {"in.png", "ref.png", "out.png"}


def test_out_of_memory_a_defect_and_ctrl_c(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(error: BaseException) -> Any:
        def run(*_: object, **__: object) -> None:
            raise error

        return run

    arguments = ("upscale", pictures / "in.png", "-o", pictures / "out.png")
    model = refsr.models.DefaultModel
    monkeypatch.setattr(model, "transfer", raising(RuntimeError("can't allocate memory: tried 9 bytes")))
    fails(capsys, 2, "out of memory while enlarging 27x20 pixels: close other programs", *arguments)
    monkeypatch.setattr(model, "transfer", raising(torch.OutOfMemoryError("CUDA out of memory")))
    fails(capsys, 2, "out of memory", *arguments)
    with monkeypatch.context() as reading:
        reading.setattr(refsr.cli.enlarge, "as_photo", raising(MemoryError("Unable to allocate 9 GiB")))
        fails(capsys, 2, "out of memory: close other programs", *arguments)
    monkeypatch.setattr(model, "transfer", raising(ZeroDivisionError("oh\nno")))
    fails(capsys, 1, "a defect of refsr, please report it: ZeroDivisionError: oh no", *arguments)
    monkeypatch.setattr(model, "transfer", raising(KeyboardInterrupt()))
    fails(capsys, 130, "stopped", *arguments)
    assert not (pictures / "out.png").exists()


def test_sixteen_bit_input_gives_sixteen_bit_output(pictures: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (16, 18), dtype=np.uint16)
    Image.fromarray(pixels).save(pictures / "deep.png")
    assert main(["upscale", str(pictures / "deep.png"), "-o", str(pictures / "out.png")]) == 0
    with Image.open(pictures / "out.png") as image:
        assert image.mode == "I;16"


def test_sizes_of_memory() -> None:
    assert [parse_bytes(t) for t in ("2GiB", "800 MiB", "1.5gb", "1000", "3K", "1TiB", "2T")] == [
        2**31, 800 * 2**20, 1_500_000_000, 1000, 3000, 2**40, 2 * 10**12
    ]  # fmt: skip
    for text in ("", "2 XB", "-1GiB", "0", "GiB"):
        with pytest.raises(UsageError, match="is not a size"):
            parse_bytes(text)


def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    figures = {
        name: [float(n) for n in re.findall(rf"{name} +([\d.]+) +([\d.]+)", printed)[0]]
        for name in ("bicubic", "without reference", "with reference")
    }
    for column in (0, 1):
        assert figures["bicubic"][column] < figures["without reference"][column] < figures["with reference"][column]
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    assert {"side_by_side.png", "map.png", "lr.png", "with_reference.png", "without_reference.png"} <= names


def test_the_list_of_verbs_says_what_their_functions_say() -> None:
    for name, (_, description) in VERBS.items():
        function = refsr.cli.app[name].default_command
        assert function is not None
        if name != "bench":  # a verb of several functions
            assert (function.__doc__ or "").splitlines()[0] == description.splitlines()[0]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_what_needs_no_network_imports_none(arguments: list[str]) -> None:
    """torch takes seconds."""
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from refsr.__main__ import run; run()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    *said, modules = done.stdout.splitlines()
    assert said
    assert "refsr.cli.verbs" in modules.split()
    assert not {"torch", "numpy", "PIL", "markdown_it"} & set(modules.split())


def test_near_misses_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, 'Unknown command "upscal". Did you mean "upscale"', "upscal")
    fails(capsys, 2, "Unknown option: --provenanc. Did you mean --provenance", "upscale", "a.png", "--provenanc", "m")


def test_public_names_are_imported_when_they_are_used() -> None:
    code = (
        "import sys, refsr; assert 'torch' not in sys.modules; assert set(refsr.__all__) <= set(dir(refsr));"
        "from refsr import *; assert upscale is refsr.upscale and load_model and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="module 'refsr' has no attribute 'downscale'"):
        _ = refsr.downscale


def test_counts_paths_and_causes() -> None:
    assert [counted(n, "photo") for n in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
    assert [times(n) for n in (0, 1, 2)] == ["0 times", "once", "2 times"]
    assert told(Path("a.png"), "a.png: damaged") == told("a.png", "damaged") == "a.png: damaged"
    assert cause(FileNotFoundError(2, "No such file", "a.png")) == "No such file"
    assert cause(OutputError("a.png: is a\nfolder")) == "a.png: is a folder"
    assert cause(KeyError()) == "KeyError"


def test_too_few_files_may_be_open(pictures: Path) -> None:
    """As after `ulimit -n 8`."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8));from refsr.__main__ import run; run()"
    command = [sys.executable, "-c", code, "batch", ".", "-o", "out", "--model", "bicubic", "--processes", "2"]
    done = subprocess.run(command, cwd=pictures, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("refsr: .*Too many open files: allow more .*\n", done.stderr)
