"""What a reference brings by fit and angle: `python scripts/fit_and_gain.py SCENES -o OUT.json [--plot OUT.png]`

SCENES holds a folder for each scene, with two views or more. The first view, reduced to a fourth, is restored with
each of the others, and with one of the next scene, which shows other things: in the pose that fits best, however badly
it fits. For each range of the fit, and of the angle between the views: the number of references and their gains over no
reference (PSNR on luma). The bounds below which references are refused rest on this. The angle is the rotation of the
essential matrix through the matches of local features, for a lens of ordinary width; near enough for a table.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from refsr.bench.metrics import psnr_db
from refsr.data.features import detect, mutual_matches
from refsr.extras import import_extra
from refsr.io.listing import list_photos
from refsr.io.photo import as_photo
from refsr.io.records import write_record
from refsr.models import RefSRModel, load_model
from refsr.references.pose import Poses
from refsr.references.variants import transform
from refsr.resize import downscale_bicubic, stored
from refsr.restore.pipeline import Matched, encode, match, transfer

FIT_BOUNDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4, 1.0)
DEGREES_BOUNDS = (0.0, 5.0, 10.0, 20.0, 40.0, 180.0)

FOCAL_LENGTHS = 1.2  # of the longer side
MINIMUM_MATCHES = 30
TOLERANCE_PX = 1.5
LARGEST_PX = 2**16  # photos are not reduced


def main() -> None:
    """Measure, print the table, write the figures, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--weights", default="default", help="a file, or the name of weights that ship")
    parser.add_argument("--limit", type=int, default=60, help="number of scenes, evenly spread")
    arguments = parser.parse_args()
    model = load_model(arguments.weights, device="cpu")
    begun, rows = time.perf_counter(), []
    scenes = [views for folder in sorted(arguments.scenes.iterdir()) if len(views := list_photos(folder)) > 1]
    for number in range(0, len(scenes), max(1, len(scenes) // arguments.limit)):
        for row in measure(model, scenes[number], scenes[(number + 1) % len(scenes)]):
            rows.append(row)
            print(row, flush=True)
    print_table(rows)
    print(f"{time.perf_counter() - begun:.0f} s")
    write_record(arguments.out, "fit_and_gain", {"weights": model.digest(), "rows": rows})
    if arguments.plot:
        plot(rows, arguments.plot)


def measure(model: RefSRModel, scene: Sequence[Path], other: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Fit and gain of the other views of a scene, and of a view of another one."""
    photo = as_photo(scene[0]).pixels
    height, width = (side // model.scale * model.scale for side in photo.shape[-2:])
    truth = photo[..., :height, :width]
    lr = stored(downscale_bicubic(truth, model.scale))
    with torch.inference_mode():
        alone_db = psnr_db(transfer(model, Matched(lr=lr)).clamp(0, 1), truth).item()
        for path in (*scene[1:], other[0]):
            ref = as_photo(path).pixels
            pose = Poses(model, lr, ref).best()
            posed = transform(ref, 0, pose.scale, pose.degrees)
            helped = transfer(model, match(model, encode(model, lr, [posed.image]))).clamp(0, 1)
            yield {
                "photo": "/".join(scene[0].parts[-2:]),
                "reference": "/".join(path.parts[-2:]),
                "unrelated": path is other[0],
                "degrees": None if path is other[0] else degrees_between(scene[0], path),
                "fit": pose.fit,
                "gain_db": psnr_db(helped, truth).item() - alone_db,
            }


def degrees_between(first: Path, second: Path) -> float | None:
    """Angle between two views; None where too few features match to tell."""
    cv2 = import_extra("cv2", "the angle between views")
    points = mutual_matches(detect(first, LARGEST_PX), detect(second, LARGEST_PX))
    if len(points[0]) < MINIMUM_MATCHES:
        return None
    height, width = as_photo(first).pixels.shape[-2:]
    focal_px = FOCAL_LENGTHS * max(height, width)
    camera = np.array(((focal_px, 0, width / 2), (0, focal_px, height / 2), (0, 0, 1)))
    a, b = (np.asarray(each, np.float64) for each in points)
    cv2.setRNGSeed(0)
    essential, inliers = cv2.findEssentialMat(a, b, camera, cv2.RANSAC, 0.999, TOLERANCE_PX)
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, _, _ = cv2.recoverPose(essential, a, b, camera, mask=inliers)
    return math.degrees(math.acos(min(1.0, max(-1.0, (np.trace(rotation) - 1) / 2))))


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """References and gains in each range of the fit, and of the angle."""
    print("| fit | other views | mean gain (dB) | least | most | unrelated | mean gain (dB) | least |")
    print("|---|---|---|---|---|---|---|---|")
    for low, high in pairwise(FIT_BOUNDS):
        these = [row for row in rows if low <= max(row["fit"], 0.0) < high]
        views, others = ([row for row in these if row["unrelated"] == unrelated] for unrelated in (False, True))
        print(f"| {low:g} to {high:g} | {gains(views)} | {gains(others).rpartition(' | ')[0]} |")
    print("| degrees | other views | mean gain (dB) | least | most |")
    print("|---|---|---|---|---|")
    views = [row for row in rows if not row["unrelated"]]
    for low, high in pairwise(DEGREES_BOUNDS):
        print(
            f"| {low:g} to {high:g} |"
            f" {gains([row for row in views if row['degrees'] is not None and low <= row['degrees'] < high])} |"
        )
    print(f"| not known | {gains([row for row in views if row['degrees'] is None])} |")


def gains(rows: Sequence[dict[str, Any]]) -> str:
    """Number, mean, least and most, as cells of a table."""
    found = [row["gain_db"] for row in rows]
    return " | ".join((str(len(found)), *(f"{of(found):+.2f}" if found else "" for of in (mean, min, max))))


def plot(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Gain against fit."""
    pyplot = import_extra("matplotlib.pyplot", "plots")
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for unrelated, name, colour in ((False, "other views", "tab:blue"), (True, "unrelated", "tab:red")):
        these = [row for row in rows if row["unrelated"] == unrelated]
        fits = [max(row["fit"], 1e-3) for row in these]
        axes.scatter(fits, [row["gain_db"] for row in these], s=12, color=colour, label=name)
    axes.set(xscale="log", xlabel="fit of the reference", ylabel="gain over no reference (dB)")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.legend()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
