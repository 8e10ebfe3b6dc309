"""What a reference brings by angle and light: `python scripts/angle_and_light.py TEXTURES -o OUT.json [--limit 3]`

Six rendered scenes, two each of facades, boxes and reliefs, textured with photographs of a folder: the view at 0
degrees at noon is reduced to a fourth, and restored with other views of the scene. For each angle and light: the mean
gain over no reference (PSNR on luma), the gain that the true place of each shown cell would bring, the share of cells
that the reference shows, and the shares of these that are found within 0.25, 1 and 2 cells of their true place.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refsr.bench.match_figures import WITHIN_CELLS
from refsr.bench.matches import cells_of, corrected, shares_within
from refsr.bench.metrics import psnr_db
from refsr.bench.rendered import EVENING, NOON, Camera, Surface, box, render_view, true_cells
from refsr.io.listing import list_photos
from refsr.io.photo import Photo, as_photo
from refsr.io.records import write_record
from refsr.models import RefSRModel, load_model
from refsr.references.pose import find_pose
from refsr.references.variants import transform
from refsr.resize import downscale_bicubic, stored, upscale_bicubic
from refsr.restore.pipeline import encode, match, transfer
from refsr.restore.upscale import upscale

TEXTURE_PX = (400, 600)
TILE_PX = 200
PART_PX = 50
MINIMUM_DETAIL = 4 / 255
"""Mean difference that reducing a texture to a fourth makes in half of its parts: smooth ones tell nothing."""

CAMERA = Camera(size_px=(384, 512), focal_px=600.0, distance=8.0, above_degrees=8.0)
LIGHTS = {"noon": NOON, "evening": EVENING}
REFERENCES = [("noon", float(degrees)) for degrees in range(0, 61, 10)] + [("evening", 0.0), ("evening", 20.0)]
KINDS = ("facades", "boxes", "relief")


def main() -> None:
    """Measure, print the table, write the figures of each scene."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("textures", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--weights", default="default", help="a file, or the name of weights that ship")
    parser.add_argument("--limit", type=int, default=6, help="number of scenes")
    arguments = parser.parse_args()
    model = load_model(arguments.weights, device="cpu")
    begun, rows = time.perf_counter(), []
    textures = read_textures(arguments.textures)
    for number in range(arguments.limit):
        kind = KINDS[number % len(KINDS)]
        scene = build_scene(kind, textures, torch.Generator().manual_seed(number))
        for row in measure(model, scene):
            rows.append({"scene": number, "kind": kind, **row})
            print(rows[-1], flush=True)
    print_table(rows)
    print(f"{time.perf_counter() - begun:.0f} s")
    write_record(arguments.out, "angle_and_light", {"weights": model.digest(), "rows": rows})


def read_textures(folder: Path) -> Iterator[Tensor]:
    """The middles of detailed photographs, in the order of their names."""
    height, width = TEXTURE_PX
    for path in list_photos(folder):
        pixels = as_photo(path).pixels
        top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
        if min(top, left) < 0:
            continue
        texture = pixels[..., top : top + height, left : left + width]
        lost = texture - upscale_bicubic(downscale_bicubic(texture, 4), 4)
        if F.avg_pool2d(lost.abs().mean(1), PART_PX).median() > MINIMUM_DETAIL:
            yield texture


def build_scene(kind: str, textures: Iterator[Tensor], random: torch.Generator) -> list[Surface]:
    """A wall behind the origin, and what stands in front of it or out of it."""
    if kind == "relief":
        nodes = torch.randn((1, 1, 6, 18), generator=random)
        heights = 0.25 * F.interpolate(nodes, scale_factor=16, mode="bicubic")[0, 0]
        return [replace(_wall(textures, depth=0.5), heights=heights)]
    if kind == "facades":
        return [_wall(textures, depth=2.0), *(_house(next(textures), place, random) for place in (-1.8, 1.6))]
    ground = Surface(
        texture=_mosaic(textures, 3, 3), corner=(-9.0, 1.6, 5.0), right=(18.0, 0.0, 0.0), down=(0.0, 0.0, -12.0)
    )
    boxes = [each for place in (-2.2, 0.2, 2.4) for each in _box(next(textures), place, random)]
    return [_wall(textures, depth=5.0), ground, *boxes]


def _wall(textures: Iterator[Tensor], depth: float) -> Surface:
    return Surface(
        texture=_mosaic(textures, 2, 4), corner=(-14.0, -4.0, depth), right=(24.0, 0.0, 0.0), down=(0.0, 8.0, 0.0)
    )


def _mosaic(textures: Iterator[Tensor], rows: int, columns: int) -> Tensor:
    return torch.cat([torch.cat([next(textures) for _ in range(columns)], -1) for _ in range(rows)], -2)


def _house(texture: Tensor, place: float, random: torch.Generator) -> Surface:
    """The front of one, somewhat turned."""
    turn, depth = _between(-0.6, 0.6, random), _between(-1.0, 0.8, random)
    return Surface(
        texture=texture[..., 180:420], corner=(place - 1.2, -1.5, depth), right=(2.4, 0.0, turn), down=(0.0, 4.0, 0.0)
    )


def _box(texture: Tensor, place: float, random: torch.Generator) -> list[Surface]:
    """A cube on the ground, with other parts of a texture on each side."""
    left, near = place - 0.9 + _between(-0.2, 0.2, random), _between(-1.5, 2.0, random)
    top = _between(-0.4, 0.2, random)
    tiles = [tile for row in torch.split(texture, TILE_PX, -2) for tile in torch.split(row, TILE_PX, -1)]
    return box((left, top, near), (left + 1.8, 1.6, near + 1.8), tiles[:5])


def _between(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=random).item()


def measure(model: RefSRModel, scene: Sequence[Surface]) -> Iterator[dict[str, Any]]:
    """Gain and shares of each reference of a scene."""
    truth = stored(render_view(scene, CAMERA, NOON))
    lr = stored(downscale_bicubic(truth, model.scale))
    alone_db = psnr_db(upscale(Photo(pixels=lr), model=model, provenance=False).photo.pixels, truth).item()
    for light, degrees in REFERENCES:
        camera = replace(CAMERA, degrees=degrees)
        ref = stored(render_view(scene, camera, LIGHTS[light]))
        true = true_cells(scene, CAMERA, camera)
        helped = upscale(Photo(pixels=lr), [Photo(pixels=ref)], model=model, provenance=False)
        yield {
            "light": light,
            "degrees": degrees,
            "alone_db": alone_db,
            "gain_db": psnr_db(helped.photo.pixels, truth).item() - alone_db,
            "shown": true[:, 0].isfinite().float().mean().item(),
            **found(model, lr, ref, true, truth, alone_db),
        }


def found(model: RefSRModel, lr: Tensor, ref: Tensor, true: Tensor, truth: Tensor, alone_db: float) -> dict[str, Any]:
    """Shares of the cells (y, x) of a reference that are found where they are, as `upscale` looks for them; and the
    gain with all of them where they are."""
    with torch.inference_mode():
        pose = find_pose(model, lr, ref)
        if pose is None:
            return {"within": (0.0,) * len(WITHIN_CELLS), "true_gain_db": 0.0}
        posed = transform(ref, 0, pose.scale, pose.degrees)
        matched = match(model, encode(model, lr, [posed.image]))
        aligned = model.fields(lr, matched.values, matched.matches[0], matched.fields[0])[-1]
        true_px = true[0] * model.cell_px + (model.cell_px - 1) / 2
        true_cells = cells_of(true_px, posed.origin, model.cell_px)
        best = transfer(model, matched, [corrected(aligned, true_cells)]).clamp(0, 1)
    shares = shares_within(aligned.field.position_cells[0], true_cells) or ()
    return {"within": shares, "true_gain_db": psnr_db(best, truth).item() - alone_db}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Means over the scenes."""
    print("| light | degrees | gain (dB) | with true places | shown | within 0.25 | 1 | 2 cells |")
    print("|---|---|---|---|---|---|---|---|")
    for light, degrees in REFERENCES:
        these = [row for row in rows if (row["light"], row["degrees"]) == (light, degrees)]
        shares = [
            mean(row["within"][index] for row in these)
            for index in (WITHIN_CELLS.index(limit) for limit in (0.25, 1.0, 2.0))
        ]
        figures = [mean(row["shown"] for row in these), *shares]
        gain, best = (mean(row[key] for row in these) for key in ("gain_db", "true_gain_db"))
        cells = [f"{gain:+.2f}", f"{best:+.2f}", *(f"{share:.3f}" for share in figures)]
        print(f"| {light} | {degrees:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
