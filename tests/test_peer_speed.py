"""The script that measures other people's networks, with stand-ins for their checkouts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "peer_speed.py"
NETWORK = """
import time
import torch

now = 0.0
time.perf_counter = lambda: now

class {name}(torch.nn.Module):
    def __init__(self, args):
        super().__init__()
        assert args.{attribute}
    def forward(self, {inputs}):
        assert not torch.is_grad_enabled()
        global now
        now += 2.5
        assert ref.shape == (1, 3, 32, 48) and lr.shape == (1, 3, 8, 12)
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("peer", ["ttsr", "masa"])
def test_measures_a_peer_beside_ours(peer: str, tmp_path: Path) -> None:
    if peer == "ttsr":
        (tmp_path / "model").mkdir()
        network = NETWORK.format(name="TTSR", attribute="n_feats", inputs="lr, lrsr, ref, refsr")
        (tmp_path / "model" / "TTSR.py").write_text(
            "from torchvision import models\nmodels.vgg19(pretrained=True)\n" + network
        )
        (tmp_path / "option.py").write_text(
            "import argparse\nargs = argparse.ArgumentParser().parse_args()\nargs.n_feats = 64\n"
        )
    else:
        (tmp_path / "models" / "archs").mkdir(parents=True)
        network = NETWORK.format(name="MASA", attribute="nf", inputs="lr, ref, ref_down")
        (tmp_path / "models" / "archs" / "MASA_arch.py").write_text(network)
    out = tmp_path / "speed.json"
    done = run(peer, tmp_path, "--size", "48x32", "--threads", "1", "--json", out)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [peer, "default"]
    found = json.loads(out.read_text())
    assert found[peer]["seconds"] == 2.5, "of one of the two times that it ran"
    assert found[peer]["peak_mib"] > 50
    assert found["default"]["seconds"] > 0


def test_bad_input(tmp_path: Path) -> None:
    for arguments, message in (
        (("ttsr", tmp_path / "nowhere"), "nowhere: no such folder: give a checkout of ttsr"),
        (("ttsr", tmp_path, "--size", "50x30"), "--size 50x30: write it like 480x320, multiples of 16"),
        (("masa", tmp_path), "masa failed: ModuleNotFoundError: No module named 'models'"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith(message)
