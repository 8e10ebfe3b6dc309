"""VGG19: its layers, and every way that its weights are found or not."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from refsr.errors import UsageError, WeightsError
from refsr.models.vgg import LAYERS, VGG19, VGG19_VARIABLE, load_vgg19


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VGG19_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights down to conv3_1, under torchvision's names."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save(VGG19("relu3_1").state_dict(), path)
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A stand-in for PyTorch's downloads: its address, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()
        thread.join()


def test_shapes_and_torchvision_names() -> None:
    vgg = VGG19("relu5_1")
    maps = vgg(torch.rand(1, 3, 32, 48), LAYERS)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3)
    ]  # fmt: skip
    convolutions = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    assert set(vgg.state_dict()) == {f"features.{i}.{kind}" for i in convolutions for kind in ("weight", "bias")}
    assert all(m.min() >= 0 for m in maps)
    with pytest.raises(UsageError, match="no VGG19 layer 'relu9_1'"):
        VGG19("relu9_1")


def test_equals_the_network_written_out(weights: Path) -> None:
    rgb = torch.rand(1, 3, 16, 16)
    state = torch.load(weights, weights_only=True)
    x = (rgb - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = []
    for index in (0, 2, 5, 7, 10):
        if index in (5, 10):
            x = F.max_pool2d(x, 2)
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
        if index in (0, 5, 10):
            expected.append(x)
    found = load_vgg19(weights)(rgb, ("relu3_1", "relu1_1", "relu2_1"))
    for ours, theirs in zip(found, (expected[2], expected[0], expected[1]), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_papers_names_are_understood(weights: Path, tmp_path: Path) -> None:
    names = {"0": "conv1_1", "2": "conv1_2", "5": "conv2_1", "7": "conv2_2", "10": "conv3_1"}
    state = torch.load(weights, weights_only=True)
    renamed = {f"{names[key.split('.')[1]]}.{key.split('.')[2]}": tensor for key, tensor in state.items()}
    torch.save(renamed, tmp_path / "renamed.pth")
    loaded = load_vgg19(tmp_path / "renamed.pth").state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())


def test_the_shared_weights_load_down_to_conv3_1(shared: Path) -> None:
    vgg = load_vgg19(shared / "weights" / "vgg19_conv1_1_to_conv3_1.pth")
    assert vgg(torch.rand(1, 3, 16, 16), ("relu3_1",))[0].shape == (1, 256, 4, 4)
    with pytest.raises(WeightsError, match="ends before relu4_1"):
        load_vgg19(shared / "weights" / "vgg19_conv1_1_to_conv3_1.pth", "relu4_1")


def test_a_named_file_comes_before_the_environment_variable(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VGG19_VARIABLE, str(weights))
    load_vgg19()
    monkeypatch.setenv(VGG19_VARIABLE, str(tmp_path / "nothing"))
    load_vgg19(weights)
    with pytest.raises(WeightsError, match=f"named by {VGG19_VARIABLE}"):
        load_vgg19()
    with pytest.raises(WeightsError, match="no such file of VGG19 weights"):
        load_vgg19(tmp_path / "nothing")


def test_download_is_checked_and_cached(weights: Path, server: tuple[str, Path]) -> None:
    address, folder = server
    data = weights.read_bytes()
    name = f"vgg19-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(data)
    load_vgg19(url=f"{address}/{name}")
    (folder / name).unlink()
    load_vgg19(url=f"{address}/{name}")


def test_a_download_with_another_hash_is_refused(weights: Path, server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "vgg19-00000000.pth").write_bytes(weights.read_bytes())
    with pytest.raises(WeightsError, match="invalid hash value"):
        load_vgg19(url=f"{address}/vgg19-00000000.pth")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_offline_the_error_names_three_ways_to_get_the_weights() -> None:
    with pytest.raises(WeightsError) as caught:
        load_vgg19(url="http://127.0.0.1:9/vgg19-dcbb9e9d.pth")
    for way in ("--vgg19", VGG19_VARIABLE, "vgg19-dcbb9e9d.pth at "):
        assert way in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK not a zip", b"junk" * 99])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="bad.pth: damaged"):
        load_vgg19(tmp_path / "bad.pth")


def test_files_without_vgg19_are_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_vgg19(tmp_path / "list.pth")
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "shape.pth")
    with pytest.raises(WeightsError, match="features.0.weight has the shape"):
        load_vgg19(tmp_path / "shape.pth")


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("refsr.models.vgg.user_cache_path", homeless)
    with pytest.raises(WeightsError, match="this user has no home to keep them in: give --vgg19 FILE"):
        load_vgg19()
