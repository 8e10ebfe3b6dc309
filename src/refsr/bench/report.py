"""Report of results: report.md, plots and contact sheets of crops."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from refsr.bench.plots import plot_gain_by_score, plot_robustness, plot_time_by_size
from refsr.bench.results import Result
from refsr.bench.robust import UNCHANGED, RobustResult
from refsr.errors import UsageError
from refsr.io.files import make_folder, write_atomically
from refsr.io.photo import as_photo, read_photo, write_photo
from refsr.io.records import read_record
from refsr.wording import counted

_STRIPS_PER_SHEET: Final = 12
RESULTS: Final[dict[str, type[Result | RobustResult]]] = {"bench": Result, "robust": RobustResult}
"""Schemas of the files that a report is made of."""


def write_report(files: Sequence[Path], folder: Path) -> Path:
    """Write report.md and its pictures from JSON files of `refsr bench` and `refsr bench robust`.

    Returns:
        Path of report.md.

    Raises:
        UsageError: No file is given, or a file is damaged or of another kind.
        OutputError: The folder cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    if not files:
        raise UsageError("no result was named: give the JSON files that refsr bench wrote")
    results: dict[tuple[str, str, str], list[tuple[Path, Result]]] = defaultdict(list)
    robust: dict[str, list[RobustResult]] = defaultdict(list)
    for file in files:
        found = read_record(file, RESULTS)
        if isinstance(found, RobustResult):
            robust[found.dataset].append(found)
        else:
            results[found.dataset, found.protocol["name"], found.protocol["lr"]].append((file, found))
    make_folder(folder)
    parts = ["# Benchmark"]
    for (dataset, protocol, lr), loaded in results.items():
        parts += _dataset_part(folder, dataset, protocol, lr, loaded)
    for dataset, found_robust in robust.items():
        plot_robustness(found_robust, folder / f"robust_{dataset}.png")
        parts += [f"## {dataset}: changed references", *map(robust_table, found_robust)]
        parts.append(f"![gain against the strength of each change](robust_{dataset}.png)")
    report = folder / "report.md"
    write_atomically(report, ("\n\n".join(parts) + "\n").encode())
    return report


def results_table(results: Iterable[Result], *, memory: bool = True) -> str:
    """Markdown table with one row per result.

    Args:
        memory: Whether to show peak memory, which is meaningful where each result has a process of its own.
    """
    rows = []
    for result in results:
        found = result.summaries
        psnr, gain = found["psnr_db"], found["gain_db"]
        row = [
            result.model,
            result.protocol["references"],
            str(len(result.images)),
            f"{found['bicubic_db'].mean:.2f}",
            f"{psnr.mean:.2f} ({psnr.ci95[0]:.2f} to {psnr.ci95[1]:.2f})",
            f"{found['ssim'].mean:.4f}",
            f"{gain.mean:+.2f} ({gain.ci95[0]:+.2f} to {gain.ci95[1]:+.2f})",
            f"{gain.least:+.2f} / {gain.median:+.2f} / {gain.most:+.2f}",
            f"{found['lpips'].mean:.4f}" if "lpips" in found else "",
            f"{found['seconds'].mean:.2f}",
            f"{max(image.peak_memory_mib for image in result.images):.0f}",
        ]
        rows.append(row if memory else row[:-1])
    heads = ["model", "references", "pictures", "bicubic", "PSNR dB (95 %)", "SSIM", "gain dB (95 %)"]
    heads += ["gain least / median / most", "LPIPS", "s a picture", *(["peak MiB"] if memory else [])]
    return markdown_table(heads, rows)


def level_table(results: Iterable[Result]) -> str | None:
    """Markdown table of gain by level of similarity, one row per model; None where no level is known."""
    gains: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for image in result.images:
            if image.level and result.protocol["references"].startswith(("1", "level")):
                gains[result.model][image.level].append(image.gain_db)
    levels = sorted({level for found in gains.values() for level in found})
    if not levels:
        return None
    rows = [
        (model, *(f"{sum(found[n]) / len(found[n]):+.2f} ({len(found[n])})" if n in found else "" for n in levels))
        for model, found in gains.items()
    ]
    return markdown_table(("gain dB (pictures)", *(f"level {level}" for level in levels)), rows)


def robust_table(result: RobustResult) -> str:
    """Headline, and Markdown table with one row per change and strength."""
    mean, worst, name = result.unrelated_loss()
    unchanged = result.summary(UNCHANGED)
    head = (
        f"**{result.model}**, {counted(len(result.gains_db[UNCHANGED, 0.0]), 'picture')} (commit {result.commit}):"
        f" an unrelated reference costs {mean:.2f} dB against none, at worst {worst:.2f} dB ({name})."
        f" The unchanged reference gains {unchanged.mean:+.2f} dB."
    )
    rows = []
    for change, strength in result.gains_db:
        if change != UNCHANGED:
            found = result.summary(change, strength)
            kept = f"{100 * result.kept_share(change, strength):.0f} %" if unchanged.mean > 0 else ""
            rows.append((change, f"{strength:g}", f"{found.mean:+.2f}", f"{found.least:+.2f}", kept))
    return head + "\n\n" + markdown_table(("change", "strength", "mean gain dB", "least", "gain kept"), rows)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table in GitHub's Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _dataset_part(
    folder: Path, dataset: str, protocol: str, lr: str, loaded: Sequence[tuple[Path, Result]]
) -> list[str]:
    results = [result for _, result in loaded]
    degradation = lr.removeprefix("degraded: ")
    name = f"{dataset}_{protocol}" + (f"_{degradation}" if degradation != lr else "")
    scored = [result for result in results if result.figures("score")]
    if scored:
        plot_gain_by_score(scored, folder / f"gain_{name}.png")
    plot_time_by_size(results, folder / f"time_{name}.png")
    about = results[0].protocol
    parts = [f"## {dataset}, protocol {protocol}"]
    parts.append(f"{about['about']}; {about['scale']}x; LR: {lr}. Mean of the pictures' own figures.")
    parts.append(results_table(results))
    levels = level_table(results)
    if levels:
        parts.append(levels)
    parts += [f"![gain against score](gain_{name}.png)"] if scored else []
    parts.append(f"![time against size](time_{name}.png)")
    for file, result in loaded:
        parts += [f"Skipped by {result.label}: {skipped.name}: {skipped.reason}." for skipped in result.skipped]
        sheets = _contact_sheets(folder, f"crops_{file.stem}", file, result)
        parts += [f"{result.label}, where the references changed most:\n\n![crops]({sheet})" for sheet in sheets]
    commits = sorted({f"{r.commit}" for r in results})
    versions = ", ".join(f"{key} {value}" for key, value in results[0].versions.items())
    parts.append(f"Commit {', '.join(commits)}; {versions}.")
    return parts


def _contact_sheets(folder: Path, name: str, file: Path, result: Result) -> list[str]:
    """Write the strips of crops, a dozen per sheet; names of the sheets."""
    strips = [file.parent / image.crops for image in result.images if image.crops]
    strips = [strip for strip in strips if strip.is_file()]
    sheets = []
    for start in range(0, len(strips), _STRIPS_PER_SHEET):
        pictures = [read_photo(strip).to_pil() for strip in strips[start : start + _STRIPS_PER_SHEET]]
        sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
        for place, picture in enumerate(pictures):
            sheet.paste(picture, (0, sum(above.height for above in pictures[:place])))
        sheets.append(f"{name}_{start // _STRIPS_PER_SHEET + 1}.png")
        write_photo(folder / sheets[-1], as_photo(sheet))
    return sheets
