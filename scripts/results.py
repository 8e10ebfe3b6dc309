"""The tables of docs/results.md, and the figures in README.md, README.zh.md and the model card of `default`.

    python scripts/results.py                       # write them from the JSON files in docs/results
    python scripts/results.py --data ../shared/data # measure what is missing first
    python scripts/results.py --data DATA --lpips lpips_squeeze.safetensors
    python scripts/peers.py DATA/dev --lpips lpips_squeeze.safetensors      # first: other projects' networks

DATA holds dev (groups in CUFED5 naming) and sisr/set5, sisr/set14, sisr/urban50 (truths). Delete a JSON file to have it
measured again.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from refsr.bench.plots import plot_gain_by_score, plot_robustness, plot_time_by_size
from refsr.bench.report import RESULTS, level_table, markdown_table, results_table, robust_table
from refsr.bench.results import Result
from refsr.bench.robust import RobustResult
from refsr.io.records import read_record

DOCS = Path(__file__).parent.parent / "docs"
TEXTURE_RUNS = (
    ("bicubic", "none"), ("auto", "none"), ("auto-texture", "none"), ("auto", "1"), ("auto-texture", "1"),
    ("auto-texture", "wrong"),
)  # fmt: skip
RUNS = (
    *((f"sisr/{name}", "bicubic", "none", "refsr") for name in ("set5", "set14", "urban50")),
    *((f"sisr/{name}", "sisr", "none", "refsr") for name in ("set5", "set14", "urban50")),
    *((f"sisr/{name}", "flow", "self", "refsr") for name in ("set5", "set14", "urban50")),
    *((f"sisr/{name}", "default", "self", "refsr") for name in ("set5", "set14", "urban50")),
    ("dev", "bicubic", "none", "refsr"),
    ("dev", "sisr", "none", "refsr"),
    *(("dev", "flow", refs, "refsr") for refs in ("1", "all", "wrong")),
    *(("dev", "default", refs, "refsr") for refs in ("1", "all", "wrong", "self")),
    *(("dev", "default", f"level:{level}", "refsr") for level in (2, 3, 4, 5)),
    *(("dev", "default", "1", protocol) for protocol in ("ttsr", "masa", "c2")),
    *(("dev", model, refs, "refsr") for model, refs in TEXTURE_RUNS),
)
DEGRADATIONS = ("mild", "night", "jpeg", "motion")
DEGRADED_RUNS = (("bicubic", "none"), ("default", "1"), ("default-real", "1"), ("default-real", "wrong"), ("auto", "1"))
PEERS = ("ClearReality4x", "Real-ESRGAN")
ROBUST = ("default", "flow")
GAIN = (
    "The best reference gains {mean:.2f} dB on average (95 %: {low:.2f} to {high:.2f}),"
    " {least:.2f} at least and {most:.2f} at most."
)
GAIN_IN_CHINESE = (
    "最好的参考平均带来 {mean:.2f} dB（95 %：{low:.2f} 到 {high:.2f}），最少 {least:.2f}，最多 {most:.2f}。"  # noqa: RUF001
)
REAL = (
    "On four kinds of such LR images of these groups, it brings {alone[0]:.1f} to {alone[1]:.1f} dB over bicubic"
    " without a reference,\nand the best one brings {gain[0]:.1f} to {gain[1]:.1f} dB more."
)
REAL_IN_CHINESE = (
    "这些组的 LR 图像经四种方式变模糊、加噪点、压缩后，不用参考"  # noqa: RUF001
    "比双三次插值高 {alone[0]:.1f} 到 {alone[1]:.1f} dB，"  # noqa: RUF001
    "最好的参考再带来 {gain[0]:.1f} 到 {gain[1]:.1f} dB。"
)
CHINESE = {
    "37 groups of real photographs of one place each": "37 组真实照片，每组同一地点",  # noqa: RUF001
    "Urban100, the 50 even-numbered pictures": "Urban100，编号为偶数的 50 张",  # noqa: RUF001
    "unrelated reference": "无关的参考",
    "all references": "全部参考",
    "best reference": "最好的参考",
    "no reference": "无参考",
    "bicubic": "双三次插值",
    "pictures": "图片",
}
DEFAULT_ROWS = (("default", "1"), ("default", "all"), ("default", "wrong"))

# Read in the figure AMSA/figs/quan.jpg of the repository Zj-BinXia/AMSA.
PUBLISHED_REFSR = """\
SRCNN 25.33/.745 28.26/.781 24.41/.738 27.12/.850
EDSR 25.93/.777 28.52/.792 25.51/.783 28.93/.891
RCAN 26.06/.769 29.86/.810 25.42/.768 29.38/.895
ESRGAN 21.90/.633 24.18/.651 20.91/.620 23.53/.797
CrossNet 25.48/.764 28.52/.793 25.11/.764 23.36/.741
SRNTT 25.61/.764 27.59/.756 25.09/.774 27.54/.862
SRNTT-rec 26.24/.784 28.54/.793 25.50/.783 28.95/.885
TTSR-rec 27.09/.804 30.02/.814 25.87/.784 30.09/.907
MASA-rec 27.54/.814 30.15/.815 26.09/.786 -
C2-Matching-rec 28.24/.841 30.18/.817 26.03/.785 30.47/.911
AMSA-rec 28.50/.849 30.29/.819 26.18/.789 30.57/.914"""

# As the tables of later papers print them (ESRT's among others).
PUBLISHED_SISR = """\
CARN 32.13/.8937 28.60/.7806 27.58/.7349 26.07/.7837
IMDN 32.21/.8948 28.58/.7811 27.56/.7353 26.04/.7838
RCAN 32.63/.9002 28.87/.7889 27.77/.7436 26.82/.8087"""

INTRODUCTION = """\
# Results

Written by `python scripts/results.py` from the files in [results](results), which `refsr bench` wrote; each holds the
figures of every picture, the protocol, the versions and the commit. The protocol is `refsr` unless said otherwise:
4x, LR by the one bicubic with 8 bits, PSNR and SSIM (11x11 Gaussian window, 1.5) on Y of BT.601, border 4, mean of the
pictures' own figures. Intervals are 95 %, by bootstrap over the pictures. "gain" is against the same model without a
reference.

The models: `bicubic`; `sisr`, the default model without a reference; `flow`, the default model matched by optical flow
(the approach that SRNTT set out to beat); `default`; `default-real`; `auto`, which takes one of these two by what it
measures in each photo. `srntt` and `srntt-rec`
take a minute a picture: their figures, on every third group of dev, are in [their model card](models/srntt.md).
References: `1` the most similar one, `all`, `wrong` (the best one of another group), `self` (the LR image itself, as
the papers do on Urban100), `level:K` the one of level K. The tables of changed references, `album`, `flow` on dev
and the protocols other than `refsr` are of older weights ([the log](log.md)). Seconds
are of runs beside other work: for times, see [performance](performance.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lpips", type=Path, help="weights, to measure LPIPS too")
    options = parser.parse_args()
    if options.data is not None:
        measure(options.data, options.lpips)
    (DOCS / "results.md").write_text(page())
    card, readme = DOCS / "models" / "default.md", DOCS.parent / "README.md"
    for file in (card, readme):
        put(file, "figures", summary())
        put(file, "gain", gain(GAIN))
    put(readme.with_name("README.zh.md"), "figures", in_chinese(summary()))
    put(readme, "real", real(REAL))
    put(readme.with_name("README.zh.md"), "real", real(REAL_IN_CHINESE))
    put(DOCS / "models" / "default-real.md", "degraded", degraded_table())
    put(readme.with_name("README.zh.md"), "gain", gain(GAIN_IN_CHINESE))
    put(card, "groups", groups_table())


def measure(data: Path, lpips: Path | None) -> None:
    """Run what has no JSON file yet."""
    clean = [(*each, "none") for each in RUNS]
    runs = dict.fromkeys((*DEGRADED_RUNS, *TEXTURE_RUNS))
    harmed = [("dev", *each, "refsr", name) for name in DEGRADATIONS for each in runs]
    for dataset, model, refs, protocol, degradation in clean + harmed:
        out = result_file(Path(dataset).name, model, refs.replace(":", ""), protocol, degradation)
        if not out.exists():
            given = ("--references", refs, "--protocol", protocol, "--degrade", degradation)
            more = () if lpips is None else ("--lpips", lpips)
            name, crisp, _ = model.partition("-texture")
            more += ("--texture", 1) if crisp else ()
            run("bench", data / dataset, "--model", name, *given, *more, "--output", out)
    for model in ROBUST:
        out = DOCS / "results" / f"dev_{model}_robust.json"
        if not out.exists():
            run("bench", "robust", data / "dev", "--model", model, "--limit", 19, "--output", out)
            out.with_suffix(".png").unlink()  # the one of all models is in docs/images


def result_file(dataset: str, model: str, references: str, protocol: str = "refsr", degradation: str = "none") -> Path:
    harm = "" if degradation == "none" else f"_{degradation}"
    return DOCS / "results" / f"{dataset}_{model}_{references}_{protocol}{harm}.json"


def run(*arguments: object) -> None:
    """A process of its own, so that its memory is its own."""
    subprocess.run([sys.executable, "-m", "refsr", *map(str, arguments)], check=True)


def page() -> str:
    """All tables."""
    robust, sets = [], defaultdict(list)
    for file in sorted((DOCS / "results").glob("*.json")):
        found = read_record(file, RESULTS)
        if isinstance(found, RobustResult):
            robust.append(found)
        else:
            sets[found.dataset].append(found)
    parts = [INTRODUCTION]
    for name in ("set5", "set14", "urban50"):
        parts += [f"## {name}, {len(sets[name][0].images)} pictures", results_table(in_order(sets[name]), memory=False)]
    parts.append(
        published("Set5 Set14 BSD100 Urban100", PUBLISHED_SISR, "Single-image networks, PSNR and SSIM on Y, border 4")
    )
    groups = [result for result in sets["dev"] if "degraded" not in result.protocol["lr"]]
    ours = in_order(result for result in groups if result.protocol["name"] == "refsr")
    parts += [f"## dev, {len(ours[0].images)} groups of real photographs of one place each"]
    plain = [result for result in ours if not result.protocol["references"].startswith("level")]
    parts.append(results_table(plain, memory=False))
    parts.append(f"By level, of the groups that have it:\n\n{level_table(ours)}")
    plot_gain_by_score([r for r in ours if r.protocol["references"] == "1"], DOCS / "images" / "gain_dev.png")
    plot_time_by_size([r for r in ours if r.protocol["references"] in ("1", "none")], DOCS / "images" / "time_dev.png")
    parts.append("![gain against score](images/gain_dev.png)\n![time against size](images/time_dev.png)")
    parts += [
        "### LR images blurred, noisy and compressed",
        "`refsr bench --degrade`; LPIPS by SqueezeNet 1.1; colour is the mean error of squares of 16 pixels, of 255.",
        degraded_table(),
    ]
    parts += [
        "### Faithful, crisp, and other projects",
        "`auto` is faithful, with texture 1 crisp. LPIPS is by SqueezeNet 1.1, which the crisp weights were trained"
        " with too, the peers' were not. The peers (`scripts/peers.py`) take no reference, and are trained for harmed"
        " photos.",
        side_by_side(),
    ]
    others = [r for r in groups if r.model == "default" and r.protocol["references"] == "1"]
    parts += ["### The same model by four protocols", protocol_table(others)]
    parts.append(
        published(
            "CUFED5 Sun80 Urban100 Manga109", PUBLISHED_REFSR, "With references (on Urban100: the LR image itself)"
        )
    )
    plot_robustness(robust, DOCS / "images" / "robust_dev.png")
    parts += ["## Changed references", *map(robust_table, robust)]
    parts.append("![gain against the strength of each change](images/robust_dev.png)")
    commits = sorted({f"{r.commit}" for found in (*sets.values(), robust) for r in found})
    versions = ", ".join(
        f"{key} {value}" for key, value in groups[0].versions.items() if key not in ("weights", "threads")
    )
    parts.append(f"Measured at commit {', '.join(commits)}; {versions}.")
    return "\n\n".join(parts) + "\n"


def put(file: Path, name: str, text: str) -> None:
    """Replace what stands between two marks, `<!-- name -->` and `<!-- /name -->`."""
    head, opening, rest = file.read_text().partition(f"<!-- {name} -->\n")
    _, closing, tail = rest.partition(f"<!-- /{name} -->")
    if not opening or not closing:
        raise SystemExit(f"{file}: has no <!-- {name} --> ... <!-- /{name} --> to write between")
    file.write_text(f"{head}{opening}{text}\n{closing}{tail}")


def measured(dataset: str, model: str, references: str) -> Result:
    return read_record(result_file(dataset, model, references), {"bench": Result})


def mean_psnr(dataset: str, model: str, references: str) -> str:
    found = measured(dataset, model, references).summary("psnr_db")
    assert found is not None
    return f"{found.mean:.2f}"


def summary() -> str:
    """PSNR of each set, without and with references."""
    heads = ("pictures", "bicubic", "no reference", "best reference", "all references", "unrelated reference")
    ours = (mean_psnr("dev", model, refs) for model, refs in (("bicubic", "none"), ("sisr", "none"), *DEFAULT_ROWS))
    rows = [("37 groups of real photographs of one place each", *ours)]
    for name, about in (("set5", "Set5"), ("set14", "Set14"), ("urban50", "Urban100, the 50 even-numbered pictures")):
        rows.append((about, mean_psnr(name, "bicubic", "none"), mean_psnr(name, "sisr", "none"), "", "", ""))
    return markdown_table(heads, rows)


def in_chinese(table: str) -> str:
    for english, chinese in CHINESE.items():
        table = table.replace(english, chinese)
    return table


def gain(sentence: str) -> str:
    """In one sentence."""
    found = measured("dev", "default", "1").summary("gain_db")
    assert found is not None
    low, high = found.ci95
    return sentence.format(mean=found.mean, low=low, high=high, least=found.least, most=found.most)


def real(sentence: str) -> str:
    """What degraded LR images gain, least and most of the four kinds."""
    found = [
        read_record(result_file("dev", "auto", "1", degradation=name), {"bench": Result}).summaries
        for name in DEGRADATIONS
    ]
    gains = sorted(each["gain_db"].mean for each in found)
    alone = sorted(each["psnr_db"].mean - each["gain_db"].mean - each["bicubic_db"].mean for each in found)
    return sentence.format(alone=(alone[0], alone[-1]), gain=(gains[0], gains[-1]))


def groups_table() -> str:
    """Each group of dev."""
    runs = [measured("dev", "default", refs).images for refs in ("1", "all", "wrong")]
    rows = []
    for best, several, wrong in zip(*runs, strict=True):
        assert best.gain_db is not None
        figures = (best.bicubic_db, best.psnr_db - best.gain_db, best.psnr_db, several.psnr_db, wrong.psnr_db)
        rows.append((best.name, *(f"{figure:.2f}" for figure in figures), f"{best.ssim:.4f}"))
    return markdown_table(
        ("group", "bicubic", "without", "best reference", "all references", "unrelated", "SSIM, best"), rows
    )


def degraded_table() -> str:
    """One line for each degradation and model."""
    heads = ("LR images", "model", "references", "PSNR dB", "SSIM", "gain dB (95 %)", "least", "LPIPS", "colour")
    rows = []
    for name in DEGRADATIONS:
        for model, references in DEGRADED_RUNS:
            result = read_record(result_file("dev", model, references, degradation=name), {"bench": Result})
            found = result.summaries
            psnr, gain = found["psnr_db"], found["gain_db"]
            if references == "1" and model != "auto":
                rows.append((name, model, "none", f"{psnr.mean - gain.mean:.2f}", "", "", "", "", ""))
            low, high = gain.ci95
            rows.append((
                name, model, references, f"{psnr.mean:.2f}", f"{found['ssim'].mean:.4f}",
                f"{gain.mean:+.2f} ({low:+.2f} to {high:+.2f})", f"{gain.least:+.2f}",
                f"{found['lpips'].mean:.4f}", f"{found['colour_levels'].mean:.2f}",
            ))  # fmt: skip
    return markdown_table(heads, rows)


def side_by_side() -> str:
    """One line for each kind of LR images and each model, without and with reference."""
    rows = []
    for name in ("none", *DEGRADATIONS):
        for model, references in (*TEXTURE_RUNS, *((peer, "none") for peer in PEERS)):
            result = read_record(result_file("dev", model, references, degradation=name), {"bench": Result})
            found = result.summaries
            figures = (("psnr_db", ".2f"), ("ssim", ".4f"), ("lpips", ".4f"), ("colour_levels", ".2f"))
            texts = (f"{found[metric].mean:{form}}" for metric, form in figures)
            rows.append(("clean" if name == "none" else name, result.model, references, *texts))
    return markdown_table(("LR images", "model", "references", "PSNR dB", "SSIM", "LPIPS", "colour"), rows)


def in_order(results: Iterable[Result]) -> list[Result]:
    """Plain models first."""
    models = ("bicubic", "sisr", "flow", "default", "auto", "auto, texture 1")
    results = [result for result in results if result.model in models]  # other projects' have a table of their own
    return sorted(results, key=lambda r: (models.index(r.model), r.protocol["references"]))


def protocol_table(results: Sequence[Result]) -> str:
    """One line a protocol."""
    rows = []
    for result in sorted(results, key=lambda r: ("refsr", "ttsr", "masa", "c2").index(r.protocol["name"])):
        figures = {metric: result.summary(metric) for metric in ("psnr_db", "ssim", "psnr_rgb_db", "gain_db")}
        texts = (f"{f.mean:.4f}" if metric == "ssim" else f"{f.mean:.2f}" for metric, f in figures.items() if f)
        rows.append((result.protocol["name"], result.protocol["about"], *texts))
    return markdown_table(("protocol", "how", "PSNR dB", "SSIM", "PSNR dB in RGB", "gain dB"), rows)


def published(heads: str, lines: str, about: str) -> str:
    """A table of other people's figures, marked as such."""
    rows = [line.split(" ") for line in lines.splitlines()]
    return (
        f"Published, not measured here. {about}; each by its own authors' protocol, on the whole sets. Not to be set"
        " beside the rows above where set or protocol differ:\n\n"
        + markdown_table(("published", *heads.split(" ")), rows)
    )


if __name__ == "__main__":
    main()
