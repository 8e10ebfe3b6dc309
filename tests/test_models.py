"""The contract that every model of the zoo keeps."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Told, restored, small_models, texture
from safetensors.torch import save_file

from refsr import ARCHITECTURES, WEIGHTS, load_model, upscale
from refsr.bench.metrics import psnr_db
from refsr.device import choose_device
from refsr.errors import MissingExtraError, UsageError, WeightsError
from refsr.io.weights import FORMAT, read_weights, save_weights
from refsr.models import SRNTT, DefaultModel, RefSRModel, SRNTTConfig
from refsr.models.default import _believed
from refsr.resize import downscale_bicubic, resize, upscale_bicubic
from refsr.restore.pipeline import encode, match
from refsr.search import cell_grid

SMALL = small_models()


@pytest.fixture(params=sorted(SMALL))
def model(request: pytest.FixtureRequest) -> RefSRModel:
    name: str = request.param
    return SMALL[name]


def test_the_zoo_is_covered() -> None:
    assert set(SMALL) == set(ARCHITECTURES)
    assert all(ARCHITECTURES[name].config is type(model.config) for name, model in SMALL.items())
    assert all(type(model) is ARCHITECTURES[name].model and model.name == name for name, model in SMALL.items())
    assert {weights.architecture for weights in WEIGHTS.values()} == set(ARCHITECTURES)


def test_a_shipped_model_loads_alike_by_name_and_by_path() -> None:
    """By its name or by its path."""
    compared = set()
    for name, weights in WEIGHTS.items():
        architecture = ARCHITECTURES[weights.architecture]
        if weights.path is None or architecture.weights_of is not None or architecture.needs_vgg19:
            continue
        compared.add(name)
        by_name, by_path = (load_model(model, device="cpu") for model in (name, weights.path))
        assert by_name.digest() == by_path.digest()
        assert (by_name.name, by_name.config) == (by_path.name, by_path.config)
    assert compared == {"default", "default-texture", "default-real", "default-texture-real"}


@pytest.mark.parametrize("size", [(8, 8), (11, 17), (20, 13)])
@pytest.mark.parametrize("refs", [(), ((44, 52),), ((44, 52), (32, 80), (12, 12))])
def test_sizes_range_and_type(model: RefSRModel, size: tuple[int, int], refs: tuple[tuple[int, int], ...]) -> None:
    sr = restored(model, texture(*size), [texture(*ref, seed=i) for i, ref in enumerate(refs)])
    assert sr.shape == (1, 3, size[0] * model.scale, size[1] * model.scale)
    assert sr.dtype == torch.float32
    assert sr.isfinite().all()


@pytest.fixture
def precise(model: RefSRModel) -> RefSRModel:
    """In float64: with random weights nearly all matches tie, and in float32 the order of additions moves them."""
    return copy.deepcopy(model).double()


def test_the_order_of_references_changes_nothing(precise: RefSRModel) -> None:
    lr = texture(12, 15).double()
    refs = [texture(*size, seed=i).double() for i, size in enumerate(((40, 44), (32, 60), (48, 48)), 1)]
    assert torch.allclose(restored(precise, lr, refs), restored(precise, lr, refs[::-1]), atol=1e-6)


def test_changes_are_weighed_by_the_softmax_of_their_logits(rng: torch.Generator) -> None:
    logits = 30 * torch.randn(4, 2, 1, 3, 5, generator=rng)
    changes = torch.randn(4, 2, 6, 3, 5, generator=rng)
    weights = torch.cat((torch.zeros_like(logits[:1]), logits)).softmax(0)[1:]
    found = _believed(iter(list(zip(logits, changes, strict=True))))
    assert torch.allclose(found, (weights * changes).sum(0), atol=1e-5)


def test_maps_by_stripes_equal_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SMALL["default"]
    lr, ref = texture(150, 21), texture(600, 84, seed=1)
    with torch.enable_grad():
        whole_query, whole = model.encode_query(lr), model.encode_reference(ref)
    monkeypatch.setattr("refsr.transfer.stripes._STRIPE_CELLS", 21 * 30)
    assert model.cells_at_once(150, 21) == 144 * 21
    with torch.no_grad():
        query, encoded = model.encode_query(lr), model.encode_reference(ref)
    assert torch.allclose(query, whole_query, atol=1e-5)
    assert torch.allclose(encoded.key, whole.key, atol=1e-5)
    for value, expected in zip(encoded.values, whole.values, strict=True):
        assert torch.allclose(value, expected, atol=1e-5)


def test_batch_equals_loop(precise: RefSRModel) -> None:
    lr = torch.cat([texture(12, 15, seed=s) for s in range(3)]).double()
    ref = torch.cat([texture(40, 44, seed=s + 5) for s in range(3)]).double()
    whole = restored(precise, lr, [ref])
    for b in range(3):
        assert torch.allclose(whole[b : b + 1], restored(precise, lr[b : b + 1], [ref[b : b + 1]]), atol=1e-6)


def test_weights_round_trip(model: RefSRModel, precise: RefSRModel, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model.name, model.config, model.own_state())
    name, config, state = read_weights(path)
    assert name == model.name
    assert json.loads(json.dumps(config)) == config
    assert state.keys() == model.own_state().keys()
    assert all(torch.equal(state[key], value) for key, value in model.own_state().items())
    if not ARCHITECTURES[name].needs_vgg19:
        lr, ref = texture(12, 15).double(), texture(40, 44, seed=1).double()
        loaded = load_model(path, device="cpu").double()
        assert torch.allclose(restored(loaded, lr, [ref]), restored(precise, lr, [ref]), atol=1e-6)


def test_srntt_loads_with_vgg19(tmp_path: Path, shared: Path) -> None:
    model = SMALL["srntt"]
    save_weights(tmp_path / "w.safetensors", model.name, model.config, model.own_state())
    loaded = load_model(
        tmp_path / "w.safetensors", device="cpu", vgg19=shared / "weights" / "vgg19_conv1_1_to_conv3_1.pth"
    )
    truth = texture(48, 60)
    lr = torch.nn.functional.avg_pool2d(truth, 4)
    (found,) = match(loaded, encode(loaded, lr, [truth])).matches
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(15.0), indexing="ij")
    same = ((found.position_cells[0] - torch.stack((y, x))).abs().amax(0) == 0).float().mean()
    assert same > 0.9, "the truth as the reference must match itself"


def test_srntt_has_the_papers_size() -> None:
    model = SRNTT()
    count = {
        name: sum(p.numel() for p in module.parameters()) / 1e6
        for name, module in model.named_children() if name != "vgg"
    }  # fmt: skip
    assert count["head"] + count["trunk"] == pytest.approx(1.22, abs=0.01)
    assert count["sisr"] == pytest.approx(0.30, abs=0.01)
    assert count["transfers"] + count["enlarge"] + count["tail"] == pytest.approx(2.87, abs=0.01)
    assert model.parameter_count() / 1e6 == pytest.approx(4.4, abs=0.05)


@pytest.mark.parametrize("scale", [8, 16])
def test_srntt_at_larger_scales(scale: int) -> None:
    config = SRNTTConfig(scale=scale, width=8, trunk_blocks=1, transfer_blocks=(1, 1, 1))  # type: ignore[arg-type]
    model = SRNTT(config).eval()
    for refs in ([], [texture(40, 44)]):
        assert restored(model, texture(9, 11), refs).shape == (1, 3, 9 * scale, 11 * scale)


def test_a_closed_gate_keeps_the_reference_out() -> None:
    """With its gate shut, the default model gives exactly what it gives without a reference."""
    model = small_models()["default"]
    assert isinstance(model, DefaultModel)
    model.gate.weight.zero_()
    model.gate.bias.fill_(-200)  # type: ignore[union-attr]
    lr, ref = texture(12, 15), texture(40, 44, seed=1)
    assert torch.equal(restored(model, lr, [ref]), restored(model, lr))


def test_descriptors_hardly_depend_on_light() -> None:
    model = SMALL["default"]
    image = texture(24, 24)
    same = (model.encode_query(image) * model.encode_query(image * 0.5 + 0.2)).sum(1)
    assert same.min() > 0.85


def test_shipped_weights_are_small() -> None:
    files = {weights.path for weights in WEIGHTS.values() if weights.path is not None}
    assert files == set(files.copy().pop().parent.glob("*")), "each file has a name"
    assert max(file.stat().st_size for file in files) <= 8_000_000
    assert sum(file.stat().st_size for file in files) <= 18_000_000


@pytest.mark.parametrize("name", ["srntt", "srntt-rec"])
def test_shipped_srntt_restores_the_sample(name: str, shared: Path, sample: dict[str, torch.Tensor]) -> None:
    """A part of it; the reference brings more than bicubic has."""
    model = load_model(name, device="cpu", vgg19=shared / "weights" / "vgg19_conv1_1_to_conv3_1.pth")
    lr, truth = sample["lr"][..., :32, :40], sample["truth"][..., :128, :160]
    with torch.inference_mode():
        sr = restored(model, lr, [truth]).clamp(0, 1)
    assert psnr_db(sr, truth) > psnr_db(upscale_bicubic(lr, 4), truth) + 1


def test_the_texture_model_is_crisper(sample: dict[str, torch.Tensor]) -> None:
    """Than the default one, with a reference, and still nearer to the truth than bicubic."""

    def crispness(image: torch.Tensor) -> float:
        return (image - upscale_bicubic(downscale_bicubic(image, 4), 4)).square().mean().item()

    with torch.inference_mode():
        results = [
            restored(load_model(name, device="cpu"), sample["lr"], [sample["ref"]]).clamp(0, 1)
            for name in ("default", "default-texture")
        ]
    assert crispness(results[1]) > crispness(results[0])
    bicubic = psnr_db(upscale_bicubic(sample["lr"], 4), sample["truth"])
    assert all(psnr_db(result, sample["truth"]) > bicubic + 1 for result in results)


def test_unknown_models_and_devices(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError,
        match=r"neither a model \(default, default-texture, default-real, default-texture-real, srntt, srntt-rec, flow,"
        r" sisr, bicubic\) nor"
        " a weights file",
    ):
        load_model("nothing")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda' is not available"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"


def test_damaged_and_foreign_weights(tmp_path: Path) -> None:
    model = SMALL["default"]
    good = tmp_path / "good.safetensors"
    save_weights(good, model.name, model.config, model.own_state())
    data = good.read_bytes()
    state = model.own_state()

    def header(**changes: str) -> dict[str, str]:
        plain = {"format": FORMAT, "model": "default", "config": json.dumps(read_weights(good)[1])}
        return plain | changes

    cases: list[tuple[str, dict[str, str] | None, str]] = [
        ("foreign", None, "not a weights file of refsr"),
        ("model", header(model="other"), "is for the model 'other'"),
        ("config", header(config='{"width": 16, "depth": 3}'), "its config has 'depth'"),
        ("fit", header(config="{}"), "do not fit its model"),
        ("json", header(config="{"), "its header is damaged"),
        ("list", header(config="[1]"), "its header is damaged"),
        ("deep", header(config="[" * 100_000), "its header is damaged"),
        ("large", header(config='{"width": 100000}'), "do not fit its model"),
        ("huge", header(config='{"width": 1000000000}'), "its config is damaged"),
        ("negative", header(config='{"width": -1}'), "its config is damaged"),
        ("text", header(config='{"width": "8"}'), "its config is damaged"),
        ("fraction", header(config='{"width": 1.5}'), "its config is damaged"),
    ]
    for name, metadata, message in cases:
        save_file(state, tmp_path / name, metadata=metadata)
        with pytest.raises(WeightsError, match=f"{name}: .*{message}"):
            load_model(tmp_path / name)
    for value in (float("nan"), float("inf")):
        poisoned = {name: tensor.clone() for name, tensor in state.items()}
        poisoned["head.weight"].view(-1)[7] = value
        save_file(poisoned, tmp_path / "poisoned", metadata=header())
        with pytest.raises(WeightsError, match="poisoned: holds NaN or infinite values, first in 'head.weight'"):
            load_model(tmp_path / "poisoned")
    (tmp_path / "short").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "pickle").write_bytes(b"\x80\x04K\x01.")
    for name in ("short", "empty", "pickle"):
        with pytest.raises(WeightsError, match=f"{name}: damaged, or not a safetensors file"):
            load_model(tmp_path / name)


def test_baselines_share_the_default_weights() -> None:
    lr, ref = texture(12, 15), texture(48, 60, seed=1)
    default, alone = load_model("default", device="cpu"), load_model("sisr", device="cpu")
    assert torch.equal(restored(alone, lr), restored(default, lr))
    assert load_model("bicubic").parameter_count() == 0
    sr = upscale(lr, [ref], model=load_model("sisr", device="cpu"), precision="fp32")
    assert torch.equal(sr.photo.pixels, restored(default, lr).clamp(0, 1))
    assert (sr.provenance.reference == -1).all()


@pytest.mark.parametrize("size", [(128, 160), (256, 320)])
def test_flow_follows_a_small_shift(size: tuple[int, int]) -> None:
    """The reference shows the picture moved by eight pixels to the left, also at twice the size."""
    scene = F.interpolate(texture(44, 44), scale_factor=4, mode="bicubic").clamp(0, 1)
    truth, ref = scene[..., 8:136, :160], scene[..., 8:136, 8:168]
    model = load_model("flow", device="cpu")
    (found,) = match(model, encode(model, downscale_bicubic(truth, 4), [resize(ref, size)])).matches
    grid = cell_grid((32, 40), found.position_cells)
    offset = (found.position_cells[0] + 0.5) / (size[0] / 128) - 0.5 - grid
    inside = offset[:, 4:-4, 6:-6]
    assert inside[0].abs().mean() < 0.15
    assert (inside[1] + 2).abs().mean() < 0.15


def test_flow_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"^the model 'flow' needs an extra: pip install 'refsr\[geometry\]'"):
        restored(SMALL["flow"], texture(12, 15), [texture(40, 44)])


def test_progress_grows_within_each_reference() -> None:
    model, told = SMALL["default"], Told()
    encoded = encode(model, texture(50, 60), [texture(200, 240, seed=s) for s in (1, 2)])
    match(model, encoded, memory_bytes=2**20, progress=told)
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1
    assert sum(share <= 0.5 for share in told.shares) > 1
    assert sum(share > 0.5 for share in told.shares) > 1
