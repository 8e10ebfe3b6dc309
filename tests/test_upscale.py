"""Enlarging a picture with and without references: quality, tiles, memory, the map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Told, small_models, texture
from PIL import Image

from refsr import (
    ImageError,
    MemoryBudgetError,
    Photo,
    UsageError,
    VariantConfig,
    upscale,
)
from refsr.bench.metrics import psnr_db
from refsr.io.metadata import Metadata
from refsr.io.photo import as_photo
from refsr.models import RefSRModel
from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.restore.memory import plan_memory
from refsr.restore.pipeline import encode, match
from refsr.restore.tiles import transfer_tiled

SMALL = small_models()
REF = texture(48, 48)
LR = downscale_bicubic(REF, 4).clamp(0, 1)


def test_a_reference_helps_and_the_truth_helps_most(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    def quality(refs: list[torch.Tensor], variants: VariantConfig | None = None) -> float:
        result = upscale(sample["lr"], refs, model=shipped, variants=variants)
        assert result.unfit == {}
        return psnr_db(result.photo.pixels, sample["truth"]).item()

    bicubic = psnr_db(upscale_bicubic(sample["lr"], 4), sample["truth"]).item()
    alone, helped, told = quality([]), quality([sample["ref"]]), quality([sample["truth"]])
    # Taken as it is, for otherwise it would be refused before the network sees it.
    noise = quality([torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))], VariantConfig())
    assert bicubic < alone < helped < told
    assert noise > alone - 0.1


def test_provenance_tells_the_place(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    result = upscale(sample["lr"], [noise, sample["truth"]], model=shipped, variants=VariantConfig())
    provenance = result.provenance
    y, x = torch.meshgrid(torch.arange(64.0) * 4 + 1.5, torch.arange(80.0) * 4 + 1.5, indexing="ij")
    off_px = provenance.position_px - torch.stack((y, x))
    right = (off_px.abs().amax(0) < 2) & (provenance.reference == 1)
    assert right.float().mean() > 0.8
    assert off_px[:, right].mean(1).abs().max() < 0.3, "the middles of cells, not their corners"
    assert provenance.names == ("reference 1", "reference 2")
    assert provenance.score.max() <= 1.0001
    assert upscale(sample["lr"], model=shipped).provenance.reference.eq(-1).all()


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("refs", [0, 2])
def test_tiles_equal_the_whole(name: str, refs: int) -> None:
    model = SMALL[name]
    refs = refs if model.uses_references else 0
    lr = texture(50, 70)
    matched = match(model, encode(model, lr, [texture(80, 72, seed=s) for s in range(refs)]))
    parts = [transfer_tiled(model, matched, tile, measure=True) for tile in (32, 100)]
    (tiled, tiled_used), (whole, whole_used) = parts
    assert (tiled - whole).abs().max() < 1 / 255
    assert tiled_used is not None
    assert whole_used is not None
    assert (tiled_used - whole_used).abs().max() < 1
    assert tiled_used.any() == (refs > 0)


def test_tiles_of_the_shipped_model_leave_no_seams(shipped: RefSRModel) -> None:
    lr, ref = texture(70, 90), texture(160, 200, seed=3)
    matched = match(shipped, encode(shipped, lr, [ref]))
    tiled, whole = (transfer_tiled(shipped, matched, tile)[0] for tile in (24, 100))
    assert (tiled - whole).abs().max() < 1 / 255


def test_tiles_of_a_photo_equal_the_whole(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    """Also where the reference shows nothing of it, and the field is continued from far beyond a tile's halo."""
    lr, ref = sample["lr"], sample["ref"]
    with torch.inference_mode():
        matched = match(shipped, encode(shipped, lr, [ref]))
        tiled, whole = (transfer_tiled(shipped, matched, tile)[0] for tile in (20, 100))
    assert (tiled - whole).abs().max() < 0.1 / 255


def test_a_small_budget_makes_tiles_and_a_tiny_one_is_refused(shipped: RefSRModel) -> None:
    size, refs = (300, 400), [(1200, 1600)]
    with pytest.raises(MemoryBudgetError, match=r"400x300 pixels with 1 reference need .* allow more \(--memory ") as e:
        plan_memory(shipped, size, refs, 10 * 2**20)
    asked = int(str(e.value).partition("--memory ")[2].partition("MiB")[0])
    large, small = (plan_memory(shipped, size, refs, budget * 2**20).tile for budget in (2048, asked))
    assert 32 <= small < large
    with pytest.raises(MemoryBudgetError):
        upscale(texture(30, 40), model=shipped, memory_bytes=1000)


def test_provenance_measures_what_the_reference_changed(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    helped = upscale(sample["lr"], [sample["ref"]], model=shipped)
    alone = upscale(sample["lr"], model=shipped)
    change = (helped.photo.pixels - alone.photo.pixels).square().mean(1, keepdim=True)
    expected = torch.nn.functional.avg_pool2d(change, 4)[0, 0].sqrt() * 255
    assert helped.provenance.used_levels is not None
    assert torch.allclose(helped.provenance.used_levels, expected, atol=0.05)
    assert alone.provenance.used_levels is not None
    assert not alone.provenance.used_levels.any()


def test_without_a_map(tmp_path: Path) -> None:
    with_map, without = (upscale(LR, [REF], model=SMALL["default"], provenance=measured) for measured in (True, False))
    assert with_map.unfit == {}
    assert torch.equal(with_map.photo.pixels, without.photo.pixels)
    assert torch.equal(with_map.provenance.position_px, without.provenance.position_px)
    assert without.provenance.used_levels is None
    with pytest.raises(UsageError, match="no map: call upscale with provenance=True"):
        without.save_provenance(tmp_path / "map.png")


def test_odd_sizes_and_kinds_of_input(tmp_path: Path) -> None:
    model = SMALL["default"]
    pixels = np.random.default_rng(0).integers(0, 256, (19, 27, 4), dtype=np.uint8)
    path = tmp_path / "in.png"
    Image.fromarray(pixels).save(path)
    ref = upscale_bicubic(as_photo(path).pixels, 4).clamp(0, 1)
    expected = upscale(path, [ref], model=model)
    assert expected.unfit == {}
    assert expected.photo.size_px == (76, 108)
    assert expected.to_pil().mode == "RGBA"
    for source in (Image.fromarray(pixels), pixels, str(path), as_photo(path)):
        result = upscale(source, [ref], model=model)
        assert torch.equal(result.photo.pixels, expected.photo.pixels)
        assert result.photo.alpha is not None
        assert result.photo.alpha.shape == (1, 1, 76, 108)


def test_what_the_input_carries_is_kept() -> None:
    photo = Photo(pixels=texture(12, 12), bits=16, metadata=Metadata(icc_profile=b"i", png_chunks={b"gAMA": b"g"}))
    result = upscale(photo, model=SMALL["default"]).photo
    assert result.bits == 16
    assert (result.metadata.icc_profile, result.metadata.png_chunks) == (b"i", {b"gAMA": b"g"})


def test_results_are_repeatable_and_between_0_and_1() -> None:
    first, second = (upscale(LR, [REF], model=SMALL["srntt"]) for _ in range(2))
    assert first.unfit == {}
    assert torch.equal(first.photo.pixels, second.photo.pixels)
    assert first.photo.pixels.min() >= 0
    assert first.photo.pixels.max() <= 1


def test_a_reference_smaller_than_the_patch() -> None:
    with pytest.raises(ImageError, match="reference 2: 20x11 pixels is too small: a reference needs 12 a side"):
        upscale(texture(12, 12), [texture(20, 20), texture(11, 20)], model=SMALL["srntt"])


def test_out_of_memory_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SMALL["default"]

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model, "transfer", full)
    with pytest.raises(MemoryBudgetError, match="out of memory while enlarging 12x10 pixels: close other programs"):
        upscale(texture(10, 12), model=model)


def test_other_failures_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SMALL["default"]

    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(model, "transfer", broken)
    with pytest.raises(RuntimeError, match="something else"):
        upscale(texture(10, 12), model=model)


def test_progress_reaches_the_end() -> None:
    told = Told()
    upscale(LR, [REF], model=SMALL["default"], progress=told)
    assert told[-1] == (1, 1, "restoring")
    assert (1, 1, "matching") in told


def test_a_turned_reference_is_used(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    turned = torch.rot90(sample["truth"], 1, (2, 3))
    plain = upscale(sample["lr"], [turned], model=shipped, variants=VariantConfig())
    posed = upscale(sample["lr"], [turned], model=shipped)
    both = upscale(sample["lr"], [turned], model=shipped, variants=VariantConfig(degrees=(-90.0, 90.0)))
    quality = [psnr_db(result.photo.pixels, sample["truth"]).item() for result in (plain, both, posed)]
    assert min(quality[1:]) > quality[0] + 0.5
    assert both.provenance.reference.eq(0).all()
    y, x = torch.meshgrid(torch.arange(64.0) * 4 + 1.5, torch.arange(80.0) * 4 + 1.5, indexing="ij")
    place = torch.stack((sample["truth"].shape[-1] - 1 - x, y))  # where rot90 put each pixel
    assert ((both.provenance.position_px - place).abs().amax(0) < 2).float().mean() > 0.8


def test_bf16_is_nearly_fp32(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    exact, quick = (
        upscale(sample["lr"], [sample["ref"]], model=shipped, precision=precision).photo.pixels
        for precision in ("fp32", "bf16")
    )
    assert quick.dtype == torch.float32
    assert not torch.equal(exact, quick)
    assert psnr_db(quick, sample["truth"]).item() > psnr_db(exact, sample["truth"]).item() - 0.02


def test_one_reference_outside_a_list() -> None:
    with pytest.raises(UsageError, match=r"refs: is one picture, not several: put it into a list, as in \[picture\]"):
        upscale(np.zeros((30, 30, 3), np.uint8), "ref.png")
