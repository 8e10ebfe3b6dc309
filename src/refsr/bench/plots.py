"""Plots of results as PNG files, by matplotlib (extra)."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsr.bench.results import Result
from refsr.bench.robust import CHANGES, UNCHANGED, UNRELATED, RobustResult
from refsr.bench.speed import SpeedResult
from refsr.extras import import_extra
from refsr.io.files import write_atomically
from refsr.wording import counted


def plot_gain_by_score(results: Sequence[Result], path: Path) -> None:
    """Write a scatter plot of gain in dB over the mean score of the match, one dot per picture."""
    figure, (axes,) = _figure(1, 1)
    for result in results:
        pairs = [(image.score, image.gain_db) for image in result.images if image.score is not None]
        axes.scatter(*zip(*pairs, strict=True), s=14, alpha=0.7, label=result.label)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="mean cosine of the match", ylabel="gain over no reference (dB)", title=results[0].dataset)
    _save(figure, axes, path)


def plot_time_by_size(results: Sequence[Result], path: Path) -> None:
    """Write a scatter plot of seconds over megapixels of the result, one dot per picture."""
    figure, (axes,) = _figure(1, 1)
    for result in results:
        megapixels = [image.size_px[0] * image.size_px[1] / 1e6 for image in result.images]
        axes.scatter(megapixels, [image.seconds for image in result.images], s=14, alpha=0.7, label=result.label)
    _time_over_size(axes, results[0].dataset)
    _save(figure, axes, path)


def plot_robustness(results: Sequence[RobustResult], path: Path) -> None:
    """Write one panel per change: mean gain with its 95 % confidence interval over the strength of the change.

    The dashed line is the gain of the unchanged reference; the last panel shows gains of unrelated references.
    """
    figure, panels = _figure(2, 4)
    for axes, change in zip(panels, CHANGES, strict=False):
        for result in results:
            strengths = sorted(s for name, s in result.gains_db if name == change.name)
            points = [(s, result.summary(change.name, s)) for s in strengths]
            if change.unchanged is not None:
                points = sorted([*points, (change.unchanged, result.summary(UNCHANGED))], key=lambda point: point[0])
            x = [strength for strength, _ in points]
            mean = np.array([found.mean for _, found in points])
            low, high = np.array([found.ci95 for _, found in points]).T
            line = axes.errorbar(
                x, mean, (mean - low, high - mean), marker="o", markersize=3, capsize=2, label=result.model
            )
            axes.axhline(result.summary(UNCHANGED).mean, color=line[0].get_color(), linestyle="--", linewidth=0.8)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=change.name, ylabel="gain (dB)")
        if change.unchanged is None:
            axes.invert_xaxis()
    limits = [axes.get_ylim() for axes in panels[: len(CHANGES)]]
    for axes in panels[: len(CHANGES)]:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes = panels[len(CHANGES)]
    for place, result in enumerate(results):
        losses = sorted(result.gains_db[UNRELATED, 0.0].values())
        axes.plot(losses, np.linspace(0, 1, len(losses)), marker="o", markersize=3, label=f"{place}: {result.model}")
    axes.set(xlabel="gain with an unrelated reference (dB)", ylabel="share of pictures below")
    _save(figure, panels[0], path)


def plot_speed(result: SpeedResult, path: Path) -> None:
    """Write a plot of seconds over megapixels: one line per series of cases, labelled with its slope."""
    figure, (axes,) = _figure(1, 1)
    measured = [m for m in result.measurements if m.refused is None]
    for series in dict.fromkeys(m.series for m in measured):
        references, engine, precision, threads = series
        label = f"{counted(references, 'reference')}, {engine}, {precision}, {counted(threads, 'thread')}"
        label += f": slope {result.slope(*series):.2f}"
        points = [(m.megapixels, m.seconds) for m in measured if m.series == series]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    _time_over_size(axes, result.model)
    _save(figure, axes, path)


def _figure(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """A figure without a window, and its axes in reading order."""
    import_extra("matplotlib", "plotting")
    from matplotlib.figure import Figure

    width, height = (6.4 if columns == 1 else 3.4 * columns), (4.2 if rows == 1 else 3 * rows)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns)).flat)


def _time_over_size(axes: Any, title: str) -> None:
    axes.set(xlabel="size of the result (megapixels)", ylabel="seconds", title=title, xscale="log", yscale="log")


def _save(figure: Any, legend_axes: Any, path: Path) -> None:
    legend_axes.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
