"""What several tests need."""

import functools
import io
import re
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from refsr.assets import sample_path
from refsr.cli import main
from refsr.io.photo import as_photo
from refsr.models import SISR, SRNTT, Bicubic, DefaultConfig, DefaultModel, Flow, RefSRModel, SRNTTConfig, load_model
from refsr.resize import downscale_bicubic
from refsr.restore.pipeline import encode, match, transfer
from refsr.search import Match

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine may be spoken to."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(101, "no network in tests")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def shared() -> Path:
    """The folder of given photographs and weights, which only some machines have."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` of photographs and VGG19 weights beside the checkout")
    return SHARED


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def shipped() -> RefSRModel:
    return load_model(device="cpu")


@pytest.fixture(scope="session")
def sample() -> dict[str, torch.Tensor]:
    """A part of the bundled sample: truth, its LR, and the other view."""
    truth = as_photo(sample_path("truth")).pixels[..., 120:376, 200:520]
    return {
        "truth": truth,
        "lr": downscale_bicubic(truth, 4).clamp(0, 1),
        "ref": as_photo(sample_path("reference")).pixels,
    }


def fails(capsys: pytest.CaptureFixture[str], code: int, pattern: str, *arguments: object) -> None:
    """The command ends with the code and one line that fits the pattern."""
    assert main([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert re.search(pattern, captured.err), captured.err


class Told(list[tuple[float, float, str]]):
    """A progress that remembers what it was told."""

    def __call__(self, done: float, total: float = 1.0, *, stage: str = "") -> None:
        self.append((done, total, stage))

    @property
    def shares(self) -> list[float]:
        return [done / total for done, total, _ in self]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds; the test fails where it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} seconds in vain"
        time.sleep(0.005)


def random_pixels(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """The same for the same shape and type."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 30000 x 30000."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (30000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@functools.cache
def encoded(file_format: str) -> bytes:
    """A file of 64x64 random pixels."""
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(64, 64, 3)).save(buffer, file_format)
    return buffer.getvalue()


def small_models() -> dict[str, RefSRModel]:
    """One of each kind, with random weights, in evaluation mode."""
    torch.manual_seed(0)
    srntt = SRNTTConfig(width=16, trunk_blocks=2, transfer_blocks=(2, 1, 1))
    default = DefaultConfig(width=16, blocks_before=1, blocks_after=2, descriptor_width=16, descriptor_size=16)
    models: dict[str, RefSRModel] = {
        "default": DefaultModel(default),
        "srntt": SRNTT(srntt),
        "flow": Flow(default),
        "sisr": SISR(default),
        "bicubic": Bicubic(),
    }
    return {name: model.eval().requires_grad_(False) for name, model in models.items()}


def restored(model: RefSRModel, lr: Tensor, refs: Sequence[Tensor] = ()) -> Tensor:
    """Whole pictures through the whole pipeline, not clamped."""
    return transfer(model, match(model, encode(model, lr, refs if model.uses_references else ())))


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 3, H, W) in 0..1: noise at several scales, so that every place looks different."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for cell in (16, 8, 4, 2, 1):
        size = (-(-height // cell), -(-width // cell))
        noise = torch.rand((1, 3, *size), generator=generator)
        image += F.interpolate(noise, scale_factor=cell)[..., :height, :width]
    return image / 5


def smooth_field(seed: int, height: int, width: int, channels: int = 16) -> Tensor:
    """Features that change over a few cells, as those of a photograph do."""
    noise = torch.randn(1, channels, height + 8, width + 8, generator=torch.Generator().manual_seed(seed))
    return F.normalize(F.avg_pool2d(F.avg_pool2d(noise, 5, 1), 5, 1), dim=1)


def moved_view(field: Tensor, height: int, width: int, down: int, right: int) -> Tensor:
    """A part of a field, with other features laid over it a little."""
    part = field[..., down : down + height, right : right + width]
    other = torch.randn(part.shape, generator=torch.Generator().manual_seed(99))
    return F.normalize(part + 0.05 * other, dim=1)


def agreement(first: Match, second: Match) -> float:
    """Share of the cells that both match to the same place."""
    return (first.position_cells == second.position_cells).all(1).float().mean().item()


def best_offset_px(pairs: list[tuple[dict[str, Tensor], int]]) -> tuple[float, float]:
    """By how many HR pixels (y, x) the truth of some pairs' first references has to be moved to show the same texture.

    Args:
        pairs: A batch, and a place in it.
    """
    steps = (-1.0, -0.5, 0.0, 0.5, 1.0)
    likeness = {(y, x): 0.0 for y in steps for x in steps}
    for batch, place in pairs:
        truth = batch["truth_cells"][place, 0]
        known = ~truth[0].isnan()
        wanted = F.avg_pool2d(batch["hr"][place][None], 4)[0].mean(0)[known]
        means = F.avg_pool2d(batch["refs"][place, :1], 4, stride=1)
        for y, x in likeness:
            there = truth.nan_to_num() * 4 + torch.tensor((y, x)).view(2, 1, 1)
            grid = (2 * there.flip(0).permute(1, 2, 0) + 1) / means.shape[-1] - 1
            seen = F.grid_sample(means, grid[None], mode="bicubic", align_corners=False)
            likeness[y, x] += float(torch.corrcoef(torch.stack((wanted, seen[0].mean(0)[known])))[0, 1])
    return max(likeness, key=lambda offset: likeness[offset])


@pytest.fixture
def any_reference_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with references of random numbers, which show nothing that the photo shows, and would be refused."""
    monkeypatch.setattr("refsr.references.pose._MINIMUM_FIT", -1.0)
