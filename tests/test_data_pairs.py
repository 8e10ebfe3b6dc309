"""Training pairs as planned and rendered: pixels and true fields against naive loops, kinds in their shares."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import best_offset_px, texture
from PIL import Image
from torch import Tensor

from refsr.data.geometry import linear, project, rotation, tilt, translation
from refsr.data.photos import PhotoFiles, PhotoSource
from refsr.data.plan import PairConfig, PairPlan, PairSampler, ReferencePlan, random_crop, random_motion
from refsr.data.render import render
from refsr.data.sample import Crop, cut, sample_view
from refsr.data.scene import Planes, Relief
from refsr.data.sources import Sources
from refsr.degrade import CLEAN, DegradeConfig, degrade
from refsr.errors import UsageError

RELATED: dict[str, Any] = {"references": (0.0, 1.0), "unrelated": 0.0, "elsewhere": 0.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoSource:
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{seed}.png" for seed in range(3)]
    for seed, file in enumerate(files):
        pixels = F.avg_pool2d(texture(2 * 240, 2 * (300 - 20 * seed), seed), 2)[0]
        Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy()).save(file)
    return PhotoSource(PhotoFiles(files, 64))


def drawing(photos: PhotoSource, seed: int = 0, **pairs: Any) -> PairSampler:
    sources = Sources(photos=photos.files, single=tuple(range(len(photos.files))))
    return PairSampler(sources=sources, pairs=PairConfig(**pairs), degrade=DegradeConfig(), real=0.0, seed=seed)


def array(photo: Tensor) -> np.ndarray:
    return photo.permute(1, 2, 0).numpy()


# --- pixels -------------------------------------------------------------------------------------------------------


def test_a_crop_is_what_pillow_cuts(photos: PhotoSource) -> None:
    for seed in range(20):
        crop = random_crop(photos.files, seed % 3, 64, np.random.default_rng(seed))
        photo = photos[crop.photo]
        box = (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side)
        square = Image.fromarray(array(photo)).crop(box).resize((64, 64), Image.Resampling.BICUBIC)
        if crop.transposed:
            square = square.transpose(Image.Transpose.TRANSPOSE)
        for flipped, how in zip(
            crop.flipped, (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM), strict=True
        ):
            square = square.transpose(how) if flipped else square
        made = (cut([photo], [crop], 64)[0] * 255).round().byte()
        assert (made.int() - torch.from_numpy(np.array(square)).permute(2, 0, 1).int()).abs().max() <= 1


def test_the_view_of_a_crop_leads_to_its_pixels(photos: PhotoSource) -> None:
    for seed in range(40):
        crop = random_crop(photos.files, 0, 64, np.random.default_rng(seed))
        seen = sample_view(array(photos[0]), crop.view(64), 64)
        here, beside = ((cut([photos[0]], [crop], 64)[0] - seen.roll(n, 2))[:, 4:-4, 4:-4].abs().mean() for n in (0, 1))
        assert here < 0.4 * beside


def keys(x: float, a: float = -0.75) -> float:
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def naive_sample(photo: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bicubic interpolation at one place, pixel by pixel, mirrored at the edges of the photograph."""
    height, width = photo.shape[:2]
    x, y = (length - abs(length - abs(v + 0.5)) - 0.5 for v, length in ((x, width), (y, height)))
    total = np.zeros(3)
    for row in range(math.floor(y) - 1, math.floor(y) + 3):
        for column in range(math.floor(x) - 1, math.floor(x) + 3):
            pixel = photo[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            total += keys(y - row) * keys(x - column) * pixel
    return total.clip(0, 255) / 255


def test_a_warp_is_bicubic_interpolation(photos: PhotoSource) -> None:
    """Where the photograph is not shrunk beforehand; also beyond its edges."""
    photo = array(photos[1])
    for place, corner in enumerate(((30.3, 40.7), (-9.0, 5.0), (250.0, 200.0))):
        matrix = np.array([[0.9, 0.2, corner[0]], [-0.1, 1.0, corner[1]], [1e-4, -2e-4, 1]])
        made = sample_view(photo, matrix, 40)
        for y, x in ((0, 0), (7, 33), (39, 20), (39, 39)):
            there = project(matrix, np.array([[x, y]], dtype=float))[0]
            assert made[:, y, x].numpy() == pytest.approx(naive_sample(photo, *there), abs=0.02), (place, y, x)


def test_warped_pictures_are_as_sharp_as_shrunk_ones(photos: PhotoSource) -> None:
    """Energy of the finest details, against Pillow's resizing in one step."""
    for zoom in (1.3, 1.7, 2.2):
        side = round(96 * zoom)
        shrunk = Image.fromarray(array(photos[0])).resize(
            (96, 96), Image.Resampling.BICUBIC, box=(9, 7, 9 + side, 7 + side)
        )
        matrix = np.array([[side / 96, 0, 8.5 + side / 192], [0, side / 96, 6.5 + side / 192], [0, 0, 1]])
        warped = array((sample_view(array(photos[0]), matrix, 96) * 255).round())
        energy = [np.abs(np.fft.fft2(p.mean(2)))[34:62, 34:62].mean() for p in (np.array(shrunk, dtype=float), warped)]
        assert 0.85 < energy[1] / energy[0] < 1.15, zoom


def test_a_batch_equals_its_pictures_one_by_one(photos: PhotoSource) -> None:
    made = drawing(photos, layered=0.5, relief=0.5, tilted=0.5, references=(0.1, 0.3, 0.3, 0.1, 0.1, 0.1))
    plans = [made.plan(number, 64) for number in range(12)]
    together = render(plans, photos, 64)
    for place, plan in enumerate(plans):
        alone = render([plan], photos, 64)
        count = len(plan.references)
        assert together["references"][place] == count
        for name in ("hr", "lr"):
            assert torch.equal(alone[name][0], together[name][place])
        if count == 0:
            continue
        assert (alone["refs"][0, :count] - together["refs"][place, :count]).abs().max() <= 2 / 255
        assert torch.allclose(
            alone["truth_cells"][0, :count], together["truth_cells"][place, :count], atol=1e-3, equal_nan=True
        )


def test_tilted_pictures_are_as_sharp_as_those_of_many_samples(photos: PhotoSource) -> None:
    """Neither blurred nor aliased along the axis that is seen from the side: against 8x8 samples a pixel."""
    for degrees, axis in ((60.0, 0.0), (45.0, 90.0), (50.0, 30.0)):
        middle = np.full(2, 31.5)
        plane = translation(np.array((150.0, 120.0))) @ np.linalg.inv(tilt(degrees, axis, 400.0)) @ translation(-middle)
        fine = plane @ translation(np.full(2, -7 / 16)) @ linear(np.eye(2) / 8)
        many = F.avg_pool2d(sample_view(array(photos[0]), fine, 512)[None], 8)[0]
        once = sample_view(array(photos[0]), plane, 64)
        energy = [np.abs(np.fft.fft2(p.mean(0).numpy()))[20:44, 20:44].mean() for p in (once, many)]
        assert 0.7 < energy[0] / energy[1] < 1.5, (degrees, axis, energy)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_the_same_pair_on_an_accelerator(photos: PhotoSource) -> None:
    made = drawing(photos, layered=0.5, relief=0.5, tilted=0.5, references=(0.1, 0.3, 0.3, 0.1, 0.1, 0.1))
    made = dataclasses.replace(made, degrade=DegradeConfig(clean=0.2))
    plans = [made.plan(number, 64) for number in range(24)]
    here, there = (render(plans, PhotoSource(photos.files, device=device), 64) for device in ("cpu", "cuda"))
    for name in ("hr", "refs"):
        difference = (here[name] - there[name].cpu()).abs()
        assert difference.mean() < 0.2 / 255, name
        assert (difference > 3 / 255).float().mean() < 1e-3, name
    # Where the accelerator rounds a pixel of the truth otherwise, JPEG makes more of it.
    assert (here["lr"] - there["lr"].cpu()).abs().mean() < 1 / 255
    same = degrade(here["hr"].cuda(), [plan.degradation for plan in plans])
    assert (here["lr"] - same.cpu()).abs().mean() < 0.05 / 255
    both = ~here["truth_cells"].isnan() & ~there["truth_cells"].cpu().isnan()
    assert (here["truth_cells"][both] - there["truth_cells"].cpu()[both]).abs().max() < 1e-2


def test_bytes_are_resized_as_floats_are(photos: PhotoSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerators resize floats, the CPU bytes."""
    crop = Crop(photo=0, left=3, top=5, side=150)
    quick = cut([photos[0]], [crop], 64)
    slow = F.interpolate(
        photos[0][None, :, 5:155, 3:153].float(), size=(64, 64), mode="bicubic", antialias=True
    ).round().clamp(0, 255)  # fmt: skip
    assert (quick * 255 - slow).abs().max() <= 1


# --- geometry -----------------------------------------------------------------------------------------------------


def test_a_plane_is_tilted_as_a_camera_sees_it() -> None:
    """Against points in space, turned and projected one by one."""
    matrix = tilt(50.0, 30.0, 200.0)
    axis = rotation(30.0)
    for x, y in ((10.0, 0.0), (0.0, 25.0), (-30.0, 12.0)):
        along, across = axis.T @ (x, y)
        depth = 200.0 + across * math.sin(math.radians(50))
        seen = axis @ np.array((along, across * math.cos(math.radians(50)))) * 200.0 / depth
        assert project(matrix, np.array([[x, y]]))[0] == pytest.approx(seen)


def test_motions_fill_their_ranges() -> None:
    config = PairConfig(turned=1.0, scaled=1.0, tilted=0.0)
    scales, angles = [], []
    for seed in range(400):
        corners = project(
            random_motion(config, 160, np.random.default_rng(seed), 0.0), np.array([[79.5, 79.5], [80.5, 79.5]])
        )
        across = corners[1] - corners[0]
        scales.append(np.hypot(*across))
        angles.append(math.degrees(math.atan2(*across[::-1])))
    assert 0.36 < min(scales) < 0.45
    assert 2.2 < max(scales) < 2.8
    assert max(angles) > 170
    assert min(angles) < -170


def test_tilted_planes_stay_before_the_camera() -> None:
    config = PairConfig(tilted=1.0, tilt_degrees=75.0, scaled=1.0)
    corners = np.array([[0, 0, 1], [159, 0, 1], [0, 159, 1], [159, 159, 1]])
    seen = [corners @ random_motion(config, 160, np.random.default_rng(seed), 240.0)[2] for seed in range(500)]
    depths = [depth / depth.mean() for depth in seen]
    assert min(depth.min() for depth in depths) > 0.2
    assert max(depth.max() for depth in depths) > 1.5


def plan_of(
    photos: PhotoSource, motions: tuple[np.ndarray, ...], planes: Planes | None = None, relief: Relief | None = None
) -> PairPlan:
    crop = Crop(photo=0, left=60, top=50, side=64)
    reference = ReferencePlan(photo=0, view=crop.view(64), motions=motions, relief=relief)
    return PairPlan(number=0, crop=crop, planes=planes, references=(reference,), degradation=CLEAN)


def test_true_cells_of_a_shift(photos: PhotoSource) -> None:
    right_by_two_cells = np.array([[1.0, 0, 8], [0, 1, 0], [0, 0, 1]])
    truth = render([plan_of(photos, (right_by_two_cells,))], photos, 64)["truth_cells"][0, 0]
    assert truth[:, 3, 5].tolist() == pytest.approx([3, 3])
    assert truth[:, 3, :2].isnan().all()


def test_planes_are_drawn_as_a_naive_loop_draws_them(photos: PhotoSource) -> None:
    """A half plane split from the photograph, that moved right; before both, a disc of another photograph."""
    nodes = np.linspace(-64, 128, 65)
    across, down = np.meshgrid(nodes, nodes)
    masks = np.stack((across - 40.2, 14.3 - np.hypot(across - 20, down - 30))).astype(np.float32)
    cutout = Crop(photo=1, left=100, top=90, side=64)
    planes = Planes(masks=masks, cutouts=(None, cutout), fill_px=(-20.0, 12.0))
    still, right, up = (np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]]) for x, y in ((0, 0), (-10, 0), (-4, -9)))
    plan = plan_of(photos, (still, right, up), planes)
    made = render([plan], photos, 64)
    own, other = array(photos[0]) / 255, array(photos[1]) / 255

    def mask(plane: int, x: float, y: float) -> float:
        return (x - 40.2, 14.3 - math.hypot(x - 20, y - 30))[plane]

    wrong = hidden = 0
    for y in range(64):
        for x in range(64):
            inside = mask(1, x, y)
            if abs(inside) > 1.5:  # beside the edge, where pixels are mixed
                expected = other[90 + y, 100 + x] if inside > 0 else own[50 + y, 60 + x]
                assert made["hr"][0, :, y, x].numpy() == pytest.approx(expected, abs=1e-3)
            edge = min(abs(mask(1, x - 4, y - 9)), abs(mask(0, x - 10, y)), abs(mask(0, x, y)))
            if edge < 1.5:
                continue
            if mask(1, x - 4, y - 9) > 0:
                expected = other[90 + y - 9, 100 + x - 4] if 90 + y - 9 >= 0 else None
            elif mask(0, x - 10, y) > 0:
                expected = own[50 + y, 60 + x - 10]
            elif mask(0, x, y) > 0:
                expected, hidden = own[50 + y + 12, 60 + x - 20], hidden + 1
            else:
                expected = own[50 + y, 60 + x]
            wrong += int(np.abs(made["refs"][0, 0, :, y, x].numpy() - expected).max() > 1.5 / 255)
    assert wrong == 0
    assert hidden > 200

    def shows(x: float, y: float) -> int:
        return 2 if mask(1, x - 4, y - 9) > 0 else 1 if mask(0, x - 10, y) > 0 else 0

    truth = made["truth_cells"][0, 0]
    seen = 0
    for row in range(16):
        for column in range(16):
            cx, cy = 4 * column + 1.5, 4 * row + 1.5
            owner = 2 if mask(1, cx, cy) > 0 else 1 if mask(0, cx, cy) > 0 else 0
            there = {0: (cx, cy), 1: (cx + 10, cy), 2: (cx + 4, cy + 9)}[owner]
            moved = (mask(1, there[0] - 4, there[1] - 9), mask(0, there[0] - 10, there[1]))
            if min(abs(value) for value in (*moved, mask(1, cx, cy), mask(0, cx, cy))) < 0.5:  # beside an edge
                continue
            visible = shows(*there) == owner and all(1.5 <= v <= 61.5 for v in there)
            assert bool(truth[0, row, column].isnan()) != visible, (row, column, owner)
            if visible:
                seen += 1
                assert ((truth[:, row, column] * 4 + 1.5).flip(0).numpy()) == pytest.approx(there, abs=1e-3)
    assert seen > 100


def test_a_plane_of_the_photograph_hides_the_cutout_behind_it(photos: PhotoSource) -> None:
    """Where both cover, crop and unmoved reference show the photograph itself; elsewhere the cut-out."""
    cutout = Crop(photo=1, left=100, top=90, side=64)
    nodes = np.tile(np.linspace(-64, 128, 65), (65, 1))
    masks = np.stack((nodes - 20.3, nodes - 40.3)).astype(np.float32)
    planes = Planes(masks=masks, cutouts=(cutout, None), fill_px=(0.0, 0.0))
    made = render([plan_of(photos, (np.eye(3),) * 3, planes)], photos, 64)
    own, other = (photos[n][:, top : top + 64, left : left + 64] / 255 for n, top, left in ((0, 50, 60), (1, 90, 100)))
    for picture in (made["hr"][0], made["refs"][0, 0]):
        for shown, columns in ((own, slice(0, 19)), (other, slice(22, 39)), (own, slice(42, 64))):
            assert (picture[..., columns] - shown[..., columns]).abs().max() < 1.5 / 255
    assert not made["truth_cells"].isnan().any()


def test_relief_moves_pixels_and_truth_alike(photos: PhotoSource) -> None:
    y, x = np.meshgrid(np.arange(24), np.arange(24), indexing="ij")
    relief = Relief(shift_px=(2 * np.sin(x / 4) + np.cos(y / 5)).astype(np.float32), direction=(0.6, 0.8))
    plan = plan_of(photos, (np.eye(3),), relief=relief)
    made = render([plan], photos, 64)
    truth = made["truth_cells"][0, 0]
    known = ~truth[0].isnan()
    assert known.float().mean() > 0.75
    for row, column in ((4, 4), (8, 11), (12, 3)):
        there = (truth[:, row, column] * 4 + 1.5).numpy()[::-1]  # (x, y) in the reference
        node = there / 63 * 23
        low = np.floor(node).astype(int)
        share = node - low
        corners = relief.shift_px[low[1] : low[1] + 2, low[0] : low[0] + 2]
        amount = (1 - share[1], share[1]) @ corners @ (1 - share[0], share[0])
        assert there + amount * np.array(relief.direction) == pytest.approx((4 * column + 1.5, 4 * row + 1.5), abs=0.02)
    beside = best_offset_px([(made, 0)])
    assert max(map(abs, beside)) <= 0.5, "which is as near as one pair tells"


@pytest.mark.parametrize("kind", [{}, {"tilted": 1.0}, {"layered": 1.0}, {"relief": 1.0}])
def test_true_cells_lead_to_the_same_texture(photos: PhotoSource, kind: dict[str, Any]) -> None:
    made = drawing(photos, **RELATED, **kind, log2_scale=0.2, turned=0.0, scaled=0.0)
    batch = render([made.plan(number, 96) for number in range(12)], photos, 96)
    seen = [place for place in range(12) if (~batch["truth_cells"][place, 0, 0].isnan()).sum() > 50]
    assert len(seen) >= 8
    assert best_offset_px([(batch, place) for place in seen]) == (0.0, 0.0)


# --- numbers and shares -------------------------------------------------------------------------------------------


def test_a_pair_depends_on_seed_and_number_alone(photos: PhotoSource) -> None:
    kinds: dict[str, Any] = {"layered": 0.5, "relief": 0.5, "tilted": 0.5, "references": (0.0, 0.5, 0.5)}
    first, again, other = (
        render([drawing(photos, seed, **kinds).plan(number, 64) for number in numbers], photos, 64)
        for seed, numbers in ((1, (4, 5)), (1, (4, 5)), (2, (4, 5)))
    )
    assert all(torch.equal(first[name], again[name]) for name in ("hr", "lr", "refs", "references"))
    assert not torch.equal(first["hr"], other["hr"])


def test_kinds_are_drawn_with_their_shares(photos: PhotoSource) -> None:
    made = drawing(photos, references=(0.2, 0.5, 0.2, 0.0, 0.0, 0.1), layered=0.3, relief=0.25)
    plans = [made.plan(number, 32) for number in range(600)]
    counts = np.array([len(plan.references) for plan in plans])
    for count, share in ((0, 0.2), (1, 0.5), (2, 0.2), (3, 0.0), (5, 0.1)):
        assert np.mean(counts == count) == pytest.approx(share, abs=0.05)
    references = [reference for plan in plans for reference in plan.references]
    assert np.mean([reference.crop is not None for reference in references]) == pytest.approx(0.18, abs=0.05)
    assert np.mean([plan.planes is not None for plan in plans]) == pytest.approx(0.3, abs=0.05)
    related = [reference for reference in references if reference.crop is None]
    assert np.mean([reference.relief is not None for reference in related]) == pytest.approx(0.25, abs=0.05)
    assert plans[0].degradation == CLEAN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"references": (0.5, 0.4)}, r"references \(0.5, 0.4\): the shares add up to 0.9, not to 1"),
        ({"references": (0.0,) * 6 + (1.0,)}, "5 at most"),
        ({"references": (1.5, -0.5)}, "give shares"),
        ({"unrelated": 0.6, "elsewhere": 0.6}, "unrelated, elsewhere add up to 1.2: give shares that add up to 1"),
        ({"layered": 1.1}, "layered is 1.1: give a share between 0 and 1"),
        ({"tilt_degrees": 80.0}, "tilt_degrees 80.0: give an angle between 0 and 75"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PairConfig(**settings)
