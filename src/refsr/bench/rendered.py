"""Views of textured surfaces of exactly known geometry, by ray casting: what a reference brings by angle and light.

    camera ── rays of a pixel ──> where they meet a surface ── texture x (sun, if nothing hides it, + sky) ──> view
    camera ── ray of a cell ────> where it meets a surface ── projected into another camera ──> true cells

Space has x to the right, y down and z away from a camera at 0 degrees, in any unit of length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

Vector = tuple[float, float, float]
Points = Float[Tensor, "n 3"]
Places = Float[Tensor, "n 2"]

_CELL_PX: Final = 4
_SAMPLES: Final = 3  # rays per pixel, along each axis
_RAYS_AT_ONCE: Final = 2**16  # few enough for a processor's cache
_GAMMA: Final = 2.2
_MARCHING_STEPS: Final = 48
_BISECTIONS: Final = 20
_OFFSET: Final = 1e-4  # from which a ray to the sun starts, so that it does not meet its own surface
_SAME_DEPTH: Final = 1e-3  # relative


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light from the sun and from the sky, in linear RGB; white that faces a sun of 1 without a sky is 1.

    Attributes:
        towards: Direction of the sun, of any length.
        sun: Light of the sun.
        sky: Brightness of the sky, which lights all surfaces evenly.
    """

    towards: Vector
    sun: Vector
    sky: Vector


NOON: Final = Light(towards=(-0.4, -0.8, -0.7), sun=(0.9, 0.9, 0.9), sky=(0.3, 0.3, 0.3))
EVENING: Final = Light(towards=(0.9, -0.35, -0.6), sun=(0.6, 0.38, 0.2), sky=(0.13, 0.13, 0.16))


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera that looks at the origin.

    Attributes:
        size_px: Height and width of its pictures.
        focal_px: Focal length.
        distance: From the origin.
        degrees: How far it has gone to the right, about the vertical axis.
        above_degrees: How far it is above the horizontal plane, seen from the origin.
    """

    size_px: tuple[int, int]
    focal_px: float
    distance: float
    degrees: float = 0.0
    above_degrees: float = 0.0

    @property
    def axes(self) -> Float[Tensor, "3 3"]:
        """Its directions right, down and forward in space, one a row."""
        turn, tilt = math.radians(self.degrees), math.radians(self.above_degrees)
        right = (math.cos(turn), 0.0, math.sin(turn))
        forward = (-math.sin(turn) * math.cos(tilt), math.sin(tilt), math.cos(turn) * math.cos(tilt))
        first, last = _vector(right), _vector(forward)
        return torch.stack((first, torch.linalg.cross(last, first), last))

    def rays(self, points_px: Places) -> tuple[Float[Tensor, " 3"], Points]:
        """Where the rays of pixels (x, y) start, and their directions, whose lengths are those of one unit of depth."""
        axes = self.axes
        across = (points_px.double() - self._centre_px) / self.focal_px
        return -self.distance * axes[2], F.pad(across, (0, 1), value=1.0) @ axes

    def project(self, points: Points) -> tuple[Places, Float[Tensor, " n"]]:
        """Pixels (x, y) and depths of points."""
        axes = self.axes
        seen = (points + self.distance * axes[2]) @ axes.T
        return seen[:, :2] / seen[:, 2:] * self.focal_px + self._centre_px, seen[:, 2]

    @property
    def _centre_px(self) -> Float[Tensor, " 2"]:
        height, width = self.size_px
        return torch.tensor((width - 1, height - 1)).double() / 2


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A textured rectangle in space, flat or with a relief.

    Attributes:
        texture: RGB 0..1.
        corner: Where the upper left corner of the texture lies.
        right: From there to its upper right corner.
        down: From there to its lower left corner.
        heights: How far nodes that span the rectangle stand out of it, to the side from which the texture is not
            mirrored; bilinear between them. None for a flat one.
    """

    texture: Float[Tensor, "1 3 _ _"]
    corner: Vector
    right: Vector
    down: Vector
    heights: Float[Tensor, "_ _"] | None = None

    @property
    def axes(self) -> Float[Tensor, "3 3"]:
        """Right, down, and the normal of length 1, one a row."""
        right, down = _vector(self.right), _vector(self.down)
        return torch.stack((right, down, F.normalize(torch.linalg.cross(down, right), dim=0)))

    def meet(self, start: Float[Tensor, "*n 3"], along: Points) -> tuple[Float[Tensor, " n"], Places]:
        """How far along rays the surface is, in lengths of their directions, infinite where they miss it; and the
        place in the texture, 0..1 to the right and down."""
        inverse = torch.linalg.inv(self.axes)
        start = ((start - _vector(self.corner)) @ inverse).expand_as(along)
        along = along @ inverse
        along = torch.where(along == 0, 1e-12, along)
        # The ray within the box that holds the surface: for a flat one, a single point.
        low, high = _vector((0.0, 0.0, 0.0)), _vector((1.0, 1.0, 0.0))
        if self.heights is not None:
            low[2], high[2] = self.heights.min() - _OFFSET, self.heights.max() + _OFFSET
        ends = torch.stack(((low - start) / along, (high - start) / along))
        enter, leave = ends.amin(0).amax(1), ends.amax(0).amin(1)
        if self.heights is None:
            distance = torch.where((enter > 0) & (enter <= leave), enter, torch.inf)
        else:
            distance = torch.full_like(enter, torch.inf)
            enter = enter.clamp_min(0)
            inside = enter < leave
            distance[inside] = self._march(*(each[inside] for each in (start, along, enter, leave)))
        return distance, (start + distance.nan_to_num(posinf=0.0)[:, None] * along)[:, :2]

    def _march(
        self, start: Points, along: Points, enter: Float[Tensor, " n"], leave: Float[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Where rays first cross the relief, infinite where they do not: in steps, then by bisection."""

        def has_crossed(rays: Int[Tensor, " k"], distance: Float[Tensor, " k"]) -> Bool[Tensor, " k"]:
            place = start[rays] + distance[:, None] * along[rays]
            return (place[:, 2] >= self._height(place[:, :2])) != began_above[rays]

        rest = torch.arange(len(enter))
        began_above = torch.zeros(len(enter), dtype=torch.bool)
        began_above = has_crossed(rest, enter)
        low, high = enter.clone(), torch.full_like(enter, torch.inf)
        for step in range(1, _MARCHING_STEPS + 1):
            distance = torch.lerp(enter[rest], leave[rest], step / _MARCHING_STEPS)
            crossed = has_crossed(rest, distance)
            high[rest[crossed]] = distance[crossed]
            rest = rest[~crossed]
            low[rest] = distance[~crossed]
        found = high.isfinite().nonzero()[:, 0]
        for _ in range(_BISECTIONS):
            middle = (low[found] + high[found]) / 2
            crossed = has_crossed(found, middle)
            high[found[crossed]] = middle[crossed]
            low[found[~crossed]] = middle[~crossed]
        return high

    def _height(self, places: Places) -> Float[Tensor, " n"]:
        assert self.heights is not None
        return _sampled(self.heights[None, None], places, through_nodes=True)[:, 0]

    def _slope(self, places: Places, step: Float[Tensor, " 2"]) -> Float[Tensor, " n"]:
        """Change of the height along a step, for a step of length 1."""
        before, after = (places - step).clamp_min(0), (places + step).clamp_max(1)
        return (self._height(after) - self._height(before)) / (after - before).sum(1)

    def normals(self, places: Places) -> Points:
        """Of length 1, on the side to which heights stand out."""
        right, down, out = self.axes.unbind()
        if self.heights is None:
            return out.expand(len(places), 3)
        step = torch.eye(2).double() / max(self.heights.shape)
        across, along = (self._slope(places, by) for by in step)
        normals = torch.linalg.cross(down + along[:, None] * out, right + across[:, None] * out)
        return F.normalize(normals, dim=1)

    def albedo(self, places: Places) -> Points:
        """Linear RGB of the texture."""
        linear: Tensor = _sampled(self.texture, places, through_nodes=False) ** _GAMMA
        return linear


def box(low: Vector, high: Vector, textures: Sequence[Float[Tensor, "1 3 _ _"]]) -> list[Surface]:
    """A box without a bottom.

    Args:
        low: Its left, upper, near corner.
        high: Its right, lower, far corner.
        textures: Of its front, right side, back, left side and top.
    """
    (x, y, z), (right, down, back) = low, [b - a for a, b in zip(low, high, strict=True)]
    upright, top = (0.0, down, 0.0), (0.0, 0.0, -back)
    faces: Sequence[tuple[Vector, Vector, Vector]] = (
        ((x, y, z), (right, 0.0, 0.0), upright),
        ((x + right, y, z), (0.0, 0.0, back), upright),
        ((x + right, y, z + back), (-right, 0.0, 0.0), upright),
        ((x, y, z + back), (0.0, 0.0, -back), upright),
        ((x, y, z + back), (right, 0.0, 0.0), top),
    )
    return [
        Surface(texture=texture, corner=corner, right=right, down=down)
        for texture, (corner, right, down) in zip(textures, faces, strict=True)
    ]


def render_view(surfaces: Sequence[Surface], camera: Camera, light: Light) -> Float[Tensor, "1 3 h w"]:
    """The picture that a camera takes, RGB 0..1: the mean light of each pixel."""
    height, width = camera.size_px
    y, x = ((torch.arange(side * _SAMPLES) + 0.5) / _SAMPLES - 0.5 for side in camera.size_px)
    parts = torch.split(torch.cartesian_prod(y, x).flip(1), _RAYS_AT_ONCE)
    seen = torch.cat([_seen(surfaces, light, *camera.rays(part)) for part in parts])
    pixels = reduce(seen, "(h i w j) c -> 1 c h w", "mean", h=height, w=width, i=_SAMPLES, j=_SAMPLES)
    return (pixels ** (1 / _GAMMA)).clamp(0, 1).float()


def _seen(surfaces: Sequence[Surface], light: Light, start: Float[Tensor, " 3"], along: Points) -> Points:
    """The light that comes along rays, in linear RGB."""
    distance, nearest, places = _trace(surfaces, start, along)
    towards = F.normalize(_vector(light.towards), dim=0)
    seen = _vector(light.sky).repeat(len(along), 1)
    for index, surface in enumerate(surfaces):
        here = (nearest == index) & distance.isfinite()
        normals = surface.normals(places[here])
        normals = -normals * (normals * along[here]).sum(1, keepdim=True).sign()  # of the side that is seen
        points = start + distance[here, None] * along[here] + _OFFSET * (normals + towards)
        is_lit = _trace(surfaces, points, towards.expand_as(points))[0].isinf()
        facing = (normals @ towards).clamp_min(0) * is_lit
        seen[here] = surface.albedo(places[here]) * (facing[:, None] * _vector(light.sun) + _vector(light.sky))
    return seen


def true_cells(surfaces: Sequence[Surface], first: Camera, second: Camera) -> Float[Tensor, "1 2 h w"]:
    """Position of each cell of 4x4 pixels of the first view in the second one.

    Returns:
        (y, x) in cells, cell (i, j) being centred at pixel (4 i + 1.5, 4 j + 1.5); NaN where it is hidden or outside.
    """
    height, width = (side // _CELL_PX for side in first.size_px)
    cells = torch.cartesian_prod(torch.arange(height), torch.arange(width)).flip(1)
    start, along = first.rays(cells * _CELL_PX + (_CELL_PX - 1) / 2)
    distance, _, _ = _trace(surfaces, start, along)
    points_px, depth = second.project(start + distance[:, None] * along)
    seen_depth, _, _ = _trace(surfaces, *second.rays(points_px.nan_to_num()))
    found = ((points_px - (_CELL_PX - 1) / 2) / _CELL_PX).round(decimals=6)  # so that the border itself is inside
    last = torch.tensor(second.size_px).flip(0) // _CELL_PX - 1
    known = ((found >= 0) & (found <= last)).all(1) & ((seen_depth - depth).abs() < _SAME_DEPTH * depth)
    found = found.masked_fill(~known[:, None], torch.nan).float()
    return found.flip(1).T.reshape(1, 2, height, width)


def _trace(
    surfaces: Sequence[Surface], start: Float[Tensor, "*n 3"], along: Points
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"], Places]:
    """How far along rays the first surface is, infinite without any; which one it is; and where in its texture."""
    distances, places = zip(*(surface.meet(start, along) for surface in surfaces), strict=True)
    distance, nearest = torch.stack(distances).min(0)
    return distance, nearest, torch.stack(places)[nearest, torch.arange(len(nearest))]


def _sampled(image: Float[Tensor, "1 c _ _"], places: Places, *, through_nodes: bool) -> Float[Tensor, "n c"]:
    """Bilinear values at places 0..1 of an image, which begins at the middle or at the edge of its first pixel."""
    grid = (2 * places - 1)[None, None].to(image)
    values: Tensor = F.grid_sample(image, grid, padding_mode="border", align_corners=through_nodes)[0, :, 0].T
    return values.double()


def _vector(values: Vector) -> Float[Tensor, " 3"]:
    return torch.tensor(values, dtype=torch.float64)
