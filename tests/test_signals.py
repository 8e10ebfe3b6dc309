"""Runs that are stopped from outside, in processes of their own: Ctrl-C, `kill`, and what ignores them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import texture, wait_for
from PIL import Image

from refsr.signals import Terminated, interruptible, stop_code

BEGIN = (
    "import signal; signal.signal(signal.SIGINT, signal.{}); from refsr.__main__ import run;"
    "from refsr.signals import end_at_once; end_at_once(); print('begun', flush=True); run()"
)
"""Says when it begins, the first moment that is ours; Ctrl-C is as a terminal sets it, whatever started the tests."""


def begun(arguments: Sequence[object], *, on_ctrl_c: str = "default_int_handler") -> "subprocess.Popen[str]":
    """A command in a process group of its own, at its first moment."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN.format(on_ctrl_c), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and errors, once the process and all that it started have ended."""
    try:
        _, said = process.communicate(timeout=60)
        wait_for(lambda: not _group_lives(process.pid), 20)
    finally:
        if _group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Enough work for a minute and more."""
    (tmp_path / "in").mkdir()
    for number in range(12):
        pixels = (texture(240, 240, seed=number)[0] * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:02}.png")
    return tmp_path / "in"


@pytest.mark.parametrize("delay_s", [0, 0.05, 0.2, 0.5, 1.0, 2.0, 3.0])
def test_ctrl_c_at_any_moment_prints_one_line(photos: Path, delay_s: float) -> None:
    """While Python, cyclopts, torch or the model is loaded, and at work on a photo that takes longer than that."""
    pixels = (texture(1200, 1200, seed=1)[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(photos / "large.png")
    process = begun(["upscale", photos / "large.png", "--ref", photos / "01.png", "-o", photos / "out.png"])
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "refsr: stopped\n")
    assert not (photos / "out.png").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_batch_that_is_stopped_leaves_no_process_and_goes_on(photos: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches all processes of a command, `kill` the first one only."""
    out = photos.parent / "out"
    command = ["batch", photos, "-o", out, "--processes", 2, "--device", "cpu"]
    process = begun(command)
    wait_for(lambda: process.poll() is not None or any(out.glob("*.png")), 120)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert ended(process) == (128 + number, "refsr: stopped\n")
    done = len(list(out.glob("*.png")))
    assert 0 < done < 12
    for path in sorted(photos.glob("*.png"))[3:]:
        if not (out / path.name).exists():
            path.unlink()
    left = len(list(photos.glob("*.png")))
    again = subprocess.run(
        [sys.executable, "-m", "refsr", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert f"{left} of {left} photos done" in again.stdout or f"{done} were before" in again.stdout


@pytest.mark.parametrize("delay_s", [2.0, 4.0, 6.0])
def test_ctrl_c_while_workers_start_prints_one_line(photos: Path, delay_s: float) -> None:
    process = begun(["batch", photos, "-o", photos.parent / "out", "--processes", 2, "--device", "cpu"])
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "refsr: stopped\n")


def test_ctrl_c_is_ignored_where_the_parent_wants_it(photos: Path) -> None:
    """As under nohup."""
    process = begun(["upscale", photos / "00.png", "-o", photos / "out.png"], on_ctrl_c="SIG_IGN")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (0, "")


def test_code_of_what_stopped_a_run() -> None:
    assert stop_code(KeyboardInterrupt()) == 130
    assert stop_code(Terminated()) == 143
    assert stop_code(ImportError()) is None
    before = signal.getsignal(signal.SIGINT)
    with interruptible():  # a library leaves the signals of its user alone
        assert signal.getsignal(signal.SIGINT) == before
