"""Many photos: lists read, each job done once, whatever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch
from conftest import Told, fails, wait_for
from PIL import Image

from refsr.batch.jobs import Job, JobOptions, read_jobs
from refsr.batch.runner import STATE_FILE, Setup, run_batch, run_on_cluster
from refsr.bench.metrics import psnr_db
from refsr.cli import main
from refsr.errors import MissingExtraError, OutputError, UsageError
from refsr.io.files import claim
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.io.workers import Workers

PLAIN = JobOptions()
BICUBIC = Setup(model="bicubic", device="cpu")


def picture(path: Path, seed: int, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (torch.rand(side, side + seed % 5, 3, generator=torch.Generator().manual_seed(seed)) * 255).byte()
    Image.fromarray(pixels.numpy()).save(path)
    return path


def width(path: Path) -> int:
    """Of a picture that can be read whole."""
    with Image.open(path) as image:
        image.load()
        return image.width


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(4):
        picture(tmp_path / "in" / ("sub" if number > 2 else "") / f"{number} ü.png", number)
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    (tmp_path / "in" / "notes.txt").write_text("")
    return tmp_path / "in"


def test_a_folder_is_one_job_a_photo(photos: Path) -> None:
    jobs = read_jobs(photos, PLAIN, photos / "out")
    assert [str(job.output) for job in jobs] == ["0 ü.png", "1 ü.png", "2 ü.png", "sub/3 ü.png"]
    assert all(job.image == photos / job.output for job in jobs)
    picture(photos / "out" / "0 ü.png", 0)
    assert len(read_jobs(photos, PLAIN, photos / "out", ".jpg")) == 4
    picture(photos / "0 ü.jpg", 0)
    with pytest.raises(UsageError, match=r"would both write 0 ü.png: name their outputs"):
        read_jobs(photos, PLAIN, photos / "out", ".png")


def test_results_that_would_overwrite_each_other_are_refused(photos: Path) -> None:
    """With maps, two photos whose names differ in the suffix alone; a photo that is named like another one's map."""
    picture(photos / "0 ü.jpg", 0)
    mapped = replace(PLAIN, provenance=True)
    assert len(read_jobs(photos, PLAIN, photos / "out")) == 5
    with pytest.raises(UsageError, match=r"would both write 0 ü.map.png"):
        read_jobs(photos, mapped, photos / "out")
    (photos / "0 ü.jpg").rename(photos / "1 ü.map.png")
    with pytest.raises(UsageError, match=r"would both write 1 ü.map.png"):
        read_jobs(photos, mapped, photos / "out")


def test_formats_that_are_not_written_become_png(tmp_path: Path) -> None:
    for name in ("a.HEIC", "b.bmp", "c.jpg"):
        (tmp_path / name).touch()
    found = [str(job.output) for job in read_jobs(tmp_path, PLAIN, tmp_path / "out")]
    assert found == ["a.png", "b.png", "c.jpg"]


@pytest.mark.parametrize("name", ["n" * 300 + ".png", "a\0.png"])
def test_outputs_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"input": "a.png", "output": name}) + "\n")
    with pytest.raises(UsageError, match=r"line 1 is wrong: output .* is no file name: shorten it"):
        read_jobs(tmp_path / "jobs.jsonl", PLAIN, tmp_path / "out")


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(
        "\ufeffinput,references,output,search,provenance\na.png,r 1.jpg; r2.jpg,x/a.png,exact,yes\nb.png,,,,\n",
        encoding="utf-8",
    )
    (tmp_path / "jobs.jsonl").write_text(
        '{"input": "a.png", "references": ["r 1.jpg", "r2.jpg"], "output": "x/a.png", "search": "exact",'
        ' "provenance": true}'
        '\n\n{"input": "b.png"}\n'
    )
    default = JobOptions(references=(Path("d.jpg"),))
    expected = [
        Job(
            image=tmp_path / "a.png",
            output=PurePath("x/a.png"),
            options=JobOptions(references=(tmp_path / "r 1.jpg", tmp_path / "r2.jpg"), engine="exact", provenance=True),
        ),
        Job(image=tmp_path / "b.png", output=PurePath("b.png"), options=default),
    ]
    for name in ("jobs.csv", "jobs.jsonl"):
        assert read_jobs(tmp_path / name, default, tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("j.csv", "input,colour\na.png,red\n", r"line 2 is wrong: 'colour' is none of input, references"),
        ("j.csv", "input,output\na.png\n", "line 2 has not as many fields as the head"),
        ("j.csv", "input\n", "holds no job"),
        ("j.csv", b"\xff\xfe\xfa", "cannot be read as UTF-8"),
        ("j.jsonl", "{", "line 1 is no JSON"),
        ("j.jsonl", "[1]", "line 1 is no object"),
        ("j.jsonl", "{}", r"line 1 is wrong: .*`input`"),
        ("j.jsonl", '{"input": "a.png", "output": "../a.png"}', "leads out of the folder"),
        ("j.jsonl", '{"input": "a.png", "search": "best"}', "search 'best' is none of auto, exact"),
        ("j.jsonl", '{"input": "a.png", "provenance": "maybe"}', "neither true nor false"),
        ("j.jsonl", '{"input": "a.png"}\n{"input": "sub/a.png"}', "would both write a.png: name their outputs"),
        ("j.txt", "", "give a folder, a .csv file or a .jsonl file"),
        (None, "", "no such folder or list"),
    ],
)
def test_bad_lists(tmp_path: Path, name: str | None, content: str | bytes, message: str) -> None:
    source = tmp_path / (name or "nowhere")
    if name:
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message):
        read_jobs(source, PLAIN, tmp_path / "out")


def test_each_job_is_done_once_and_failures_are_told(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG nothing")
    out = tmp_path / "out"
    told = Told()
    jobs = read_jobs(photos, PLAIN, out)
    result = run_batch(jobs, out, BICUBIC, processes=2, progress=told)
    assert (result.done, result.before) == (4, 0)
    (failed,) = result.failed
    assert failed.job.image == photos / "broken.png"
    assert "broken.png" in str(failed.reason)
    assert told[-1] == (5, 5, "")
    for job in jobs:
        if job != failed.job:
            assert width(out / job.output) == 4 * width(job.image)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}

    picture(photos / "broken.png", 9)
    again = run_batch(jobs, out, BICUBIC, processes=1)
    assert (again.done, again.before, again.failed) == (1, 4, ())
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())


def test_foreign_and_other_results_are_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    picture(out / "0 ü.png", 1)
    jobs = read_jobs(photos, PLAIN, out)
    with pytest.raises(OutputError, match=r"0 ü.png: exists, and was not made by refsr batch"):
        run_batch(jobs, out, BICUBIC, processes=1)
    assert not (out / STATE_FILE).exists()
    (out / "0 ü.png").unlink()
    run_batch(jobs, out, BICUBIC, processes=1)
    with pytest.raises(OutputError, match=r"was made from other inputs or options: delete it"):
        run_batch(read_jobs(photos, JobOptions(engine="exact"), out), out, BICUBIC, processes=1)
    with claim(out / ".lock"), pytest.raises(OutputError, match="another process is at work in it"):
        run_batch(jobs, out, BICUBIC, processes=1)
    state = json.loads((out / STATE_FILE).read_text())
    (out / STATE_FILE).write_text(json.dumps(state["digests"]))  # as earlier releases wrote it
    assert run_batch(jobs, out, BICUBIC, processes=1).before == 4
    assert json.loads((out / STATE_FILE).read_text()) == state
    for damaged in ("{", "[]", '{"kind": "bench"}', json.dumps(state | {"version": 99})):
        (out / STATE_FILE).write_text(damaged)
        with pytest.raises(OutputError, match="json: is unreadable, damaged or of a newer refsr"):
            run_batch(jobs, out, BICUBIC, processes=1)


def _dies(folder: str) -> str:
    """Dies at once the first time; always where it is told to."""
    marker = Path(folder) / "tried"
    if not marker.exists() or (Path(folder) / "always").exists():
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return folder


def test_a_killed_process_costs_no_job(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "always").write_text("")
    (folders[0] / "tried").write_text("")
    with Workers(2) as workers:
        found = set(workers.map_unordered(_dies, map(str, folders), lambda item, code: f"{item} {code}"))
        assert found == {str(folders[0]), f"{folders[1]} -9", str(folders[2]), str(folders[3])}
        with pytest.raises(UsageError, match="a worker process was killed .* allow less"):
            list(workers.map_unordered(_dies, [str(folders[1])]))
        assert sorted(workers.map_unordered(abs, range(-9, 0))) == list(range(1, 10))


def test_workers_raise_what_their_task_raises_and_may_be_left_early(tmp_path: Path) -> None:
    for processes in (0, 2):
        with Workers(processes, _prepare) as workers:
            with pytest.raises(OSError, match="broken"):
                list(workers.map_unordered(_fails, range(4)))
            assert next(workers.map_unordered(abs, range(-9, 0))) in range(1, 10)
            assert sorted(workers.map_unordered(_prepared, ["", ""])) == ["yes" if processes else "no"] * 2


def _fails(_: int) -> int:
    raise OSError("broken")


def _prepare() -> None:
    os.environ["PREPARED"] = "yes"


def _prepared(_: str) -> str:
    return os.environ.get("PREPARED", "no")


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "broken.png").write_bytes(b"")
    (photos / "raw.NEF").write_bytes(b"")
    out = tmp_path / "out"
    reference = picture(tmp_path / "ref.png", 7, 64)
    arguments = ["batch", str(photos), "-o", str(out), "--ref", str(reference), "--format", "jpg", "--provenance"]
    assert main([*arguments, "--processes", "2", "--device", "cpu"]) == 3
    shown = capsys.readouterr()
    assert shown.out == f"4 of 5 photos done, 1 failed: {out}\n"
    failed, left_out = f"refsr: failed {photos / 'broken.png'}: the file is empty", "refsr: left out 1 .nef file: raw"
    assert [line.startswith(failed) for line in shown.err.splitlines()].count(True) == 1
    assert [line.startswith(left_out) for line in shown.err.splitlines()].count(True) == 1
    told = [line for line in shown.err.splitlines() if "shows other things" in line]
    assert [line.partition(": ")[2] for line in told] == [
        f"{photos / name} ü.png: {reference} shows other things than the photo, and was not used"
        for name in ("0", "1", "2", "sub/3")
    ]
    assert sorted(path.name for path in (out / "sub").iterdir()) == ["3 ü.jpg", "3 ü.map.png"]
    (photos / "broken.png").unlink()
    assert main([*arguments, "--processes", "1", "--device", "cpu"]) == 0
    assert "4 were before" in capsys.readouterr().out
    fails(capsys, 2, "give a count", "batch", photos, "-o", out, "--processes", "-1")
    fails(capsys, 2, "no such folder or list", "batch", tmp_path / "nowhere", "-o", out)


def test_results_of_another_size_and_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that a job is told reaches it; what is spared is shared by the processes, and no part of its digest."""
    told: list[dict[str, Any]] = []
    original = JobOptions.upscale

    def upscale(options: JobOptions, *pictures: Any, **how: Any) -> Any:
        told.append(how)
        return original(options, *pictures, **how)

    monkeypatch.setattr(JobOptions, "upscale", upscale)
    monkeypatch.setattr("refsr.cli.batch.spare_bytes", lambda processes: 3 * 2**30 // processes)
    command = ["batch", str(photos), "-o", str(tmp_path / "out"), "--model", "bicubic", "--device", "cpu"]
    monkeypatch.setattr("refsr.cli.batch.count_processes", lambda _: 1)
    monkeypatch.setattr("refsr.batch.runner.Workers", lambda _: Workers(0))
    assert main([*command, "--scale", "2"]) == 0
    assert width(tmp_path / "out" / "0 ü.png") == 32
    assert [how["memory_bytes"] for how in told] == [3 * 2**30] * 4
    monkeypatch.setattr("refsr.cli.batch.spare_bytes", lambda _: 2**31)
    assert main([*command, "--scale", "2"]) == 0
    assert len(told) == 4, "no result is made twice"
    capsys.readouterr()
    fails(capsys, 2, "was made from other inputs or options", *command, "--scale", "3")


def test_crisp_results(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The texture reaches the pictures, and is refused at once where it cannot be had."""
    command = ["batch", str(photos), "--processes", "1", "--device", "cpu"]
    for name, texture in (("faithful", "0"), ("crisp", "1")):
        assert main([*command, "-o", str(tmp_path / name), "--texture", texture]) == 0
    first, second = (as_photo(tmp_path / name / "0 ü.png").pixels for name in ("faithful", "crisp"))
    assert 255 * (first - second).abs().max() > 2
    capsys.readouterr()
    fails(capsys, 2, "was made from other inputs or options", *command, "-o", tmp_path / "crisp", "--texture", "0.5")
    fails(capsys, 2, "--texture 2: give a share", *command, "-o", tmp_path / "out", "--texture", "2")
    alone = (*command, "-o", tmp_path / "out", "--texture", "1", "--model", "default")
    fails(capsys, 2, "use --model auto", *alone)
    assert not (tmp_path / "out").exists()


def test_what_was_not_read_of_a_photo_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, if it is a reference of all; and what could not be read of an album."""
    for name in ("in/a.jpg", "in/b.jpg", "ref.jpg"):
        path = picture(tmp_path / name, 0, 64)
        path.write_bytes(path.read_bytes()[:1500])
    for name in ("in/a.jpg", "ref.jpg"):
        with pytest.raises(OSError, match="truncated"), Image.open(tmp_path / name) as image:
            image.load()
    arguments = ["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--ref", str(tmp_path / "ref.jpg")]
    assert main([*arguments, "--processes", "1", "--device", "cpu"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "ends early: the last" in line]
    assert [line.split(": ")[1] for line in told] == [
        str(tmp_path / name) for name in ("in/a.jpg", "ref.jpg", "in/b.jpg")
    ]


def test_photos_that_stay_as_they_are_are_named(tmp_path: Path, sample: dict[str, torch.Tensor]) -> None:
    photos = tmp_path / "in"
    photos.mkdir()
    for name in ("a", "b"):
        write_photo(photos / f"{name}.png", Photo(pixels=sample["truth"]))
    jobs = read_jobs(photos, JobOptions(scale=1), tmp_path / "out")
    result = run_batch(jobs, tmp_path / "out", Setup(model="bicubic", device="cpu"), processes=0)
    assert [note for outcome in result.remarked for note in outcome.notes] == [
        f"{photos / name}.png: the photo is as sharp as its size allows, and stays as it is" for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "9"], "--scale 9: give a number from 1 to 8"),
        (["--scale", "2", "--size", "90x90"], "--scale 2 and --size 90x90: give one of them, not both"),
        (["-o", "{photos}"], "lies in the folder of results, .*: choose another folder for them"),
        (["-o", "{photos}/.."], "lies in the folder of results, .*: choose another folder for them"),
    ],
)
def test_what_no_photo_could_become_is_refused_at_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [argument.format(photos=photos) for argument in arguments]
    given = given if "-o" in given else [*given, "-o", str(tmp_path / "out")]
    fails(capsys, 2, message, "batch", photos, *given)
    assert not (tmp_path / "out").exists()


def test_references_of_an_album(
    photos: Path, tmp_path: Path, sample: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_photo(photos / "0 ü.png", Photo(pixels=sample["lr"]))
    (tmp_path / "album").mkdir()
    write_photo(tmp_path / "album" / "same.png", Photo(pixels=sample["ref"]))
    jobs = read_jobs(photos, JobOptions(album=tmp_path / "album"), tmp_path / "out")
    setup = Setup(device="cpu")
    assert run_batch(jobs, tmp_path / "out", setup, processes=1).failed == ()
    alone = run_batch(read_jobs(photos, PLAIN, tmp_path / "alone"), tmp_path / "alone", setup, processes=1)
    assert alone.failed == ()
    helped, guessed = (as_photo(tmp_path / name / "0 ü.png").pixels for name in ("out", "alone"))
    assert psnr_db(helped, sample["truth"]) > psnr_db(guessed, sample["truth"]) + 0.3
    missing = read_jobs(photos, JobOptions(album=tmp_path / "nowhere"), tmp_path / "none")
    with pytest.raises(UsageError, match="nowhere: no such folder: name a folder of photos"):
        run_batch(missing, tmp_path / "none", setup, processes=1)
    file = read_jobs(photos, JobOptions(album=photos / "0 ü.png"), tmp_path / "none")
    with pytest.raises(UsageError, match=r"0 ü.png: a file, not a folder: name a folder of photos"):
        run_batch(file, tmp_path / "none", setup, processes=1)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_goes_on(tmp_path: Path) -> None:
    """Nothing is done twice, nothing is lost, nothing is half-written."""
    for number in range(40):
        picture(tmp_path / "in" / f"{number}.png", number, 64)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "refsr", "batch", str(tmp_path / "in"), "-o", str(out)]
    command += ["--processes", "2", "--device", "cpu"]
    dice = random.Random(0)
    seen: dict[Path, tuple[int, int]] = {}
    for _ in range(4):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda process=process: process.poll() is not None or len(list(out.glob("*.png"))) > len(seen))  # type: ignore[misc]
        time.sleep(dice.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in out.glob("*.png"):
            stat = path.stat()
            assert seen.setdefault(path, (stat.st_mtime_ns, stat.st_ino)) == (stat.st_mtime_ns, stat.st_ino)
            width(path)
    assert 0 < len(seen) < 40
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"{40 - len(seen)} of 40 photos done, {len(seen)} were before, 0 failed" in done.stdout
    assert len(list(out.glob("*.png"))) == 40
    for path, was in seen.items():
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == was
    assert not [path for path in out.rglob(".*") if path.suffix == ".part"]
    assert len(json.loads((out / STATE_FILE).read_text())["digests"]) == 40


@pytest.mark.slow
def test_a_cluster_of_two_processes_of_which_one_is_killed(photos: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'refsr[ray]'")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "always").write_text("")
    for folder in folders[2:]:
        (folder / "tried").write_text("")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    try:
        items = [str(folder) for folder in folders]
        found = run_on_cluster(_dies, items, lambda item, code: f"{item} {code}", address=None, threads=1)
        assert set(found) == {str(folders[0]), f"{folders[1]} -9", str(folders[2]), str(folders[3])}
        jobs = read_jobs(photos, PLAIN, tmp_path / "out")
        result = run_batch(jobs, tmp_path / "out", BICUBIC, processes=0, where="ray")
        assert (result.done, result.failed) == (4, ())
        assert run_batch(jobs, tmp_path / "out", BICUBIC, processes=0, where="ray").before == 4
    finally:
        ray.shutdown()


def test_ray_is_an_extra(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'refsr\[ray\]'"):
        run_batch(read_jobs(photos, PLAIN, tmp_path / "out"), tmp_path / "out", BICUBIC, processes=0, where="ray")


def test_a_missing_reference_of_all_jobs_is_told_at_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("batch", photos, "-o", tmp_path / "out", "--ref", tmp_path / "none.png", "--model", "bicubic")
    fails(capsys, 2, "none.png: no such file: check the name", *arguments)
    assert not (tmp_path / "out").exists()
