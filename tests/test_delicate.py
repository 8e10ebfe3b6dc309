"""Faces and print: found, told, and left faithful."""

import sys
from typing import Any

import pytest
import torch
from conftest import texture
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from refsr.io.photo import Photo, as_photo
from refsr.models import load_blend, load_model
from refsr.resize import downscale_bicubic, stored
from refsr.restore.delicate import find_delicate
from refsr.restore.pipeline import encode, match
from refsr.restore.tiles import Gentle, transfer_tiled
from refsr.restore.upscale import upscale


def face() -> Tensor:
    """The astronaut Eileen Collins, whose face is in the upper middle."""
    data = pytest.importorskip("skimage.data")
    return as_photo(data.astronaut()[:320, 60:380]).pixels


def page(size_px: int, ink: int, paper: int) -> Tensor:
    image = Image.new("RGB", (480, 200), (paper,) * 3)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size_px)
    for row in range(3):
        draw.text(
            (20, 20 + row * 2 * size_px), "The quick brown fox jumps over 13 dogs"[: 700 // size_px], (ink,) * 3, font
        )
    return as_photo(image).pixels


def test_a_face_is_found() -> None:
    found = find_delicate(face())
    assert found is not None
    assert (found.faces, found.lines) == (1, 0)
    assert found.mask[0, 0, 110, 160] == 1
    assert found.mask[0, 0, 300, 10] == 0
    assert found.warning.startswith("1 face likely:")
    small = find_delicate(downscale_bicubic(face(), 2))
    assert small is not None
    assert small.faces == 1


@pytest.mark.parametrize(("size_px", "ink", "paper"), [(12, 30, 240), (18, 220, 40), (30, 20, 200)])
def test_print_is_found(size_px: int, ink: int, paper: int) -> None:
    found = find_delicate(page(size_px, ink, paper))
    assert found is not None
    assert found.faces == 0
    assert 2 <= found.lines <= 4
    assert found.mask[0, 0, 20 + size_px // 2, 60] > 0.5
    assert found.mask[0, 0, 195, 470] == 0
    assert "lines of print likely" in found.warning


def test_nothing_is_found_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_delicate(torch.full((1, 3, 64, 64), 0.5)) is None
    assert find_delicate(texture(128, 128)) is None
    bars = torch.zeros(1, 3, 240, 240)
    bars[..., 20:220, ::12] = 1
    assert find_delicate(bars) is None  # rails, all alike
    for size_px in ((4, 2200), (1200, 2), (8, 900)):
        assert find_delicate(torch.rand(1, 3, *size_px)) is None  # too thin for either
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert find_delicate(face()) is None


def test_without_the_cascade_print_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV 5 ships none."""
    cv2 = pytest.importorskip("cv2")
    monkeypatch.delattr(cv2, "CascadeClassifier")
    assert find_delicate(face()) is None
    assert find_delicate(page(18, 30, 240)) is not None


def test_a_face_stays_faithful() -> None:
    photo = Photo(pixels=stored(downscale_bicubic(face(), 2)))
    blend = load_blend(device="cpu")
    crisp, faithful = (
        upscale(photo, model=blend, texture=share, quality="clean", provenance=False) for share in (1, 0)
    )
    crisper = load_model("default-texture", device="cpu")
    bare = upscale(photo, model=crisper, provenance=False).photo.pixels
    assert any("1 face likely" in note for note in crisp.notes)
    assert not faithful.notes
    inside, outside = (..., slice(180, 260), slice(280, 360)), (..., slice(560, 640), slice(0, 60))
    assert torch.allclose(crisp.photo.pixels[inside], faithful.photo.pixels[inside], atol=1e-5)
    assert torch.allclose(crisp.photo.pixels[outside], bare[outside], atol=1e-5)
    assert not torch.allclose(bare[inside], faithful.photo.pixels[inside], atol=1e-2)


def test_tiles_are_gentle_where_the_whole_is(sample: dict[str, Any]) -> None:
    model, softer = (load_model(name, device="cpu") for name in ("default-texture", "default"))
    mask = torch.zeros(1, 1, *sample["lr"].shape[-2:])
    mask[..., 20:40, 30:60] = torch.linspace(0, 1, 30)
    gentle = Gentle(model=softer, mask=mask)
    with torch.inference_mode():
        matched = match(model, encode(model, sample["lr"], [sample["ref"]]))
        whole, used = transfer_tiled(model, matched, 1000, gentle=gentle, measure=True)
        tiled, used_in_tiles = transfer_tiled(model, matched, 24, gentle=gentle, measure=True)
    assert torch.allclose(whole, tiled, atol=1e-4)
    assert used is not None
    assert used_in_tiles is not None
    assert torch.allclose(used, used_in_tiles, atol=0.05)
