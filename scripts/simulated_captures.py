"""How well `refsr triples` registers: captures of photographs, simulated with known geometry.

    python scripts/simulated_captures.py PHOTOS [--limit 40] [--wrong 50]

photo ── turned, shifted, a lens ── exposure, noise, JPEG ──> sharp capture
      └─ turned, shifted, another lens, a quarter of the size or blurred ── exposure, noise, JPEG ──> blurry capture

Prints the error of the map against the known one, in LR pixels, and how many pairs of different photos are accepted.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from refsr.data.features import describe
from refsr.data.geometry import project, rotation, translation
from refsr.data.register import Registered, register, relate
from refsr.degrade import Degradation, degrade
from refsr.errors import ImageError
from refsr.io.listing import list_photos
from refsr.io.photo import Photo, read_photo
from refsr.restore.condition import measure_condition

MINIMUM_PX = 700
MAXIMUM_ERROR_PX = 0.3


@dataclass(frozen=True, kw_only=True)
class Camera:
    """From the pixels of a capture to those of the photograph: a lens, then a homography.

    Attributes:
        size_px: Height and width of the capture.
        homography: After the lens.
        bend: Radial distortion, of the half diagonal.
    """

    size_px: tuple[int, int]
    homography: NDArray[np.float64]
    bend: float

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x, y) in the photograph of points (n, 2) of the capture."""
        middle = (np.array(self.size_px[::-1]) - 1) / 2
        away = (points - middle) / np.hypot(*middle)
        bent = points + away * (self.bend * (away**2).sum(1, keepdims=True)) * np.hypot(*middle)
        return project(self.homography, bent)


def random_camera(photo_px: tuple[int, int], zoom: float, rng: np.random.Generator) -> Camera:
    """A camera that sees about four fifths of the photograph, with `zoom` photo pixels for one of its own."""
    height, width = (round(0.8 * side / zoom) for side in photo_px)
    middle, seen = (np.array((width, height)) - 1) / 2, (np.array(photo_px[::-1]) - 1) / 2
    turned = np.eye(3)
    turned[:2, :2] = zoom * rotation(rng.uniform(-4, 4))
    turned[2, :2] = rng.uniform(-0.02, 0.02, 2) / width
    shift = rng.uniform(-0.03, 0.03, 2) * photo_px[::-1]
    whole = translation(seen + shift) @ turned @ translation(-middle)
    return Camera(size_px=(height, width), homography=whole, bend=rng.uniform(-0.03, 0.03))


def capture(photo: NDArray[np.uint8], camera: Camera, blur_px: float, noise: float, rng: np.random.Generator) -> Photo:
    """What a camera makes of a photograph."""
    height, width = camera.size_px
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    places = camera.places(np.stack((x.ravel(), y.ravel()), 1)).reshape(height, width, 2).astype(np.float32)
    density = float(np.sqrt(abs(np.linalg.det(camera.homography[:2, :2]))))
    smooth = cv2.GaussianBlur(photo, (0, 0), 0.45 * density) if density > 1.2 else photo
    seen = cv2.remap(smooth, places[..., 0], places[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    pixels = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None].float() / 255
    exposed = (pixels.clamp(0, 1) ** float(rng.uniform(0.9, 1.1)) * float(rng.uniform(0.8, 1.0))).clamp(0, 1)
    blur: dict[str, Any] = {"blur": "gaussian", "blur_px": blur_px} if blur_px else {}
    harm = Degradation(
        **blur,
        shot=noise,
        read=noise / 4,
        noise_seed=int(rng.integers(1000)),
        codec="jpeg",
        quality=92,
        subsampled=True,
    )
    return Photo(pixels=degrade(exposed, [harm], 1))


def errors_px(found: Registered, sharp: Camera, blurry: Camera) -> NDArray[np.float64]:
    """Error of the map at each LR pixel, in LR pixels: both captures must see one place of the photograph there."""
    height, width = found.lr.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    points = np.stack((x.ravel(), y.ravel()), 1)
    seen = blurry.places(project(found.to_blurry, points))
    step = np.hypot(*(blurry.places(project(found.to_blurry, points + np.array((1.0, 0.0)))) - seen).T)
    return np.hypot(*(seen - sharp.places(found.map_px.reshape(2, -1).T.astype(np.float64))).T) / step


def captures_of(path: Path, number: int) -> tuple[Photo, Photo, Camera, Camera]:
    """A sharp capture of a photograph and a blurry one, with their cameras; every other one is distant, not blurred."""
    rng = np.random.default_rng(number)
    photo = np.ascontiguousarray(np.asarray(read_photo(path).to_pil().convert("RGB")))
    is_distant = number % 2 == 0
    cameras = [random_camera(photo.shape[:2], zoom, rng) for zoom in (1.0, 3.2 if is_distant else 1.0)]
    blur_px, noise = 0.0 if is_distant else float(rng.uniform(3, 7)), float(rng.choice((2e-4, 2e-3)))
    captured = capture(photo, cameras[0], 0.0, 1e-4, rng), capture(photo, cameras[1], blur_px, noise, rng)
    return *captured, *cameras


def registered(sharp: Photo, blurry: Photo) -> Registered:
    """Two captures registered.

    Raises:
        ImageError: They are not, for the reason that it names.
    """
    first, second = (photo.to_pil().convert("RGB") for photo in (sharp, blurry))
    described = [describe(fitted(image), image.size[::-1]) for image in (first, second)]
    relation = None if described[0] is None or described[1] is None else relate(described[1], described[0])
    if relation is None:
        raise ImageError("too few features match")
    return register(np.asarray(first), np.asarray(second), relation, measure_condition(sharp.pixels).blur_px)


def fitted(image: Image.Image) -> Image.Image:
    """The working copy, of a long side of 1024 pixels at most."""
    copy = image.copy()
    copy.thumbnail((1024, 1024))
    return copy


def main(arguments: Sequence[str]) -> None:
    """Simulate, register, and print figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--wrong", type=int, default=50)
    options = parser.parse_args(arguments)
    paths = [path for path in list_photos(options.photos) if min(read_photo(path).size_px) >= MINIMUM_PX]
    paths = paths[:: max(1, len(paths) // options.limit)][: options.limit]
    captures, shares = [captures_of(path, number) for number, path in enumerate(paths)], []
    for path, (sharp, blurry, *cameras) in zip(paths, captures, strict=True):
        try:
            found = registered(sharp, blurry)
        except ImageError as error:
            print(f"{path.name}: {error}")
            continue
        errors = errors_px(found, *cameras)
        shares.append((errors < MAXIMUM_ERROR_PX).mean())
        print(
            f"{path.name}: {found.lr.shape[1]}x{found.lr.shape[0]}, kept {found.agreed:.0%}, error"
            f" {np.median(errors):.2f} px, {np.percentile(errors, 95):.2f} at the 95th percentile,"
            f" residual {found.residual_px:.2f}, colour {found.colour_levels:.1f}"
        )
    good = np.array(shares) >= 0.95
    print(f"{len(good)} of {len(paths)} accepted; {good.mean():.0%} of these below 0.3 px at 95 % of their pixels")
    rng, taken = np.random.default_rng(0), 0
    for _ in range(options.wrong):
        a, b = rng.choice(len(captures), 2, replace=False)
        with suppress(ImageError):
            registered(captures[a][0], captures[b][1])
            taken += 1
    print(f"{taken} of {options.wrong} wrong pairs accepted")


if __name__ == "__main__":
    main(sys.argv[1:])
