"""Paired comparison of two results, with confidence intervals."""

from dataclasses import dataclass

from rich.table import Table

from refsr.bench.results import Result, Summary, summarise
from refsr.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of one metric, second result minus first, over the pictures that both have.

    Attributes:
        difference: Summary of the pairwise differences; significant where its confidence interval excludes zero.
        higher: Count of pictures in which the second is higher.
    """

    metric: str
    first: float
    second: float
    difference: Summary
    higher: int
    count: int


def compare(first: Result, second: Result) -> list[Difference]:
    """Compare two results in every metric that both have.

    Raises:
        UsageError: The results share no picture, or differ in data set, protocol, scale or LR images.
    """
    _check_comparable(first, second)
    found = []
    for metric in ("psnr_db", "ssim", "gain_db", "lpips", "seconds"):
        a, b = first.figures(metric), second.figures(metric)
        names = sorted(a.keys() & b.keys())
        if not names:
            continue
        pairs = [b[name] - a[name] for name in names]
        found.append(
            Difference(
                metric=metric,
                first=sum(a[name] for name in names) / len(names),
                second=sum(b[name] for name in names) / len(names),
                difference=summarise(pairs),
                higher=sum(pair > 0 for pair in pairs),
                count=len(names),
            )
        )
    if not found:
        raise UsageError("the two results share no picture: measure the same data set")
    return found


def _check_comparable(first: Result, second: Result) -> None:
    """Refuse results that differ in data set, protocol, scale or LR images."""
    settings = [{"data set": result.dataset} | result.protocol for result in (first, second)]
    for name in ("data set", "name", "scale", "lr"):
        a, b = (each.get(name) for each in settings)
        if a != b:
            raise UsageError(f"the results differ in their {name}, {a!r} and {b!r}: measure both alike")


def comparison_table(first: Result, second: Result) -> Table:
    """Comparison of two results for a terminal, one row per metric; raises as `compare`."""
    title = f"{first.dataset}, protocol {first.protocol['name']}: A = {first.label}; B = {second.label}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "A", "B", "B - A", "95 %", "least", "most", "B higher"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for row in compare(first, second):
        digits = 4 if row.metric in ("ssim", "lpips") else 3
        found = row.difference
        mean, low, high, least, most = (
            f"{figure:+.{digits}f}" for figure in (found.mean, *found.ci95, found.least, found.most)
        )
        means = (f"{row.first:.{digits}f}", f"{row.second:.{digits}f}")
        table.add_row(row.metric, *means, mean, f"{low}..{high}", least, most, f"{row.higher} of {row.count}")
    return table
