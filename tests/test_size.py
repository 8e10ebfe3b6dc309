"""Results of any size: smaller than four times in one pass, larger ones in two, soft photos sharpened."""

import json
from pathlib import Path

import pytest
import torch
from conftest import small_models, texture
from PIL import Image

from refsr import Photo, UsageError, load_model, upscale
from refsr.bench.metrics import psnr_db
from refsr.cli import main
from refsr.io.photo import write_photo
from refsr.models import RefSRModel
from refsr.resize import resize, resize_box, upscale_bicubic
from refsr.restore import memory
from refsr.restore.pipeline import encode, match
from refsr.restore.size import Pass, asked_px, passes, result_px
from refsr.restore.tiles import parts_of, transfer_tiled

SMALL = small_models()


@pytest.mark.parametrize(
    ("scale", "fit", "expected"),
    [
        (1, None, (30, 41)),
        (1.5, None, (45, 62)),
        (8, None, (240, 328)),
        (4, (82, 1000), (60, 82)),
        (4, (1000, 90), (90, 123)),
        (4, (20, 20), (15, 20)),
    ],
)
def test_the_results_size(scale: float, fit: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert result_px((30, 41), scale, fit) == expected


@pytest.mark.parametrize(
    ("scale", "fit", "message"),
    [
        (0.5, None, "--scale 0.5: give a number from 1 to 8"),
        (9, None, "--scale 9: give a number from 1 to 8"),
        (float("nan"), None, "--scale nan: give a number"),
        (4, (9, 9), "--size 9x9: is too small: at least 8 pixels a side"),
        (4, (0, 9), "--size 0x9: is too small"),
        (4, (999, 999), "--size 999x999: 41x30 pixels become 328x240 at the most"),
    ],
)
def test_impossible_sizes(scale: float, fit: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        result_px((30, 41), scale, fit)


def test_a_scale_or_a_size() -> None:
    photo = Photo(pixels=texture(30, 41))
    assert asked_px((30, 41), 4, None, None) == (120, 164)
    assert asked_px((30, 41), 4, 2, None) == (60, 82)
    with pytest.raises(UsageError, match="--scale 0: give a number from 1 to 8"):
        upscale(photo, model=SMALL["bicubic"], scale=0)
    with pytest.raises(UsageError, match="--scale 2 and --size 90x90: give one of them, not both"):
        upscale(photo, model=SMALL["bicubic"], scale=2, size=(90, 90))


@pytest.mark.parametrize(("scale", "expected"), [("1.5", (62, 45)), ("2", (82, 60)), ("2.5", (102, 75))])
def test_the_commands_scale_is_no_whole_number(tmp_path: Path, scale: str, expected: tuple[int, int]) -> None:
    write_photo(tmp_path / "in.png", Photo(pixels=texture(30, 41)))
    out = tmp_path / "out.png"
    assert main(["upscale", str(tmp_path / "in.png"), "-o", str(out), "--scale", scale, "--model", "bicubic"]) == 0
    with Image.open(out) as image:
        assert image.size == expected


def test_what_is_only_reduced_is_not_said_to_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    for name in ("in", "ref"):
        write_photo(tmp_path / f"{name}.png", Photo(pixels=noise))
    given = [str(tmp_path / "in.png"), "--ref", str(tmp_path / "ref.png"), "-o", str(tmp_path / "out.png"), "--json"]
    assert main(["upscale", *given, "--size", "30x30", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["width"], told["height"], told["used"]) == (30, 20, [])
    assert told["notes"] == ["the photo is as sharp as its size allows, and is only reduced"]


def test_passes() -> None:
    photo = (100, 200)
    assert passes(photo, (400, 800), 4, 2.0) == [Pass(lr_px=(50, 100), out_px=(200, 400))], "there is no more in it"
    assert passes(photo, (400, 800), 4, 1.2) == [Pass(lr_px=photo, out_px=(400, 800))], "hardly soft"
    assert passes(photo, (200, 400), 4, 1.0) == [Pass(lr_px=photo, out_px=(200, 400))]
    assert passes(photo, (200, 400), 4, 2.0) == [Pass(lr_px=(50, 100), out_px=(200, 400))]
    assert passes(photo, (200, 400), 4, 4.0) == [Pass(lr_px=(25, 50), out_px=(100, 200))]
    assert passes(photo, photo, 4, 4.0) == [Pass(lr_px=(25, 50), out_px=photo)]
    assert passes(photo, photo, 4, 1.19) == []
    assert passes(photo, (50, 100), 4, 4.0) == [Pass(lr_px=(25, 50), out_px=(50, 100))]
    assert passes(photo, (50, 100), 4, 2.0) == [], "sharp at half the size"
    twice = [Pass(lr_px=photo, out_px=(200, 400)), Pass(lr_px=(200, 400), out_px=(800, 1600))]
    assert passes(photo, (800, 1600), 4, 1.0) == twice


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("size", [(30, 41), (37, 51), (61, 83), (90, 123), (233, 318)])
def test_every_model_makes_every_size(name: str, size: tuple[int, int]) -> None:
    model = SMALL[name]
    refs = [texture(60, 50, seed=2)] if model.uses_references else []
    photo = Photo(pixels=texture(30, 41), alpha=texture(30, 41)[:, :1])
    found = upscale(photo, refs, model=model, size=size[::-1])
    assert found.photo.size_px == size
    assert found.photo.alpha is not None
    assert found.photo.alpha.shape[-2:] == size
    assert 0 <= found.photo.pixels.min() <= found.photo.pixels.max() <= 1
    found.provenance.to_image(found.to_pil())


def test_a_smaller_result_is_the_large_one_reduced(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    lr, refs = sample["lr"], [sample["ref"]]
    whole = upscale(lr, refs, model=shipped, precision="fp32")
    for scale in (1.5, 2, 3):
        found = upscale(lr, refs, model=shipped, scale=scale, precision="fp32")
        expected = resize(whole.photo.pixels, found.photo.size_px)
        assert found.photo.size_px == (64 * scale, 80 * scale)
        assert (found.photo.pixels - expected).abs().max() < 5e-2, "but for overshoots, which are clipped once"
        assert (found.photo.pixels - expected).abs().mean() * 255 < 0.02
        assert found.provenance.used_levels is not None
        assert whole.provenance.used_levels is not None
        assert torch.equal(found.provenance.used_levels, whole.provenance.used_levels)


@pytest.mark.parametrize("factors", [(4, 4), (1, 1), (1.5, 1.5), (70 / 50, 91 / 70)])
def test_parts_and_tiles_of_any_size_equal_the_whole(factors: tuple[float, float]) -> None:
    model = SMALL["default"]
    lr = texture(50, 70)
    with torch.inference_mode():
        matched = match(model, encode(model, lr, [texture(80, 72, seed=1)]))
        whole, _ = transfer_tiled(model, matched, 100, factors=factors)
        tiled, _ = transfer_tiled(model, matched, 24, factors=factors)
    assert whole.shape[-2:] == (round(50 * factors[0]), round(70 * factors[1]))
    assert (tiled - whole).abs().max() < 1 / 255


def test_a_box_of_a_picture_is_resized_as_in_the_whole() -> None:
    image = texture(60, 80) * 0.8 + 0.1
    whole = resize(image, (25, 50))
    assert (resize_box(image, (25, 50), (0.0, 0.0, 60.0, 80.0)) - whole).abs().max() < 1e-5
    part = resize_box(image[..., 12:48, 16:64], (5, 20), (12.0, 8.0, 24.0, 40.0))
    assert (part - whole[..., 10:15, 15:35]).abs().max() < 1e-5


def test_a_photo_in_parts_equals_the_whole(
    shipped: RefSRModel, sample: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    lr, refs = resize(sample["ref"], (270, 200)), [sample["truth"]]
    whole = upscale(lr, refs, model=shipped, scale=2, precision="fp32")
    monkeypatch.setattr("refsr.restore.passes.parts_of", lambda size, _: parts_of(size, 150))
    parts = upscale(lr, refs, model=shipped, scale=2, precision="fp32")
    assert (parts.photo.pixels - whole.photo.pixels).abs().mean() * 255 < 0.3
    assert parts.provenance.used_levels is not None
    assert whole.provenance.used_levels is not None
    assert (parts.provenance.reference == whole.provenance.reference).float().mean() > 0.95
    assert (parts.provenance.used_levels - whole.provenance.used_levels).abs().mean() < 0.3


def test_memory_bounds_the_parts(shipped: RefSRModel) -> None:
    """Twelve megapixels, enlarged twice with a reference of twelve, in 2 GiB."""
    plan = memory.plan_memory(shipped, (3000, 4000), [(3000, 4000)], 2 * 2**30, (6000, 8000))
    assert plan.part < 3000
    assert memory.plan_memory(shipped, (750, 1000), [(3000, 4000)], 2 * 2**30, (3000, 4000)).part == 1000


def test_what_a_machine_can_spare(monkeypatch: pytest.MonkeyPatch, tmp_path: "pytest.TempPathFactory") -> None:
    gib = 2**30
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("", (), {"available": 30 * gib}))
    assert memory.spare_bytes() == 10 * gib
    assert memory.spare_bytes(processes=2) == 5 * gib
    assert memory.spare_bytes(processes=8) == 2 * gib
    (tmp_path / "memory.max").write_text("max")  # type: ignore[operator]
    assert memory.spare_bytes() == 10 * gib
    (tmp_path / "memory.max").write_text(f"{13 * gib}")  # type: ignore[operator]
    (tmp_path / "memory.current").write_text(f"{gib}")  # type: ignore[operator]
    assert memory.spare_bytes() == 4 * gib


def test_a_soft_photo_is_sharpened_at_its_own_size(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    """With the sharp picture of the same camera, in its own size."""
    truth = sample["truth"]
    soft = upscale_bicubic(sample["lr"], 4)
    alone = upscale(soft, model=shipped, scale=1)
    helped = upscale(soft, [sample["ref"]], model=shipped, scale=1)
    assert alone.photo.size_px == helped.photo.size_px == (256, 320)
    before, guessed, real = (psnr_db(image, truth).item() for image in (soft, alone.photo.pixels, helped.photo.pixels))
    assert guessed > before + 0.5
    assert real > guessed + 0.2
    assert helped.unfit == {}


def test_a_sharp_photo_is_left_alone(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    found = upscale(sample["truth"], [sample["ref"]], model=shipped, scale=1)
    assert torch.equal(found.photo.pixels, sample["truth"])
    assert found.notes == ("the photo is as sharp as its size allows, and stays as it is",)
    assert not found.is_restored
    assert not found.provenance.used_levels.any()  # type: ignore[union-attr]


def test_eight_times_is_two_passes(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    lr = resize(sample["truth"], (32, 40))
    alone, helped = (upscale(lr, refs, model=shipped, scale=8) for refs in ([], [sample["truth"]]))
    assert helped.photo.size_px == (256, 320)
    assert helped.provenance.score.shape == (64, 80), "the map has the cells of the second pass"
    assert helped.provenance.used_levels is not None
    assert (helped.provenance.used_levels > 1).float().mean() > 0.5
    assert psnr_db(helped.photo.pixels, sample["truth"]) > psnr_db(alone.photo.pixels, sample["truth"]) + 1


def test_why_a_reference_is_left_out(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    lr, truth = sample["lr"], sample["truth"]
    noise = torch.rand(1, 3, 200, 240, generator=torch.Generator().manual_seed(0))
    blurred = upscale_bicubic(lr, 4)
    again = (lr + 0.5 / 255).clamp(0, 1)
    found = upscale(lr, [truth, noise, blurred, again, lr[..., 4:-4, 4:-4]], model=shipped)
    assert dict(found.unfit) == {
        "reference 2": "shows other things than the photo",
        "reference 3": "shows the same as the photo, but no sharper",
        "reference 4": "is the photo itself",
        "reference 5": "shows the same as the photo, but no sharper",
    }
    alone = upscale(lr, [truth], model=shipped)
    assert torch.equal(found.photo.pixels, alone.photo.pixels)


def test_models_without_a_pose_take_what_they_get() -> None:
    found = upscale(texture(20, 24), [texture(80, 96)], model=load_model("flow", device="cpu"))
    assert found.unfit == {}
