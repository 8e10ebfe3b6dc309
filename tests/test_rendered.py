"""Rendered views: texture, light and geometry against formulas and loops written here."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import texture
from numpy.typing import NDArray
from torch import Tensor

from refsr.assets import sample_path
from refsr.bench.rendered import EVENING, NOON, Camera, Light, Surface, box, render_view, true_cells
from refsr.data.geometry import project
from refsr.io.photo import as_photo
from refsr.search import Match, cell_grid
from refsr.transfer.swap import warp

FRONT = Camera(size_px=(128, 160), focal_px=160.0, distance=4.0)
SIDE = replace(FRONT, degrees=20.0, above_degrees=6.0)
SKY_ALONE = Light(towards=(0.0, -1.0, 0.0), sun=(0.0, 0.0, 0.0), sky=(1.0, 1.0, 1.0))
WHITE = torch.ones(1, 3, 4, 4)


def wall(texture: Tensor, depth: float = 0.0, width: float = 4.0, heights: Tensor | None = None) -> Surface:
    """A frontal rectangle around the axis; at depth 0, one 4 wide is just what the camera at 0 degrees sees."""
    tall = 0.8 * width
    corner, right, down = (-width / 2, -tall / 2, depth), (width, 0.0, 0.0), (0.0, tall, 0.0)
    return Surface(texture=texture, corner=corner, right=right, down=down, heights=heights)


def seen_at(camera: Camera, points: NDArray[Any]) -> NDArray[Any]:
    """Pixels (x, y) of points (n, 3), by turning the world before a camera that stands still."""
    turn, tilt = math.radians(camera.degrees), math.radians(camera.above_degrees)
    x, y, z = points.T
    x, z = x * math.cos(turn) + z * math.sin(turn), z * math.cos(turn) - x * math.sin(turn)
    y, z = y * math.cos(tilt) - z * math.sin(tilt), z * math.cos(tilt) + y * math.sin(tilt)
    pixels = camera.focal_px * np.stack((x, y), 1) / (z + camera.distance)[:, None]
    return np.asarray(pixels + (np.array(camera.size_px)[::-1] - 1) / 2)


def eye(camera: Camera) -> NDArray[Any]:
    """Where a camera stands."""
    turn, tilt = math.radians(camera.degrees), math.radians(camera.above_degrees)
    return camera.distance * np.array(
        (math.sin(turn) * math.cos(tilt), -math.sin(tilt), -math.cos(turn) * math.cos(tilt))
    )


def in_cells(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (x, y) as cells (y, x)."""
    return (pixels[:, ::-1] - 1.5) / 4


def is_inside(cells: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(((cells >= 0) & (cells <= np.array((31, 39)))).all(1))


def pixels_of_cells() -> NDArray[Any]:
    return np.array([(4 * j + 1.5, 4 * i + 1.5) for i, j in product(range(32), range(40))])


def test_a_frontal_plane_is_its_texture_resized() -> None:
    fine = texture(384, 480)
    expected = F.avg_pool2d(fine**2.2, 3) ** (1 / 2.2)
    assert torch.allclose(render_view([wall(fine)], FRONT, SKY_ALONE), expected, atol=1e-4)


def test_what_no_surface_covers_is_sky() -> None:
    view = render_view([wall(texture(8, 8), width=1.0)], FRONT, NOON)
    assert torch.allclose(view[0, :, 0, 0] ** 2.2, torch.tensor(NOON.sky), atol=1e-5)
    assert true_cells([wall(WHITE, width=1.0)], FRONT, FRONT)[0, 0].isfinite().sum() == 8 * 10


def test_true_cells_of_a_view_in_itself_are_its_own() -> None:
    found = true_cells([wall(WHITE, width=9.0)], SIDE, SIDE)
    assert torch.allclose(found[0], cell_grid((32, 40), found), atol=1e-5)


def test_true_cells_of_a_plane_agree_with_its_homography() -> None:
    corners = np.array([(x, y, 0.5) for x, y in ((-6, -4.8), (6, -4.8), (6, 4.8), (-6, 4.8))])
    first, second = (seen_at(camera, corners).astype(np.float32) for camera in (FRONT, SIDE))
    homography, _ = cv2.findHomography(first, second)
    expected = in_cells(project(homography, pixels_of_cells()))
    found = true_cells([wall(WHITE, depth=0.5, width=12.0)], FRONT, SIDE)[0].flatten(1).T.numpy()
    known = np.isfinite(found).all(1)
    assert known.mean() > 0.8
    assert np.array_equal(known, is_inside(expected))
    assert np.abs(found - expected)[known].max() < 0.01


def test_a_box_hides_what_is_behind_it() -> None:
    low, high, depth = (-0.5, -0.6, -0.3), (0.4, 0.7, 0.5), 1.5
    scene = [wall(WHITE, depth=depth, width=12.0), *box(low, high, [WHITE] * 5)]

    def is_free(start: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
        """Whether the box lies on none of the straight way to points."""
        ends = (np.stack((low, high))[:, None] - start) / (points - start)
        return np.asarray(ends.min(0).max(1) > ends.max(0).min(1))

    across = (pixels_of_cells() - (79.5, 63.5)) / FRONT.focal_px * (FRONT.distance + depth)
    points = np.concatenate((across, np.full((len(across), 1), depth)), 1)
    on_the_wall = is_free(eye(FRONT), points)
    expected = in_cells(seen_at(SIDE, points))
    shown = is_inside(expected)
    free = is_free(eye(SIDE), points)
    found = true_cells(scene, FRONT, SIDE)[0].flatten(1).T.numpy()
    assert (on_the_wall & shown & ~free).sum() > 30
    assert np.array_equal(np.isfinite(found).all(1)[on_the_wall], (shown & free)[on_the_wall])
    known = on_the_wall & shown & free
    assert np.abs(found - expected)[known].max() < 1e-4


@pytest.mark.parametrize("relief", [False, True])
def test_the_second_view_at_the_true_cells_is_the_first_one(relief: bool, rng: torch.Generator) -> None:
    heights = (
        0.2 * F.interpolate(torch.rand(1, 1, 4, 5, generator=rng), scale_factor=8, mode="bicubic")[0, 0]
        if relief
        else None
    )
    scene = [wall(as_photo(sample_path("truth")).pixels[..., :320, :400], width=6.0, heights=heights)]
    first, second = (render_view(scene, camera, NOON) for camera in (FRONT, SIDE))
    cells = true_cells(scene, FRONT, SIDE)
    known = cells.isfinite().all(1, keepdim=True)
    own = cell_grid((32, 40), cells)
    position = torch.where(known, cells, own)
    match = Match(position_cells=position, reference=torch.zeros(1, 32, 40).long(), score=torch.ones(1, 1, 32, 40))
    surrounded = -F.max_pool2d(-known.float(), 3, stride=1, padding=1)
    inside = F.interpolate(surrounded, scale_factor=4).expand_as(first) > 0
    error = (warp([second], match, scale=4) - first)[inside].square().mean()
    assert inside.float().mean() > 0.6
    assert -10 * error.log10() > 30
    still = (second - first)[inside].square().mean()
    assert -10 * still.log10() < 20


def test_the_evening_changes_only_the_colour_of_a_plane() -> None:
    scene = [wall(texture(32, 40) * 0.8, width=9.0)]
    noon, evening = (render_view(scene, SIDE, light) ** 2.2 for light in (NOON, EVENING))
    gains = (evening / noon).flatten(2)[0]
    assert torch.allclose(gains, gains[:, :1].expand_as(gains), rtol=1e-3)
    red, green, blue = gains[:, 0].tolist()
    assert blue < green < red < 1


def test_a_shadow_lies_where_something_hides_the_sun() -> None:
    light = Light(towards=(-1.0, 0.0, -1.0), sun=(0.5, 0.5, 0.5), sky=(0.2, 0.2, 0.2))
    scene = [wall(WHITE, width=9.0), wall(WHITE, depth=-1.0, width=0.5)]
    row = render_view(scene, FRONT, light)[0, 0, 64] ** 2.2
    x = (torch.arange(160) - 79.5) / FRONT.focal_px * FRONT.distance
    lit, shade = 0.2 + 0.5 * math.sqrt(0.5), 0.2
    # The sheet is from -0.25 to 0.25, one unit before the wall: its shadow falls one unit to the right of it.
    assert torch.allclose(row[(x > 0.8) & (x < 1.2)], torch.tensor(shade), atol=1e-4)
    assert torch.allclose(row[(x > 1.3) | (x < -0.4)], torch.tensor(lit), atol=1e-4)
    assert torch.allclose(row[x.abs() < 0.3], torch.tensor(lit), atol=1e-4)


def test_a_relief_that_is_a_ramp_is_a_tilted_plane() -> None:
    ramp = torch.linspace(0, 1.5, 9).expand(5, 9)
    shown = texture(64, 80)
    tilted = Surface(texture=shown, corner=(-3.0, -2.4, 1.0), right=(6.0, 0.0, -1.5), down=(0.0, 4.8, 0.0))
    relief = replace(tilted, right=(6.0, 0.0, 0.0), heights=ramp)
    first, second = (render_view([surface], SIDE, NOON) for surface in (tilted, relief))
    inside = true_cells([tilted], SIDE, SIDE)[:, :1].isfinite()
    inner = F.interpolate(-F.max_pool2d(-inside.float(), 5, stride=1, padding=2), scale_factor=4) > 0
    assert inner.float().mean() > 0.5
    assert ((first - second).abs() * inner).max() < 1e-4


def test_true_cells_of_a_relief_agree_with_a_naive_loop(rng: torch.Generator) -> None:
    heights = 1.2 * torch.rand(7, 9, generator=rng)
    second = replace(FRONT, degrees=50.0)
    found = true_cells([wall(WHITE, width=6.0, heights=heights)], FRONT, second)

    def height(x: float, y: float) -> float:
        column, row = (x / 6 + 0.5) * 8, (y / 4.8 + 0.5) * 6
        j, i = min(int(column), 7), min(int(row), 5)
        right, down = column - j, row - i
        upper, lower = (((1 - right) * heights[k, j] + right * heights[k, j + 1]).item() for k in (i, i + 1))
        return (1 - down) * upper + down * lower

    def first_met(start: NDArray[Any], along: NDArray[Any]) -> NDArray[Any] | None:
        """The relief stands out by up to 1.2 to the side of smaller z."""
        for step in range(6000):
            x, y, z = start + along * (step * 0.001)
            if z >= -1.2 and abs(x) <= 3 and abs(y) <= 2.4 and -z <= height(x, y):
                return np.array((x, y, z))
        return None

    hidden = 0
    for i, j in product((4, 12, 20, 28), (4, 10, 16, 22, 28, 34)):
        across = (np.array((4 * j + 1.5, 4 * i + 1.5)) - (79.5, 63.5)) / FRONT.focal_px
        point = first_met(eye(FRONT), np.array((*across, 1.0)))
        assert point is not None
        cell = in_cells(seen_at(second, point[None]))
        way = point - eye(second)
        met = first_met(eye(second), way / np.linalg.norm(way))
        assert met is not None
        if not is_inside(cell)[0] or np.linalg.norm(met - point) > 0.05:
            hidden += 1
            assert found[0, :, i, j].isnan().all()
        else:
            assert np.abs(found[0, :, i, j].numpy() - cell[0]).max() < 0.05
    assert 2 < hidden < 22
