"""Render the bundled sample: a room's corner with posters, seen from two places in different light.

    pip install scikit-image
    python scripts/make_sample.py

The textures are photographs that scikit-image ships and that are in the public domain or under CC0: brick, gravel
and grass (CC0Textures), astronaut (NASA), coffee (Pikolo Espresso Bar, CC0), cat (Stefan van der Walt, CC0).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

OUT = Path(__file__).parent.parent / "src" / "refsr" / "assets"
WIDTH, HEIGHT, SUPERSAMPLE = 720, 540, 4


def texture(pixels, tint=(1.0, 1.0, 1.0), repeat=(1, 1)):
    rgb = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels
    rgb = np.tile(rgb, (*repeat, 1)).astype(np.float32) / 255 * np.array(tint, dtype=np.float32)
    return torch.from_numpy(rgb).permute(2, 0, 1)[None]


# Rectangles: corner, edge along the texture's x, edge along its y (x right, y down, z away), picture.
BRICK, GRAVEL, GRASS = np.rot90(data.brick()), data.gravel(), data.grass()
SCENE = [
    ((-3, -2, 4), (6, 0, 0), (0, 3, 0), texture(BRICK, (1.0, 0.72, 0.6), (1, 2))),
    ((-3, -2, 0), (0, 0, 4), (0, 3, 0), texture(BRICK, (0.9, 0.85, 0.7))),
    ((-3, 1, 0), (6, 0, 0), (0, 0, 4), texture(GRAVEL, (0.95, 0.95, 1.0), (1, 2))),
    ((-1.9, -1.45, 3.98), (1.6, 0, 0), (0, 1.6, 0), texture(data.astronaut())),
    ((0.0, -1.2, 3.98), (1.7, 0, 0), (0, 1.13, 0), texture(data.coffee())),
    ((-2.98, -1.2, 1.9), (0, 0, 1.6), (0, 1.07, 0), texture(data.chelsea())),
    ((-0.6, 0.15, 3.0), (1.3, 0, 0), (0, 0.85, 0), texture(GRASS, (0.75, 1.0, 0.6))),
    ((-0.6, 0.15, 3.0), (1.3, 0, 0), (0, 0, 0.7), texture(GRAVEL, (1.0, 0.9, 0.75))),
    ((0.7, 0.15, 3.0), (0, 0, 0.7), (0, 0.85, 0), texture(GRASS, (0.6, 0.9, 0.5))),
]


def render(eye, target, focal_px, gain, gamma):
    """Trace one ray a sample: the nearest rectangle that it hits gives the colour."""
    height, width = HEIGHT * SUPERSAMPLE, WIDTH * SUPERSAMPLE
    eye, target = (np.array(point, dtype=np.float64) for point in (eye, target))
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(np.array([0, 1.0, 0]), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    scale = focal_px * SUPERSAMPLE
    rays = forward + x[..., None] / scale * right + y[..., None] / scale * down
    nearest = np.full((height, width), np.inf)
    colour = torch.full((3, height, width), 0.75)
    for *rectangle, picture in SCENE:
        corner, along, across = (np.array(v, dtype=np.float64) for v in rectangle)
        normal = np.cross(along, across)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((corner - eye) @ normal) / (rays @ normal)
        hit = eye + distance[..., None] * rays - corner
        u, v = (hit @ edge / (edge @ edge) for edge in (along, across))
        seen = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1) & (distance > 1e-6) & (distance < nearest)
        nearest[seen] = distance[seen]
        grid = torch.from_numpy(np.stack((u, v), -1)[seen] * 2 - 1).float()[None, None]
        sampled = F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
        colour[:, torch.from_numpy(seen)] = sampled[0, :, 0]
    # Average the samples as light, then store as sRGB would, with the exposure of that day.
    light = F.avg_pool2d(colour[None] ** 2.2, SUPERSAMPLE)[0] * torch.tensor(gain).view(3, 1, 1)
    return (light.clamp(0, 1) ** (gamma / 2.2) * 255).round().byte().permute(1, 2, 0).numpy()


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    views = {
        "truth": render((0.35, -0.35, 0.2), (-0.6, -0.25, 4), 470, (1.0, 1.0, 1.0), 1.0),
        "reference": render((-0.55, -0.55, 0.75), (-0.35, -0.3, 4), 500, (1.1, 0.98, 0.85), 0.95),
    }
    for name, pixels in views.items():
        Image.fromarray(pixels).save(OUT / f"{name}.webp", quality=94, method=6)
