"""Cases in processes of their own, their slope, and what the command prints."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Told, fails

from refsr.bench.speed import (
    SpeedCase,
    SpeedConfig,
    SpeedMeasurement,
    SpeedResult,
    measure_case,
    product_rate,
    run_speed,
)
from refsr.cli import main
from refsr.io.records import read_record
from refsr.restore.upscale import RestoreConfig

CASE = SpeedCase(megapixels=0.02, references=1, engine="auto", precision="auto", threads=1)


def measured(megapixels: float, seconds: float, references: int = 1) -> SpeedMeasurement:
    case = SpeedCase(megapixels=megapixels, references=references, engine="auto", precision="auto", threads=1)
    return SpeedMeasurement(case=case, size_px=(1000, round(megapixels * 1000)), seconds=seconds)


@pytest.fixture
def _threads() -> object:
    """The number of threads is the process's: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_slope_is_the_exponent() -> None:
    linear = [measured(size, 3 * size) for size in (1.0, 2.0, 8.0)]
    square = [measured(size, size**2, references=5) for size in (1.0, 2.0, 8.0)]
    result = SpeedResult(model="m", measurements=(*linear, *square), versions={}, commit=None)
    assert result.slope(1, "auto", "auto", 1) == pytest.approx(1)
    assert result.slope(5, "auto", "auto", 1) == pytest.approx(2)
    assert math.isnan(result.slope(2, "auto", "auto", 1))
    assert linear[1].seconds / linear[1].megapixels == pytest.approx(3)


@pytest.mark.usefixtures("_threads")
def test_a_case_counts_what_it_does() -> None:
    alone = SpeedCase(megapixels=0.02, references=0, engine="auto", precision="auto", threads=1)
    without, exact, coarse = (
        measure_case("default", None, case, 2**31)
        for case in (
            alone,
            CASE,
            SpeedCase(megapixels=0.02, references=1, engine="coarse", precision="auto", threads=1),
        )
    )
    assert exact.size_px == (116, 176)
    cells = 29 * 44
    search = 2 * cells * cells * 64
    assert exact.operations - without.operations > search
    assert coarse.operations > without.operations
    for found in (without, exact, coarse):
        assert found.peak_mib > 50
        assert found.refused is None


@pytest.mark.usefixtures("_threads")
def test_a_budget_that_is_too_small_is_told() -> None:
    refused = measure_case("default", None, CASE, 1000).refused
    assert refused is not None
    assert "allow more" in refused


def clock_of(*seconds: float) -> SimpleNamespace:
    """A clock by which what is timed takes as long as listed, one after the other; the last for all that follow."""
    times = iter((0.0, *(time for length in (*seconds, *[seconds[-1]] * 99) for time in (length, 0.0))))
    return SimpleNamespace(perf_counter=lambda: next(times))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("first_s", "runs", "seconds"), [(19.0, 4, 4.0), (21.0, 1, 21.0)])
def test_the_median_after_the_first_run_counts_and_a_long_case_runs_once(
    monkeypatch: pytest.MonkeyPatch, first_s: float, runs: int, seconds: float
) -> None:
    restored: list[object] = []

    restore = RestoreConfig.upscale

    def counted(*given: Any, **named: Any) -> Any:
        restored.append(given)
        return restore(*given, **named)

    monkeypatch.setattr(RestoreConfig, "upscale", counted)
    monkeypatch.setattr("refsr.bench.speed.time", clock_of(first_s, *(5.0, 2.0, 4.0)[: runs - 1], 0.5, 0.25))
    found = measure_case("bicubic", None, CASE, 2**31)
    assert len(restored) == runs + 1, "once more, to count the operations"
    assert found.seconds == seconds
    assert found.bicubic_seconds == 0.5
    assert found.product_seconds == found.operations / (2 * 1024**3 / 0.25)


def test_the_rate_is_that_of_the_quickest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refsr.bench.speed.time", clock_of(3.0, 0.5, 2.0))
    assert product_rate() == 2 * 1024**3 / 0.5


def test_results_are_saved_and_read(tmp_path: Path) -> None:
    config = SpeedConfig(megapixels=(0.02,), references=(0, 1), threads=(1,))
    told = Told()
    result = run_speed("default", config, out=tmp_path / "speed.json", progress=told)
    assert told == [(1, 2, ""), (2, 2, "")]
    assert read_record(tmp_path / "speed.json", {"speed": SpeedResult}) == result


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    arguments = ["bench", "speed", "--output", str(out), "--references", "1", "--threads", "1"]
    assert main([*arguments, "--sizes", "0.01", "--sizes", "0.02"]) == 0
    shown = capsys.readouterr().out
    assert "x bicubic" in shown
    assert "time grows with the size to the power of" in shown
    assert len(json.loads(out.read_text())["measurements"]) == 2
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_flags_of_the_model_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def run(model: str, config: SpeedConfig, **others: object) -> SpeedResult:
        asked.extend((model, config.device, config.memory_bytes, others["vgg19"]))
        return SpeedResult(model=model, measurements=(), versions={}, commit=None)

    monkeypatch.setattr("refsr.cli.bench.run_speed", run)
    flags = ["--model", "srntt", "--device", "cuda", "--memory", "1GiB", "--vgg19", "vgg19.pth"]
    assert main(["bench", "speed", *flags, "--sizes", "0.01"]) == 0
    assert asked == ["srntt", "cuda", 2**30, Path("vgg19.pth")]


def test_without_matplotlib_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("refsr.cli.bench.run_speed", lambda *_, **__: pytest.fail("measured"))
    fails(capsys, 2, "the plot beside the file needs an extra: pip", "bench", "speed", "-o", tmp_path / "speed.json")


def test_a_case_that_does_not_fit_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "bicubic", "--sizes", "0.01", "--references", "0", "--threads", "1", "--memory", "1KiB"]
    assert main(["bench", "speed", *flags]) == 0
    shown = capsys.readouterr()
    assert "refused" in shown.out
    assert "nan" not in shown.out
    assert "refused: " in shown.err


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="has the device that is asked for")
def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--sizes", "0"], "give 0.01 or more"),
        (["--threads", "0"], "give 1 or more"),
        (["--threads", "9999"], "9999 threads: this machine has"),
        (["--references", "-1"], "give 0 or more"),
        (["--device", "mps"], "the device 'mps' is not available on this machine"),
    ):
        fails(capsys, 2, message, "bench", "speed", *arguments)
