"""How long other people's networks take beside ours, on one machine in one run.

    python scripts/peer_speed.py ttsr PATH/TO/TTSR --size 480x320
    python scripts/peer_speed.py masa PATH/TO/MASA-SR --size 960x640 --python PATH/TO/ITS/python

The checkout is used as it is, with random weights, since time does not depend on them. Each network runs
in a process of its own: once to warm up, then timed; the peak is of the whole process. The output has the size that is
asked for, the reference as well. Where torchvision is missing, its vgg19 is replaced by the same layers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

SCALE = 4
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)


def main() -> None:
    """Measure the peer, then ours, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--size", default="480x320", help="of the output, WIDTHxHEIGHT, multiples of 16")
    parser.add_argument("--python", default=sys.executable, help="interpreter whose environment the checkout needs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="*", default=["default"], help="of refsr")
    parser.add_argument("--search", choices=["auto", "exact", "coarse"], default="auto", help="of refsr")
    parser.add_argument("--vgg19", type=Path, help="weights of VGG19, for the model srntt")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    width, height = _size(parser, arguments.size)
    if arguments.inside:
        print(json.dumps(_measure(PEERS[arguments.peer], height, width, arguments.threads)))
        return
    if not arguments.checkout.is_dir():
        parser.error(f"{arguments.checkout}: no such folder: give a checkout of {arguments.peer}")
    figures = {arguments.peer: _in_checkout(parser, arguments)}
    for model in arguments.models:
        figures[model] = _ours(model, arguments.vgg19, arguments.search, height, width, arguments.threads)
    first = figures[arguments.peer]["seconds"]
    for name, found in figures.items():
        print(f"{name:10} {found['seconds']:8.2f} s {found['peak_mib']:8.0f} MiB  {first / found['seconds']:6.1f} x")
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": arguments.size, "threads": arguments.threads} | figures) + "\n")


def _size(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if (
        not (width.isdigit() and height.isdigit())
        or int(width) % 16
        or int(height) % 16
        or not int(width) * int(height)
    ):
        parser.error(f"--size {text}: write it like 480x320, multiples of 16")
    return int(width), int(height)


def _in_checkout(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, float]:
    command = [arguments.python, str(Path(__file__).resolve()), arguments.peer, ".", "--inside"]
    command += ["--size", arguments.size, "--threads", str(arguments.threads)]
    done = subprocess.run(command, cwd=arguments.checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        parser.error(
            f"{arguments.checkout}: {arguments.peer} failed: {(done.stderr.strip() or 'killed').splitlines()[-1]}"
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _ours(model: str, vgg19: Path | None, search: str, height: int, width: int, threads: int) -> dict[str, float]:
    """By `refsr bench speed`'s way of measuring, in a process of its own."""
    import multiprocessing

    from refsr.bench.speed import SpeedCase, measure_case

    case = SpeedCase(megapixels=height * width / 1e6, references=1, engine=search, precision="auto", threads=threads)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(measure_case, (model, vgg19, case, 2**31))
    return {"seconds": found.seconds, "peak_mib": found.peak_mib}


def _measure(
    build: Callable[[int, int], Callable[[], object]], height: int, width: int, threads: int
) -> dict[str, float]:
    """In the checkout's own process."""
    import resource

    import torch

    sys.path.insert(0, str(Path.cwd()))
    sys.argv = sys.argv[:1]
    torch.set_num_threads(threads)
    _stand_in_for_torchvision(torch)
    restore = build(height, width)
    with torch.no_grad():
        restore()
        begun = time.perf_counter()
        restore()
        seconds = time.perf_counter() - begun
    kib = 1 if sys.platform != "darwin" else 1024
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 / kib}


def _stand_in_for_torchvision(torch: types.ModuleType) -> None:
    try:
        import torchvision  # type: ignore[import-not-found] # noqa: F401
    except ImportError:
        module, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
        models.vgg19 = lambda **_: types.SimpleNamespace(features=_vgg19(torch))  # type: ignore[attr-defined]
        module.models = models  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": module, "torchvision.models": models}


def _vgg19(torch: types.ModuleType) -> object:
    """Layers of torchvision's vgg19, with random weights."""
    layers, channels = [], 3
    for width in _VGG19:
        if width:
            layers += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(torch.nn.MaxPool2d(2, 2))
    return torch.nn.Sequential(*layers)


def _ttsr(height: int, width: int) -> Callable[[], object]:
    """Source: researchmm/TTSR, trainer.py, test."""
    import torch
    from model import TTSR  # type: ignore[import-not-found]
    from option import args  # type: ignore[import-not-found]

    network = TTSR.TTSR(args).eval()
    lr = torch.rand(1, 3, height // SCALE, width // SCALE) * 2 - 1
    lr_sr, ref, ref_sr = (torch.rand(1, 3, height, width) * 2 - 1 for _ in range(3))
    return lambda: network(lr=lr, lrsr=lr_sr, ref=ref, refsr=ref_sr)


def _masa(height: int, width: int) -> Callable[[], object]:
    """Source: dvlab-research/MASA-SR, test.py and models/trainer.py."""
    import torch
    from models.archs.MASA_arch import MASA  # type: ignore[import-not-found]

    sizes = {"input_nc": 3, "nf": 64, "n_blks": [4, 4, 4], "nf_ctt": 32, "n_blks_ctt": [2, 2, 2], "n_blks_dec": 10}
    args = types.SimpleNamespace(sr_scale=SCALE, num_nbr=1, ref_level=1, output_nc=3, gpu_ids=[], **sizes)
    network = MASA(args).eval()
    lr, ref_down = (torch.rand(1, 3, height // SCALE, width // SCALE) for _ in range(2))
    ref = torch.rand(1, 3, height, width)
    return lambda: network(lr, ref, ref_down)


PEERS = {"ttsr": _ttsr, "masa": _masa}

if __name__ == "__main__":
    main()
