"""The authors' weights: made-up files of the same shapes, and their network once more, as TensorFlow has it."""

import io
import pickle
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from conftest import fails
from torch import Tensor

from refsr.cli import main
from refsr.errors import WeightsError
from refsr.models import SRNTT, SRNTTConfig, load_model
from refsr.models.vgg import CONVOLUTIONS, VGG19, load_vgg19
from refsr.restore.pipeline import Matched, transfer
from refsr.search import Match, cell_grid

Arrays = list[np.ndarray[Any, Any]]
MEAN = (123.68, 116.779, 103.939)


def normed(rng: np.random.Generator, width: int) -> Arrays:
    """A kernel without bias, and a batch norm: beta, gamma, mean, variance."""
    return [kernel(rng, 3, width, width), *(rng.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(4))]


def kernel(rng: np.random.Generator, side: int, before: int, after: int) -> np.ndarray[Any, Any]:
    return rng.normal(0, 0.5 / (side * before**0.5), (side, side, before, after)).astype(np.float32)


def biased(rng: np.random.Generator, side: int, before: int, after: int) -> Arrays:
    return [kernel(rng, side, before, after), rng.normal(0, 0.1, after).astype(np.float32)]


def content_arrays(rng: np.random.Generator) -> Arrays:
    """As ZZUTK/SRNTT lists them: trunk, then the branch without reference."""
    trunk = [array for _ in range(2 * 16 + 1) for array in normed(rng, 64)]
    shuffles = biased(rng, 3, 64, 256) + biased(rng, 3, 64, 256)
    return biased(rng, 3, 3, 64) + trunk + shuffles + biased(rng, 1, 64, 3)


def transfer_arrays(rng: np.random.Generator) -> Arrays:
    arrays: Arrays = []
    for texture, blocks in ((256, 16), (128, 8), (64, 4)):
        arrays += biased(rng, 3, 64 + texture, 64)
        arrays += [array for _ in range(2 * blocks + 1) for array in normed(rng, 64)]
        arrays += biased(rng, 3, 64, 32 if texture == 64 else 256)
    return arrays + biased(rng, 1, 32, 3)


def save_npz(path: Path, arrays: Arrays) -> Path:
    """As TensorLayer does: one array of objects."""
    listed = np.empty(len(arrays), dtype=object)
    listed[:] = arrays
    np.savez(path, params=listed)
    return path


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Arrays, Arrays]:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("official")
    content, transfer = content_arrays(rng), transfer_arrays(rng)
    return save_npz(folder / "upscale.npz", content), save_npz(folder / "srntt.npz", transfer), content, transfer


class TensorFlow:
    """Layers that take the next arrays of a list; (B, H, W, C)."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays: Iterator[Tensor] = iter([torch.from_numpy(array) for array in arrays])

    def conv(self, x: Tensor, bias: bool = True) -> Tensor:
        weight = next(self.arrays).permute(3, 2, 0, 1)
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=weight.shape[-1] // 2).permute(0, 2, 3, 1)
        return y + next(self.arrays) if bias else y

    def norm(self, x: Tensor) -> Tensor:
        beta, gamma, mean, variance = (next(self.arrays) for _ in range(4))
        return gamma * (x - mean) / (variance + 1e-5).sqrt() + beta

    def blocks(self, x: Tensor, count: int) -> Tensor:
        for _ in range(count):
            x = x + self.norm(self.conv(self.norm(self.conv(x, bias=False)).relu(), bias=False))
        return self.norm(self.conv(x, bias=False))

    def double(self, x: Tensor) -> Tensor:
        """Convolution, then depth_to_space: channels count (row, column, channel)."""
        y = self.conv(x)
        batch, height, width, channels = y.shape
        cells = y.view(batch, height, width, 2, 2, channels // 4).permute(0, 1, 3, 2, 4, 5)
        return cells.reshape(batch, 2 * height, 2 * width, channels // 4).relu()


def reference_result(content: Arrays, transfer: Arrays, lr: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Both outputs of ZZUTK/SRNTT, -1..1."""
    net = TensorFlow(content)
    first = net.conv(lr).relu()
    feature = net.blocks(first, 16) + first
    alone = net.conv(net.double(net.double(feature))).tanh()
    net, psi = TensorFlow(transfer), feature
    for level, blocks in enumerate((16, 8, 4)):
        joined = net.conv(torch.cat((psi, maps[level]), -1)).relu()
        psi = net.blocks(joined, blocks) + psi
        psi = net.double(psi) if level < 2 else net.conv(psi)
    fused = net.conv(psi).tanh()
    assert next(net.arrays, None) is None
    return alone, fused


def test_converted_weights_compute_what_the_official_network_does(
    official: tuple[Path, Path, Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, content, others = official
    output = tmp_path / "official.safetensors"
    assert main(["convert", str(second), str(first), "-o", str(output)]) == 0
    assert "4.39 M" in capsys.readouterr().out
    vgg = tmp_path / "vgg.safetensors"
    assert main(["convert", str(save_mat(tmp_path)[0]), "-o", str(vgg)]) == 0
    model = load_model(output, device="cpu", vgg19=vgg)
    torch.manual_seed(0)
    lr = torch.rand(1, 3, 6, 7)
    maps = [torch.rand(1, c, 6 * s, 7 * s) for c, s in ((256, 1), (128, 2), (64, 4))]
    match = Match(
        position_cells=cell_grid((6, 7), lr)[None],
        reference=torch.zeros(1, 6, 7, dtype=torch.long),
        score=torch.ones(1, 1, 6, 7),
    )
    channels_last = [m.permute(0, 2, 3, 1) for m in (lr * 2 - 1, *maps)]
    alone, fused = reference_result(content, others, channels_last[0], channels_last[1:])
    matched = Matched(lr=lr, values=(tuple(maps),), matches=(match,), fields=(match,))
    for ours, theirs in ((transfer(model, Matched(lr=lr)), alone), (transfer(model, matched), fused)):
        assert (ours - (theirs.permute(0, 3, 1, 2) + 1) / 2).abs().max() < 1e-4
        assert ours.std() > 1e-3


def save_mat(folder: Path, *, older: bool = False, deepest: int = 13, odd: bool = False) -> tuple[Path, dict[str, Any]]:
    """A MatConvNet file with random kernels (width, height, in, out)."""
    rng = np.random.default_rng(1)
    shapes = {name: VGG19("relu5_1").state_dict()[f"features.{i}.weight"].shape for name, i in CONVOLUTIONS.items()}
    kernels, layers = {}, []
    for name, (after, before, height, width) in list(shapes.items())[:deepest]:
        weight = rng.normal(0, 0.05, (width, height, before, after + (odd and name == "conv2_1"))).astype(np.float32)
        bias = rng.normal(0, 0.05, (weight.shape[3], 1)).astype(np.float32)
        kernels[name] = (weight, bias[:, 0])
        both = np.empty((1, 2), dtype=object)
        both[0, 0], both[0, 1] = weight, bias
        held = {"filters": weight, "biases": bias} if older else {"weights": both}
        layers += [{"name": name, "type": "conv", **held}, {"name": name.replace("conv", "relu"), "type": "relu"}]
    listed = np.empty((1, len(layers)), dtype=object)
    listed[0, :] = layers
    path = folder / f"vgg{older}{deepest}{odd}.mat"
    scipy.io.savemat(path, {"layers": listed})
    return path, kernels


@pytest.mark.parametrize("older", [False, True])
def test_matconvnets_vgg19_computes_the_same(tmp_path: Path, older: bool) -> None:
    path, kernels = save_mat(tmp_path, older=older)
    output = tmp_path / "vgg.safetensors"
    assert main(["convert", str(path), "-o", str(output)]) == 0
    vgg = load_vgg19(output, "relu2_1")
    assert vgg.is_matconvnet
    assert not VGG19().is_matconvnet
    rgb = torch.rand(1, 3, 8, 10)
    x = (rgb * 255 - torch.tensor(MEAN).view(1, 3, 1, 1)).double()
    for name in ("conv1_1", "conv1_2", "conv2_1"):
        if name == "conv2_1":
            x = F.max_pool2d(x, 2)
        weight, bias = (torch.from_numpy(array).double() for array in kernels[name])
        x = F.conv2d(x, weight.permute(3, 2, 1, 0), bias, padding=1).relu()
    (found,) = vgg(rgb, ("relu2_1",))
    assert torch.allclose(found.double(), x, rtol=1e-4, atol=1e-3)


def test_srntt_refuses_the_other_kind_of_vgg19() -> None:
    with pytest.raises(WeightsError, match="MatConvNet"):
        SRNTT(SRNTTConfig(official=True), VGG19())
    vgg = VGG19()
    vgg.std.fill_(1 / 255)
    with pytest.raises(WeightsError, match="torchvision"):
        SRNTT(SRNTTConfig(), vgg)


def test_bad_input_is_refused_in_one_line(
    official: tuple[Path, Path, Arrays, Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, content, transfer = official
    output = tmp_path / "out.safetensors"
    wrong = [array.copy() for array in transfer]
    wrong[7] = np.zeros((3, 3, 64, 32), np.float32)
    odd = save_npz(tmp_path / "odd.npz", wrong)
    short = save_npz(tmp_path / "short.npz", content[:-1])
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(first.read_bytes()[:5000])
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    for files, pattern in (
        ((first, odd), r"odd\.npz: array 7 has the shape \(3, 3, 64, 32\)"),
        ((short, second), r"short\.npz: holds 172 arrays, that part of SRNTT has 173"),
        ((damaged, second), r"damaged\.npz: damaged"),
        ((other, second), r"other\.npz: damaged, or not weights that TensorLayer wrote"),
        ((first, first), r"one must be upscale\.npz"),
        ((second, second), r"one must be upscale\.npz"),
        ((first, tmp_path / "none.npz"), r"none\.npz: no such file"),
        ((first,), r"give upscale\.npz together"),
        ((tmp_path / "none.mat",), r"none\.mat: no such file"),
        ((first, tmp_path / "a.txt"), r"give upscale\.npz together"),
    ):
        fails(capsys, 2, pattern, "convert", *files, "-o", output)
    fails(capsys, 2, r"end the name in \.safetensors", "convert", first, second, "-o", tmp_path / "out.pth")
    fails(capsys, 2, r"has no layer conv3_2", "convert",
          save_mat(tmp_path, deepest=5)[0], "-o", output)  # fmt: skip
    fails(capsys, 2, r"the weight of conv2_1 has the shape", "convert", save_mat(tmp_path, odd=True)[0], "-o", output)
    assert not output.exists()


def test_a_file_that_would_run_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return subprocess.call, (["touch", str(tmp_path / "harm")],)

    listed = np.empty(1, dtype=object)
    listed[0] = Harm()
    stream = io.BytesIO()
    np.lib.format.write_array(stream, listed, allow_pickle=True)
    harmful = tmp_path / "harmful.npz"
    with zipfile.ZipFile(harmful, "w") as archive:
        archive.writestr("params.npy", stream.getvalue())
    assert b"subprocess" in pickle.dumps(Harm())
    fails(
        capsys,
        2,
        r"harmful\.npz: damaged.*subprocess\.call",
        "convert",
        harmful,
        harmful,
        "-o",
        tmp_path / "x.safetensors",
    )
    assert not (tmp_path / "harm").exists()
