"""Contact sheet: a web page without scripts, to check pairs by eye."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from refsr.io.files import write_atomically
from refsr.pairs.selection import AlbumPhoto, BuildPlan

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Pairs</title>
<style>
body { font: 14px sans-serif; margin: 1em; background: #fff; color: #222 }
section { gap: 8px; margin: 0 0 1.2em; border-top: 1px solid #ccc; padding-top: 8px }
section.group { display: grid; grid-template-columns: repeat(6, minmax(0, 210px)) }
section.crops { display: inline-grid; grid-template-columns: repeat(2, 120px); margin-right: 16px; vertical-align: top }
figure { margin: 0 }
img { width: 100%; height: auto; display: block }
figcaption { overflow-wrap: anywhere; color: #555; font-size: 12px }
b { color: #222 }
</style>
"""


def contact_sheet(out: Path, photos: Sequence[AlbumPhoto], plan: BuildPlan) -> None:
    """Write OUT/index.html: all test groups and training pairs, with sources, levels and matches.

    Raises:
        OutputError: It cannot be written.
    """
    parts = [_HEAD, f"<h1>{len(plan.groups)} test groups, {len(plan.crops)} training pairs</h1>"]
    for number, group in enumerate(plan.groups):
        figures = [_figure(f"test/{number:03}_0.png", f"{number:03} truth", photos[group.truth].path)]
        figures += [
            _figure(
                f"test/{number:03}_{level}.png", f"level {level}, {overlap.matches} matches",
                photos[overlap.partner(group.truth)].path,
            )
            for level, overlap in group.references.items()
        ]  # fmt: skip
        parts += _section(figures)
    parts.append("<h2>Training: input, reference</h2>")
    for number, crop in enumerate(plan.crops):
        origin = f"{crop.overlap.matches} matches" if crop.overlap else "one photo"
        parts += _section(
            (
                _figure(f"train/input/{number:06}.png", f"{number:06}", photos[crop.first.photo].path),
                _figure(f"train/ref/{number:06}.png", origin, photos[crop.second.photo].path),
            ),
            "crops",
        )
    if plan.duplicates:
        parts.append("<h2>Left out as near-duplicates</h2><ul>")
        parts += [
            f"<li>{escape(photos[index].path)} (kept: {escape(photos[kept].path)})</li>"
            for index, kept in plan.duplicates.items()
        ]
        parts.append("</ul>")
    write_atomically(out / "index.html", "\n".join(parts).encode())


def _section(figures: Iterable[str], kind: str = "group") -> list[str]:
    return [f'<section class="{kind}">', *figures, "</section>"]


def _figure(file: str, title: str, source: str) -> str:
    return (
        f'<figure><a href="{file}"><img loading="lazy" src="{file}" alt="{escape(source)}"></a>'
        f"<figcaption><b>{escape(title)}</b><br>{escape(source)}</figcaption></figure>"
    )
