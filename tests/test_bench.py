"""The benchmark from folder to report, on tiny pictures."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import fails, restored, small_models, texture, wait_for
from PIL import Image, ImageFilter
from safetensors.torch import save_file

import refsr.bench.measure
from refsr.bench.datasets import Dataset, LevelledReference, Sample, open_dataset
from refsr.bench.lpips import LPIPS, AlexNet, SqueezeNet, load_lpips
from refsr.bench.measure import BenchConfig, run_benchmark
from refsr.bench.metrics import colour_levels, psnr_db
from refsr.bench.report import RESULTS
from refsr.bench.results import ImageResult, Result, compare, source_commit, summarise
from refsr.bench.robust import CHANGES, UNCHANGED, RobustResult, run_robust
from refsr.bench.samples import choose_references
from refsr.cli import main
from refsr.errors import ImageError, UsageError, WeightsError
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.io.records import read_record
from refsr.models import RefSRModel
from refsr.models.vgg import VGG19
from refsr.references.pose import Pose, find_pose
from refsr.resize import downscale_bicubic, upscale_bicubic

SMALL = small_models()


def save(path: Path, image: torch.Tensor) -> None:
    Image.fromarray((image[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """Three groups of parts of one picture each: with references of levels 1 and 3, of level 1, and without any."""
    folder = tmp_path / "groups"
    folder.mkdir()
    for name, size, first_px in (
        ("000_0", (64, 66), 0), ("000_1", (60, 72), 0), ("000_3", (80, 64), 8),
        ("001_0", (64, 80), 0), ("001_1", (64, 64), 0), ("002_0", (72, 64), 0),
    ):  # fmt: skip
        whole = texture(96, 96, seed=int(name[:3]))
        save(folder / f"{name}.png", whole[..., first_px : first_px + size[0], first_px : first_px + size[1]])
    return folder


def test_groups_truths_and_manifests_are_told_apart(groups: Path, tmp_path: Path) -> None:
    dataset = open_dataset(groups)
    assert [(s.name, [r.level for r in s.references]) for s in dataset.samples] == [
        ("000", [1, 3]), ("001", [1]), ("002", [])
    ]  # fmt: skip
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("b", "img_007", "a"):
        save(plain / f"{name}.png", texture(16, 16))
    assert [(s.name, s.references) for s in open_dataset(plain).samples] == [("a", ()), ("b", ()), ("img_007", ())]
    records = [
        {"name": "x", "truth": "groups/000_0.png", "references": [{"file": "groups/000_1.png", "level": 2}]},
        {"name": "y", "truth": "plain/a.png", "lr": "plain/b.png"},
    ]
    manifest = tmp_path / "set.jsonl"
    manifest.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    first, second = open_dataset(manifest).samples
    assert first.references[0].path == tmp_path / "groups/000_1.png"
    assert first.references[0].level == 2
    assert second.lr == tmp_path / "plain/b.png"
    for text, message in (
        ('{"name": "x"}', r"line 1 is wrong \(.*`truth`\)"),
        ("[]", "line 1 is no object"),
        ("{", "line 1 is no JSON"),
        (json.dumps(records[0]) + "\n" + json.dumps(records[0]), "line 2 names 'x' again"),
        ("", "holds no picture"),
    ):
        manifest.write_text(text)
        with pytest.raises(UsageError, match=message):
            open_dataset(manifest)
    with pytest.raises(UsageError, match="no such folder or manifest"):
        open_dataset(tmp_path / "none")


def test_figures_are_those_of_the_models_own_work(groups: Path) -> None:
    model = SMALL["default"]
    result = run_benchmark(open_dataset(groups), model, "default", BenchConfig())
    first = result.images[0]
    truth = torch.from_numpy(np.array(Image.open(groups / "000_0.png"))).permute(2, 0, 1)[None].float() / 255
    truth = truth[..., :64, :64]
    ref = torch.from_numpy(np.array(Image.open(groups / "000_1.png"))).permute(2, 0, 1)[None].float() / 255
    lr = (downscale_bicubic(truth, 4) * 255).round() / 255
    helped, alone = (psnr_db(restored(model, lr, refs).clamp(0, 1), truth).item() for refs in ([ref], []))
    assert first.psnr_db == pytest.approx(helped, abs=1e-3)
    assert first.gain_db == pytest.approx(helped - alone, abs=2e-3)
    assert (first.cropped, first.size_px, first.references, first.level) == (True, (64, 64), ("000_1.png",), 1)
    assert first.score is not None
    assert 0 < first.peak_memory_mib < 1e5
    assert [s.name for s in result.skipped] == ["002"]
    assert "has no reference" in result.skipped[0].reason


@pytest.mark.usefixtures("any_reference_fits")
@pytest.mark.parametrize(
    ("refs", "measured", "used"),
    [
        ("1", 2, [("000_1.png",), ("001_1.png",)]),
        ("all", 2, [("000_1.png", "000_3.png"), ("001_1.png",)]),
        ("level:3", 1, [("000_3.png",)]),
        ("none", 3, [(), (), ()]),
        ("self", 3, [(), (), ()]),
        ("wrong", 3, [("001_1.png",), ("000_1.png",), ("001_1.png",)]),
    ],
)
def test_which_references_are_used(groups: Path, refs: str, measured: int, used: list[tuple[str, ...]]) -> None:
    result = run_benchmark(open_dataset(groups), SMALL["default"], "m", BenchConfig(references=refs))
    assert [image.references for image in result.images] == used
    assert len(result.images) == measured
    if refs == "none":
        assert all(image.gain_db == 0 and image.score is None for image in result.images)
    else:
        assert any(image.gain_db != 0 for image in result.images)


def test_a_wrong_reference_is_none_of_the_samples_own(tmp_path: Path) -> None:
    """Where samples share references, and where some have none."""

    def sample(name: str, *references: str) -> Sample:
        found = tuple(LevelledReference(path=Path(file), level=1) for file in references)
        return Sample(name=name, truth=Path(f"{name}.png"), references=found)

    def wrong(*samples: Sample) -> list[str | None]:
        dataset = Dataset(name="d", samples=samples)
        found: list[str | None] = []
        for each in samples:
            try:
                found.append(choose_references(each, dataset, "wrong")[0].path.name)
            except ImageError:
                found.append(None)
        return found

    assert wrong(sample("a", "r"), sample("b", "r"), sample("c", "s")) == ["s", "s", "r"]
    assert wrong(sample("a", "r"), sample("b", "r")) == [None, None]
    assert wrong(sample("a", "b.png"), sample("b", "a.png")) == [None, None]
    assert wrong(sample("a"), sample("b", "r"), sample("c")) == ["r", None, "r"]
    assert wrong(sample("a", "r"), sample("b"), sample("c", "s")) == ["s", "r", "r"]
    assert wrong(sample("a"), sample("b")) == ["b.png", "a.png"]


def test_references_of_an_album_are_posed_once(
    sample: dict[str, torch.Tensor], shipped: RefSRModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, picture in (("000_0", sample["truth"][..., :128, :128]), ("000_1", sample["ref"][..., 80:320, 120:400])):
        write_photo(tmp_path / f"{name}.png", Photo(pixels=picture))
    posed: list[tuple[int, ...]] = []

    def recorded(model: RefSRModel, lr: torch.Tensor, ref: torch.Tensor) -> Pose | None:
        posed.append(tuple(ref.shape))
        return find_pose(model, lr, ref)

    monkeypatch.setattr("refsr.restore.posed.find_pose", recorded)
    dataset = open_dataset(tmp_path)
    album, best = (run_benchmark(dataset, shipped, "m", BenchConfig(references=mode)) for mode in ("album", "1"))
    assert album.images[0].references == ("000_1.png",)
    assert album.images[0].level == 1
    assert album.images[0].psnr_db == best.images[0].psnr_db
    assert [shape for shape in posed if shape != (1, 3, 64, 64)] == [(1, 3, 240, 280)]  # but for warming up


@pytest.mark.parametrize(
    ("truth", "lr", "reference"),
    [
        ("Test/4/Canon_001_HR.png", "Test/4/Canon_001_LR4.png", None),
        ("test_HR/DSC_1286_x4.png", "test_LR/DSC_1286_x1.png", None),
        ("HR/001.png", "LR/001.png", None),
        ("HR/IMG_1.png", "LR/IMG_1.jpg", "ref/IMG_1.png"),
    ],
    ids=["RealSR", "DRealSR", "City100", "CameraFusion"],
)
def test_sets_of_real_pairs_are_read_as_they_lie(truth: str, lr: str, reference: str | None, tmp_path: Path) -> None:
    for name, size in ((truth, 64), (lr, 16), (reference, 64)):
        if name is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            save(tmp_path / name, texture(size, size))
    place = (tmp_path / truth).parent if truth.startswith("Test") else tmp_path
    (sample,) = open_dataset(place).samples
    assert (sample.truth, sample.lr) == (tmp_path / truth, tmp_path / lr)
    assert [found.path for found in sample.references] == [tmp_path / name for name in (reference,) if name]
    sample.truth.with_name(sample.truth.name.replace("1", "2")).write_bytes(sample.truth.read_bytes())
    result = run_benchmark(open_dataset(place), SMALL["bicubic"], "bicubic", BenchConfig())
    assert result.protocol["lr"] == "given"
    assert len(result.images) == 1
    assert "no such file" in result.skipped[0].reason


def test_real_lr_images(groups: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lr"
    folder.mkdir()
    save(folder / "000_0.png", texture(16, 16, seed=9))
    save(folder / "001_0.png", texture(16, 19, seed=9))
    config = BenchConfig(references="none")
    result = run_benchmark(open_dataset(groups, folder), SMALL["bicubic"], "bicubic", config)
    assert [image.name for image in result.images] == ["000"]
    lr, truth = (as_photo(p).pixels for p in (folder / "000_0.png", groups / "000_0.png"))
    expected = psnr_db(upscale_bicubic(lr, 4), truth[..., :64, :64]).item()
    assert result.images[0].psnr_db == pytest.approx(expected, abs=1e-4)
    assert result.protocol["lr"] == "given"
    reasons = {s.name: s.reason for s in result.skipped}
    assert "its LR image has 19x16 pixels, the truth makes 20x16" in reasons["001"]
    assert "002_0.png: no such file" in reasons["002"]


def test_the_json_file(groups: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["bench", str(groups), "--model", "bicubic", "--output", str(out)]) == 0
    content = json.loads(out.read_text())
    assert {"model", "dataset", "protocol", "mean", "images", "versions", "commit"} <= content.keys()
    assert {"psnr_db", "ssim", "gain_db"} <= content["mean"].keys()
    assert all({"name", "psnr_db", "ssim", "gain_db", "seconds"} <= image.keys() for image in content["images"])
    psnr = [image["psnr_db"] for image in content["images"]]
    assert content["mean"]["psnr_db"] == pytest.approx(sum(psnr) / len(psnr), abs=1e-3)
    assert content["images"][0]["bicubic_db"] == content["images"][0]["psnr_db"]
    assert content["protocol"]["name"] == "refsr"
    loaded = read_record(out, {"bench": Result})
    assert loaded.model == "bicubic"
    assert loaded.record()["mean"] == pytest.approx(content["mean"], abs=3e-4)
    commit = source_commit()
    assert commit is None or len(commit.rstrip("+")) == 40


def test_a_broken_run_goes_on(groups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.json"
    dataset, config = open_dataset(groups), BenchConfig(references="self")
    measure = refsr.bench.measure._measure
    calls: list[str] = []

    def counted(sample: Any, *rest: Any) -> Any:
        calls.append(sample.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(sample, *rest)

    monkeypatch.setattr(refsr.bench.measure, "_measure", counted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(dataset, SMALL["default"], "m", config, out=out)
    assert not out.exists()
    journal = tmp_path / "out.json.part"
    with journal.open("a") as file:
        file.write('{"name": "002", "psnr')  # as a kill in the middle of a line leaves it
    with pytest.raises(OSError, match="is left from a run with other settings"):
        run_benchmark(dataset, SMALL["default"], "m", BenchConfig(references="none"), out=out)
    result = run_benchmark(dataset, SMALL["default"], "m", config, out=out)
    assert calls == ["000", "001", "002", "002"]
    assert [image.name for image in read_record(out, {"bench": Result}).images] == ["000", "001", "002"]
    whole = run_benchmark(dataset, SMALL["default"], "m", config)
    assert [i.psnr_db for i in whole.images] == [i.psnr_db for i in result.images]
    assert not journal.exists()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL, in a process of its own; every picture is counted once."""
    folder = tmp_path / "truths"
    folder.mkdir()
    for number in range(60):
        save(folder / f"{number:03}.png", texture(64, 64, seed=number))
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "refsr", "bench", str(folder), "--references", "self", "--output", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out.json.part"
    wait_for(lambda: process.poll() is not None or (journal.exists() and len(journal.read_text().splitlines()) > 3), 90)
    process.kill()
    process.wait()
    done = len(journal.read_text().splitlines()) - 1
    assert not out.exists()
    assert 3 <= done < 60
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    names = [image.name for image in read_record(out, {"bench": Result}).images]
    assert names == [f"{number:03}" for number in range(60)]


def test_limit_spreads(groups: Path) -> None:
    result = run_benchmark(open_dataset(groups), SMALL["bicubic"], "b", BenchConfig(limit=2))
    assert [image.name for image in result.images] == ["000", "001"]


def test_bad_input(groups: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").write_text('{"model": "x"}')
    (tmp_path / "c.pth").write_bytes(b"junk")
    for pattern, arguments in {
        "none: no such folder or manifest": (tmp_path / "none",),
        "holds no picture": (empty,),
        "--references '2' is unknown: use 1, all": (groups, "--references", "2"),
        "--references 'level:6' is unknown: use .* level:1 to 5": (groups, "--references", "level:6"),
        "--limit -1": (groups, "--limit", "-1"),
        "neither a model": (groups, "--model", "best"),
        "no such folder of LR images": (groups, "--lr", tmp_path / "none"),
        "the folder .* does not exist": (groups, "--output", tmp_path / "none" / "out.json"),
        "c.pth: damaged": (groups, "--lpips", tmp_path / "c.pth"),
        "no picture of groups could be measured; the first: 000: has no reference of level 5": (
            groups,
            "--references",
            "level:5",
        ),
        "a.json: damaged": ("compare", tmp_path / "a.json", tmp_path / "a.json"),
        "b.json: damaged, or not .* bench or robust .*`dataset`": ("report", tmp_path / "b.json", "-o", tmp_path / "r"),
        "none.json: no such file": ("compare", tmp_path / "none.json", tmp_path / "a.json"),
        "--protocol": (groups, "--protocol", "mine"),
        "^refsr: --texture 1: .*: use --model auto": (groups, "--texture", "1"),
    }.items():
        fails(capsys, 2, pattern, "bench", *arguments)


def test_unreadable_pictures_are_named_and_strict_makes_them_an_error(
    groups: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (groups / "001_0.png").write_bytes(b"junk")
    assert main(["bench", str(groups), "--model", "bicubic"]) == 0
    captured = capsys.readouterr()
    assert "left out 001" in captured.err
    assert "001_0.png: not a PNG" in captured.err
    assert captured.err.count("cropped to multiples of 4 pixels: 1 of 2 truths") == 1
    assert "2 pictures" in captured.out
    assert main(["bench", str(groups), "--model", "bicubic", "--strict"]) == 2
    assert "left out 1 picture," in capsys.readouterr().err


def a_result(model: str, psnr: dict[str, float], **protocol: Any) -> Result:
    images = tuple(
        ImageResult(
            name=name, psnr_db=value, ssim=value / 40, gain_db=0.5, seconds=1.0, bicubic_db=20.0, psnr_rgb_db=value,
            peak_memory_mib=100.0, size_px=(64, 64), level=1, score=0.8,
        )
        for name, value in psnr.items()
    )  # fmt: skip
    return Result(model=model, dataset="d", protocol={"name": "refsr", "references": "1", **protocol}, images=images)


def test_the_comparison_is_paired() -> None:
    first = a_result("a", {"x": 20.0, "y": 30.0, "z": 40.0})
    second = a_result("b", {"y": 30.5, "z": 40.7, "w": 10.0})
    psnr = compare(first, second)[0]
    assert (psnr.metric, psnr.first, psnr.second, psnr.higher, psnr.count) == ("psnr_db", 35.0, 35.6, 2, 2)
    assert psnr.difference.mean == pytest.approx(0.6)
    assert psnr.difference.ci95 == pytest.approx((0.5, 0.7))
    with pytest.raises(UsageError, match="share no picture"):
        compare(first, a_result("c", {"q": 1.0}))
    with pytest.raises(UsageError, match="differ in their scale"):
        compare(first, a_result("c", {"x": 1.0}, scale=8))


def test_the_bootstrap_agrees_with_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = summarise(values.tolist())
    low, high = (found.mean + sign * 1.96 * values.std() / 20 for sign in (-1, 1))
    assert found.ci95 == pytest.approx((low, high), abs=0.03)
    assert summarise([3.0]).ci95 == (3.0, 3.0)


def test_the_report(groups: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for model, refs in (("bicubic", "none"), ("default", "1"), ("default", "all")):
        files.append(str(tmp_path / f"{model}_{refs}.json"))
        arguments = ["bench", str(groups), "--model", model, "--references", refs, "--output", files[-1]]
        assert main([*arguments, "--crops", str(tmp_path / "crops" / refs)]) == 0
    robust = str(tmp_path / "robust.json")
    capsys.readouterr()
    fails(capsys, 2, "need .* of working memory", "bench", "robust", groups, "-o", robust, "--memory", "1KiB")
    Path(f"{robust}.part").unlink()
    flags = ["--limit", "2", "--memory", "1GiB", "--search", "exact", "--precision", "fp32"]
    assert main(["bench", "robust", str(groups), "--output", robust, *flags]) == 0
    assert (tmp_path / "robust.png").stat().st_size > 10_000
    assert main(["bench", "compare", files[1], files[2]]) == 0
    assert "psnr_db" in capsys.readouterr().out
    assert main(["bench", "report", *files, robust, "-o", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| bicubic | none | 3 |" in text
    assert "Skipped by default, references 1: 002: has no reference" in text
    assert "rotation (degrees) | 30" in text
    pictures = {path.name for path in (tmp_path / "report").glob("*.png")}
    assert all(f"({name})" in text for name in pictures)
    assert {"gain_groups_refsr.png", "time_groups_refsr.png", "robust_groups.png", "crops_default_1_1.png"} <= pictures
    with Image.open(tmp_path / "report" / "crops_default_1_1.png") as sheet:
        assert sheet.width == 6 * 192


@pytest.mark.usefixtures("any_reference_fits")
def test_changed_references(groups: Path, tmp_path: Path) -> None:
    changes = [change for change in CHANGES if change.name.startswith(("rotation", "scale"))]
    out = tmp_path / "robust.json"
    result = run_robust(open_dataset(groups), SMALL["default"], "m", out=out, changes=changes)
    assert set(result.skipped) == {"002"}
    assert set(result.gains_db[UNCHANGED, 0.0]) == {"000", "001"}
    assert len(result.gains_db) == 2 + 8 + 6
    plain = run_benchmark(open_dataset(groups), SMALL["default"], "m", BenchConfig())
    assert result.gains_db[UNCHANGED, 0.0]["000"] == pytest.approx(plain.images[0].gain_db, abs=1e-4)
    wrong = run_benchmark(open_dataset(groups), SMALL["default"], "m", BenchConfig(references="wrong"))
    assert result.gains_db["unrelated", 0.0]["001"] == pytest.approx(wrong.images[1].gain_db, abs=1e-4)
    loaded = read_record(out, RESULTS)
    assert isinstance(loaded, RobustResult)
    assert loaded.gains_db.keys() == result.gains_db.keys()
    assert loaded.unrelated_loss() == pytest.approx(result.unrelated_loss(), abs=1e-3)


def test_what_the_changes_do() -> None:
    by_name = {change.name.split()[0]: change for change in CHANGES}
    picture = texture(40, 60)
    assert torch.equal(by_name["shift"].apply(picture, 10.0)[..., 10:, 10:], picture[..., :-10, :-10])
    assert by_name["scale"].apply(picture, 0.5).shape == (1, 3, 20, 30)
    turned = by_name["rotation"].apply(picture, 180.0)
    assert torch.allclose(turned[..., 1:-1, 1:-1], picture.flip(-1, -2)[..., 1:-1, 1:-1], atol=0.02)
    assert by_name["light"].apply(torch.full((1, 3, 8, 8), 0.5), -1.0)[0, 0, 0, 0].item() == pytest.approx(
        0.5 * 2 ** (-1 / 2.2)
    )
    warm = by_name["colour"].apply(torch.full((1, 3, 8, 8), 0.5), 0.5)[0, :, 0, 0]
    assert warm[0] > 0.5 == warm[1] > warm[2]
    detail = [by_name["blur"].apply(picture, sigma).std().item() for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert all(a > b for a, b in itertools.pairwise([picture.std().item(), *detail]))
    error = [(by_name["JPEG"].apply(picture, q) - picture).abs().mean().item() for q in (90.0, 50.0, 10.0)]
    assert error[0] < error[1] < error[2]


def naive_lpips(maps: list[tuple[torch.Tensor, torch.Tensor]], linear: list[torch.Tensor] | None) -> float:
    total = 0.0
    for index, (a, b) in enumerate(maps):
        channels, height, width = a.shape
        layer = 0.0
        for y, x in itertools.product(range(height), range(width)):
            first, second = (m[:, y, x] / (m[:, y, x].norm() + 1e-10) for m in (a, b))
            weights = torch.ones(channels) if linear is None else linear[index].flatten()
            layer += (weights * (first - second) ** 2).sum().item()
        total += layer / (height * width)
    return total


def test_lpips_against_a_naive_loop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alex = AlexNet()
    torch.save({**alex.state_dict(), "classifier.6.bias": torch.zeros(1)}, tmp_path / "alexnet.pth")
    linear = [torch.rand(1, c, 1, 1) for c in (64, 192, 384, 256, 256)]
    torch.save({f"lin{i}.model.1.weight": w for i, w in enumerate(linear)}, tmp_path / "lin.pth")
    sr, hr = texture(80, 72), texture(80, 72, seed=1)
    maps = [(a[0], b[0]) for a, b in zip(alex(sr), alex(hr), strict=True)]
    for files, weights, name in (
        (["alexnet.pth", "lin.pth"], linear, "LPIPS, AlexNet"),
        (["alexnet.pth"], None, "LPIPS baseline (channels unweighted), AlexNet"),
    ):
        metric = load_lpips([tmp_path / file for file in files])
        assert metric.name == name
        assert metric(sr, hr).item() == pytest.approx(naive_lpips(maps, weights), rel=1e-4)
        assert metric(hr, hr).item() == 0


def test_lpips_of_squeezenet_against_a_naive_loop(tmp_path: Path) -> None:
    """Network and learned weights in one file, as safetensors."""
    torch.manual_seed(0)
    squeeze = SqueezeNet()
    linear = [torch.rand(1, c, 1, 1) for c in SqueezeNet.channels]
    heads = {f"lin{i}.model.1.weight": w for i, w in enumerate(linear)}
    save_file({**squeeze.state_dict(), **heads}, tmp_path / "squeeze.safetensors")
    sr, hr = texture(70, 67), texture(70, 67, seed=1)
    maps = [(a[0], b[0]) for a, b in zip(squeeze(sr), squeeze(hr), strict=True)]
    assert [m[0].shape[0] for m in maps] == SqueezeNet.channels
    metric = load_lpips([tmp_path / "squeeze.safetensors"])
    assert metric.name == "LPIPS, SqueezeNet"
    assert metric(sr, hr).item() == pytest.approx(naive_lpips(maps, linear), rel=1e-4)
    there = load_lpips([tmp_path / "squeeze.safetensors"]).to("meta")  # as to any other device: nothing stays behind
    assert there(sr.to("meta"), hr.to("meta")).device.type == "meta"
    save_file({**squeeze.state_dict(), "lin0.model.1.weight": linear[0]}, tmp_path / "few.safetensors")
    with pytest.raises(WeightsError, match="do not fit SqueezeNet"):
        load_lpips([tmp_path / "few.safetensors"])


def blurred(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    return as_photo(Photo(pixels=picture).to_pil().filter(ImageFilter.GaussianBlur(sigma))).pixels


def test_lpips_as_published(shared: Path) -> None:
    """Identical pictures have none, and it rises with blur; with the authors' weights."""
    metric = load_lpips([shared / "weights" / "lpips_squeeze.safetensors"])
    hr = texture(128, 128)
    found = [metric(blurred(hr, sigma), hr).item() for sigma in (1.0, 2.0, 4.0)]
    assert metric(hr, hr).item() == 0
    assert 0 < found[0] < found[1] < found[2]


def test_colour_error_counts_colour_and_not_texture() -> None:
    grey = torch.full((1, 3, 64, 48), 128 / 255)
    texture_alone = grey + 26 / 255 * (torch.arange(48) % 2 * 2 - 1)
    tinted = grey + torch.tensor((3.0, 0.0, -3.0)).view(1, 3, 1, 1) / 255
    assert colour_levels(texture_alone, grey).item() == pytest.approx(0, abs=1e-6)
    assert colour_levels(tinted, grey).item() == pytest.approx(2, abs=0.01)
    with pytest.raises(UsageError, match="at least 16 pixels a side"):
        colour_levels(grey[..., :8], grey[..., :8])


def test_lpips_with_vgg19_as_deep_as_the_file(tmp_path: Path, groups: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    vgg = VGG19("relu2_1")
    torch.save(vgg.state_dict(), tmp_path / "vgg.pth")
    metric = load_lpips([tmp_path / "vgg.pth"])
    assert metric.name == "LPIPS baseline (channels unweighted), VGG19 to relu2_1"
    sr, hr = texture(64, 64), texture(64, 64, seed=1)
    layers = ("relu1_1", "relu2_1")
    maps = [(a[0], b[0]) for a, b in zip(vgg(sr, layers), vgg(hr, layers), strict=True)]
    assert metric(sr, hr).item() == pytest.approx(naive_lpips(maps, None), rel=1e-4)
    assert isinstance(metric, LPIPS)
    out = tmp_path / "out.json"
    arguments = ["bench", str(groups), "--model", "bicubic", "--lpips", str(tmp_path / "vgg.pth"), "--output", str(out)]
    assert main(arguments) == 0
    assert "LPIPS is not measured" not in capsys.readouterr().err
    assert json.loads(out.read_text())["mean"]["lpips"] > 0
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "lin.pth")
    for files, message in (
        (["other.pth"], "no AlexNet, SqueezeNet or VGG19"),
        (["lin.pth"], "needs the weights of"),
        (["none"], "no such"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_lpips([tmp_path / file for file in files])


def test_names_of_a_manifest_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"name": "../../escaped", "truth": "t.png"}\n')
    with pytest.raises(UsageError, match=r"line 1 is wrong \(the name '../../escaped' is no file name"):
        open_dataset(tmp_path / "m.jsonl")
