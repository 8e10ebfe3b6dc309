"""The four protocols against numpy, Pillow and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from conftest import texture
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from refsr.bench.metrics import psnr_db
from refsr.bench.protocol import PROTOCOLS, Protocol
from refsr.errors import ImageError


def grey_levels(image: Tensor) -> NDArray[np.uint8]:
    return (image[0] * 255).round().byte().permute(1, 2, 0).numpy()


def eight_bits(height: int, width: int, seed: int = 0) -> Tensor:
    return (texture(height, width, seed) * 255).round() / 255


def pillow_lr(array: NDArray[np.uint8]) -> NDArray[np.int64]:
    height, width = array.shape[:2]
    return np.asarray(Image.fromarray(array).resize((width // 4, height // 4), Image.Resampling.BICUBIC)).astype(int)


def assert_lr(lr: Tensor, canvas: NDArray[np.uint8]) -> None:
    """The same as Pillow's, but for a grey level of rounding."""
    assert np.abs(grey_levels(lr).astype(int) - pillow_lr(canvas)).max() <= 1


def test_refsr_crops_the_truth_and_leaves_references_alone() -> None:
    truth, refs = eight_bits(43, 50), [eight_bits(30, 61, 1), eight_bits(55, 47, 2)]
    prepared = PROTOCOLS["refsr"].prepare(truth, refs, 4)
    assert torch.equal(prepared.truth, truth[..., :40, :48])
    assert prepared.cropped
    assert all(torch.equal(a, b) for a, b in zip(prepared.references, refs, strict=True))
    assert_lr(prepared.lr, grey_levels(truth)[:40, :48])


def test_ttsr_crops_and_stacks() -> None:
    truth, refs = eight_bits(43, 50), [eight_bits(30, 61, 1), eight_bits(55, 47, 2)]
    one = PROTOCOLS["ttsr"].prepare(truth, refs[:1], 4)
    assert torch.equal(one.references[0], refs[0][..., :28, :60])
    assert_lr(one.lr, grey_levels(truth)[:40, :48])
    (stacked,) = PROTOCOLS["ttsr"].prepare(truth, refs, 4).references
    assert stacked.shape == (1, 3, 2 * 52, 60)
    assert torch.equal(stacked[..., :28, :60], refs[0][..., :28, :60])
    assert torch.equal(stacked[..., 52:, :44], refs[1][..., :52, :44])
    assert not stacked[..., 28:52, :].any()
    assert not stacked[..., 52:, 44:].any()


def test_masa_pads_to_32_and_cuts_back() -> None:
    truth, refs = eight_bits(43, 50), [eight_bits(30, 61, 1), eight_bits(55, 47, 2)]
    prepared = PROTOCOLS["masa"].prepare(truth, refs[:1], 4)
    canvas = np.pad(grey_levels(truth), ((10, 11), (7, 7), (0, 0)), mode="edge")
    assert canvas.shape == (64, 64, 3)
    assert_lr(prepared.lr, canvas)
    assert torch.equal(prepared.truth, truth)
    enlarged = torch.from_numpy(canvas.copy()).permute(2, 0, 1)[None].float() / 255
    assert torch.allclose(prepared.inside(enlarged), truth)
    expected = np.pad(grey_levels(refs[0]), ((0, 2), (0, 3), (0, 0)), mode="edge")
    assert np.array_equal(grey_levels(prepared.references[0]), expected)
    (stacked,) = PROTOCOLS["masa"].prepare(truth, refs, 4).references
    assert stacked.shape == (1, 3, 1024, 512)
    boxes = [
        np.pad(
            grey_levels(ref), ((top, 512 - top - ref.shape[2]), (left, 512 - left - ref.shape[3]), (0, 0)), mode="edge"
        )
        for ref, top, left in ((refs[0], 241, 225), (refs[1], 228, 232))
    ]
    assert np.array_equal(grey_levels(stacked), np.concatenate(boxes))


def test_c2_pads_both_with_black_to_the_larger() -> None:
    truth, ref = eight_bits(43, 50), eight_bits(30, 61, 1)
    prepared = PROTOCOLS["c2"].prepare(truth, [ref], 4)
    canvas = np.zeros((40, 60, 3), dtype=np.uint8)
    canvas[:40, :48] = grey_levels(truth)[:40, :48]
    assert_lr(prepared.lr, canvas)
    (reference,) = prepared.references
    assert reference.shape == (1, 3, 40, 60)
    assert torch.equal(reference[..., :28, :], ref[..., :28, :60])
    assert not reference[..., 28:, :].any()
    assert torch.equal(prepared.truth, truth[..., :40, :48])
    assert torch.equal(prepared.inside(torch.nn.functional.pad(prepared.truth, (0, 12))), prepared.truth)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_without_references_and_with_a_real_lr_image(protocol: Protocol) -> None:
    truth = eight_bits(43, 50)
    assert protocol.prepare(truth, [], 4).references == ()
    lr = eight_bits(10, 12, 3)
    prepared = protocol.prepare(truth, [], 4, lr)
    assert torch.equal(prepared.lr, lr)
    assert prepared.truth.shape == (1, 3, 40, 48)
    with pytest.raises(ImageError, match="its LR image has 13x10 pixels, the truth makes 12x10"):
        protocol.prepare(truth, [], 4, eight_bits(10, 13))


def test_figures_worked_out_by_hand() -> None:
    """A grey square of 64x64; the result is 10 levels too red, or 20 levels too bright in the outer four pixels.

    Luma of 10 levels of red: 10 * 65.481 / 255 = 2.5679 levels: 20 log10(255 / 2.5679) = 39.939 dB. In RGB the squared
    error is 100 / 3: 20 log10(255 / 5.7735) = 32.902 dB. The frame has 64^2 - 56^2 = 960 of 4096 pixels; 20 levels of
    grey are 20 * 219 / 255 = 17.176 of luma: mean squared error 295.0 * 960 / 4096 = 69.15: 29.733 dB.
    """
    truth = torch.full((1, 3, 64, 64), 100 / 255)
    red = truth.clone()
    red[:, 0] += 10 / 255
    frame = truth + 20 / 255
    frame[..., 4:-4, 4:-4] = truth[..., 4:-4, 4:-4]
    expected = {"refsr": (39.939, 100), "ttsr": (39.939, 29.733), "masa": (39.939, 29.733), "c2": (39.939, 100)}
    for name, figures in expected.items():
        border = PROTOCOLS[name].border_px  # type: ignore[index]
        measured = psnr_db(red, truth, border).item(), psnr_db(frame, truth, border).item()
        assert measured == pytest.approx(figures, abs=1e-3)
    assert psnr_db(red, truth, PROTOCOLS["c2"].border_px, "rgb").item() == pytest.approx(32.902, abs=1e-3)
