"""The pose of a reference is found; one that shows other things is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from refsr.io.photo import as_photo
from refsr.models import RefSRModel, load_model
from refsr.references.pose import find_pose
from refsr.references.variants import VariantConfig, transform
from refsr.resize import downscale_bicubic, resize, upscale_bicubic
from refsr.restore.upscale import upscale
from refsr.search import Match, search


def found_pose(model: RefSRModel, lr: torch.Tensor, ref: torch.Tensor) -> tuple[float, float]:
    """Scale and degrees, read from the way back to the reference's pixels."""
    with torch.inference_mode():
        pose = find_pose(model, lr, ref)
    assert pose is not None
    linear = transform(ref, 0, pose.scale, pose.degrees).origin.to_reference[:, :2]
    scale = 1 / linear.det().sqrt().item()
    return scale, math.degrees(math.atan2(linear[0, 1].item(), linear[0, 0].item()))


@pytest.mark.parametrize(
    ("scale", "degrees"), [(1.0, 30.0), (1.0, -45.0), (1.0, 90.0), (1.5, 0.0), (0.67, 0.0), (1.5, 90.0)]
)
def test_a_turned_or_scaled_reference_is_turned_and_scaled_back(
    shipped: RefSRModel, sample: dict[str, torch.Tensor], scale: float, degrees: float
) -> None:
    changed = transform(sample["truth"], 0, scale, degrees).image.clamp(0, 1)
    found_scale, found_degrees = found_pose(shipped, sample["lr"], changed)
    assert abs(math.log2(found_scale * scale)) < 0.26
    assert abs((found_degrees + degrees + 180) % 360 - 180) < 12


def test_a_reference_of_other_things_is_not_used(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    noise = torch.rand(1, 3, 200, 240, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert find_pose(shipped, sample["lr"], noise) is None
    found = upscale(sample["lr"], [noise], model=shipped)
    assert torch.equal(found.photo.pixels, upscale(sample["lr"], model=shipped).photo.pixels)
    assert (found.provenance.reference == -1).all()
    assert found.unfit == {"reference 1": "shows other things than the photo"}


def test_a_reference_that_fits_or_is_too_small_to_measure_keeps_its_pose(
    shipped: RefSRModel, sample: dict[str, torch.Tensor]
) -> None:
    for ref in (sample["truth"], sample["truth"][..., :20, :28]):
        with torch.inference_mode():
            pose = find_pose(shipped, sample["lr"], ref)
        assert pose is not None
        assert (pose.scale, pose.degrees) == (1.0, 0.0)
        kept = transform(ref, 3, pose.scale, pose.degrees)
        assert torch.equal(kept.image, ref)
        assert torch.equal(kept.origin.to_reference, torch.eye(3)[:2])
        assert kept.origin.reference == 3


def test_an_unfit_reference_does_not_change_the_numbers_of_others(
    shipped: RefSRModel, sample: dict[str, torch.Tensor]
) -> None:
    """The left half of the photo is shown by the first reference, the right one by the third, nothing by the second."""
    noise = torch.rand(1, 3, 200, 240, generator=torch.Generator().manual_seed(0))
    left, right = sample["truth"][..., :168], sample["truth"][..., 152:]
    found = upscale(sample["lr"], [left, noise, right], model=shipped, precision="fp32")
    assert found.unfit == {"reference 2": "shows other things than the photo"}
    origin = found.provenance
    assert origin.names == ("reference 1", "reference 2", "reference 3")
    assert (origin.reference[:, :36] == 0).float().mean() > 0.9
    assert (origin.reference[:, 44:] == 2).float().mean() > 0.9
    assert not (origin.reference == 1).any()
    x = torch.arange(80) * 4 + 1.5
    for columns, first_px in ((slice(0, 36), 0), (slice(44, 80), 152)):
        off = (origin.position_px[1][:, columns] - (x[columns] - first_px)).abs()
        assert (off < 2).float().mean() > 0.9
    both = upscale(sample["lr"], [left, right], model=shipped, precision="fp32")
    assert torch.equal(found.photo.pixels, both.photo.pixels)
    assert origin.used_levels is not None
    assert both.provenance.used_levels is not None
    assert torch.equal(origin.used_levels, both.provenance.used_levels)
    assert origin.used_levels.mean() > 1


def test_flow_takes_references_as_they_are(sample: dict[str, torch.Tensor]) -> None:
    """Its field hangs together whatever the reference, and tells nothing of the pose."""
    model = load_model("flow", device="cpu")
    turned = transform(sample["truth"], 0, 1.0, 90.0).image.clamp(0, 1)
    as_given = upscale(sample["lr"], [turned], model=model, variants=VariantConfig())
    assert torch.equal(upscale(sample["lr"], [turned], model=model).photo.pixels, as_given.photo.pixels)


@pytest.mark.parametrize("times", [0.25, 0.5, 2.0, 4.0, 8.0, 12.0])
def test_a_reference_of_any_size_is_brought_to_the_results(
    shipped: RefSRModel, sample: dict[str, torch.Tensor], times: float
) -> None:
    height, width = sample["truth"].shape[-2:]
    ref = resize(sample["truth"], (round(times * height), round(times * width)))
    with torch.inference_mode():
        pose = find_pose(shipped, sample["lr"], ref)
    assert pose is not None
    assert pose.fit > 0.4
    assert abs(math.log2(pose.scale * times)) < 0.1
    assert abs(pose.degrees) < 4


def test_a_soft_photo_of_the_references_size(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    """Photo and reference of one camera: the reference is enlarged as the photo is."""
    soft = upscale_bicubic(sample["lr"], 4)
    with torch.inference_mode():
        pose = find_pose(shipped, soft, sample["truth"])
    assert pose is not None
    assert pose.fit > 0.4
    assert abs(math.log2(pose.scale / 4)) < 0.1


@pytest.mark.parametrize("size", [(9, 9), (8, 600), (600, 8)])
def test_tiny_and_thin_photos_are_posed_with_few_cells(
    shipped: RefSRModel, sample: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    searched = []

    def search_and_note(query: torch.Tensor, keys: list[torch.Tensor], **how: Any) -> Match:
        searched.append((query[0, 0].numel(), keys[0][0, 0].numel()))
        return search(query, keys, **how)

    monkeypatch.setattr("refsr.references.pose.search", search_and_note)
    photo = resize(sample["truth"], size)
    with torch.inference_mode():
        find_pose(shipped, photo, resize(sample["truth"], (1200, 1600)))
    assert searched
    assert max(query for query, _ in searched) <= 1700
    assert max(key for _, key in searched) <= 55_000


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 4.0, 8.0])
def test_a_faint_fit_is_found_at_any_size(shipped: RefSRModel, shared: Path, times: float) -> None:
    """Another frame of a portrait: its best scale lies between near ties of the coarse measure."""
    lr = downscale_bicubic(as_photo(shared / "data/dev/030_0.webp").pixels, 4)
    ref = as_photo(shared / "data/dev/030_1.webp").pixels
    height, width = ref.shape[-2:]
    with torch.inference_mode():
        pose = find_pose(shipped, lr, resize(ref, (round(times * height), round(times * width))))
    assert pose is not None
    assert pose.scale * times == pytest.approx(2**0.5, rel=0.01)
    assert pose.degrees == 0
