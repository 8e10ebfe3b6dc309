"""The queue, this machine's speed, and what follows from both: places, times, and refusals at once."""

import threading
from pathlib import Path

import pytest
from conftest import small_models, wait_for

from refsr.errors import UsageError
from refsr.models import Blend
from refsr.restore.upscale import Upscaled, upscale
from refsr.web.estimate import Speed, Work, measure_speed
from refsr.web.limits import check_room, check_work
from refsr.web.line import FullError, Line, Ticket
from refsr.web.web_config import SCALES, WebConfig
from refsr.web.words import Words

EN = Words("en")


def work(side: int, *reference_px: int) -> Work:
    """A square photo, four times as large."""
    return Work(result_px=(4 * side, 4 * side), lr_px=((side, side),), reference_px=reference_px)


def test_first_come_first_served() -> None:
    line, done, told = Line(8), [], []
    tickets = [line.join(10.0) for _ in range(4)]

    def run(number: int) -> None:
        line.wait(tickets[number], lambda ahead, seconds: told.append((number, ahead, seconds)), every_s=0.01)
        done.append(number)
        line.leave(tickets[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in (3, 2, 1)]
    for thread in threads:
        thread.start()
    wait_for(lambda: {number for number, *_ in told} == {1, 2, 3})
    assert done == []
    assert {(number, ahead) for number, ahead, _ in told} == {(1, 1), (2, 2), (3, 3)}
    assert all(seconds == 10 * ahead for _, ahead, seconds in told)  # nobody has begun yet
    run(0)
    for thread in threads:
        thread.join()
    assert done == [0, 1, 2, 3]


def test_the_queue_is_full_at_its_limit_and_those_who_leave_make_room() -> None:
    line = Line(2)
    first, second, third = line.join(1.0), line.join(1.0), line.join(1.0)
    with pytest.raises(FullError):
        line.join(1.0)
    line.leave(second)
    line.leave(second)
    line.join(1.0)
    for ticket in (first, third):
        line.leave(ticket)


def test_one_who_gives_up_leaves() -> None:
    line = Line(2)
    line.join(1.0)

    def give_up(ahead: int, seconds: float) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        line.wait(line.join(1.0), give_up)


def test_a_late_job_is_about_to_end() -> None:
    assert Ticket(expected_s=5.0, begun=None).left_s() == 5
    assert Ticket(expected_s=5.0, begun=-1e9).left_s() == 1


def test_more_work_takes_longer() -> None:
    speed = Speed(scale=4, halo_cells=32, alone_s=1e-5, transfer_s=5e-5, pose_s=0.5)
    sizes = [work(side) for side in (100, 200, 1000)]
    assert [speed.seconds(size) for size in sizes] == sorted(speed.seconds(size) for size in sizes)
    counts = [work(100, *(10**6,) * count) for count in range(4)]
    found = [speed.seconds(each) for each in counts]
    assert found == sorted(found)
    assert [speed.matching_s(each) for each in counts][:1] == [0]
    assert all(speed.matching_s(each) < speed.seconds(each) for each in counts)


def test_estimates_are_mended_by_jobs_that_end() -> None:
    speed, job = Speed(scale=4, halo_cells=0, alone_s=1e-4), work(100)
    assert speed.seconds(job) == pytest.approx(1)
    for _ in range(20):
        speed.learn(job, 3.0)
    assert speed.seconds(job) == pytest.approx(3, rel=0.01)
    for _ in range(50):
        speed.learn(job, 1e9)
    assert speed.seconds(job) <= 8.001


def test_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    models, config, asked = small_models(), WebConfig(), []

    def recorded(*pictures: object, **options: object) -> Upscaled:
        asked.append(pictures)
        return upscale(*pictures, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("refsr.restore.upscale.upscale", recorded)
    alone = measure_speed(Blend(models["bicubic"]), config)
    assert alone.alone_s > 0
    assert alone.transfer_s == alone.pose_s == 0
    assert len(asked) == 1
    speed = measure_speed(Blend(models["default"]), config)
    assert speed.seconds(work(25, 100)) > speed.seconds(work(25))
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [
        ((3000, 4000), 4.0, r"would have 192 megapixels, 64 are allowed here: shrink the photo to 999 x 749 pixels"),
        (
            (5000, 5000),
            1.0,
            r"would take about 4 min on this machine, and about 2 min are allowed: shrink the photo to",
        ),
        (
            (1000, 2000),
            4.0,
            r"would take about 5 min .* choose 2 times, or shrink the photo to 1[12]\d\d x [56]\d\d pixels",
        ),
    ],
)
def test_too_much_is_refused_with_what_would_do(shape: tuple[int, int], scale: float, message: str) -> None:
    speed = Speed(scale=4, halo_cells=0, alone_s=1.6e-4)  # 10 s a megapixel
    config = WebConfig(max_seconds=120.0)
    with pytest.raises(UsageError, match=message):
        check_work([shape], scale, config, speed, EN, softness=4.0)
    with pytest.raises(UsageError, match="[\u4e00-\u9fff]"):
        check_work([shape], scale, config, speed, Words("zh"), softness=4.0)


def test_what_is_named_is_taken() -> None:
    speed, config = Speed(scale=4, halo_cells=0, alone_s=1.6e-4), WebConfig(max_seconds=120.0)
    with pytest.raises(UsageError) as refused:
        check_work([(1000, 2000)], 4.0, config, speed, EN, softness=2.0)
    assert "choose 2 times" in str(refused.value)
    width, height = (int(word) for word in str(refused.value).split() if word.isdigit() and int(word) > 100)
    assert check_work([(height, width)], 4.0, config, speed, EN).result_px == (4 * height, 4 * width)
    assert check_work([(1000, 2000)], 2.0, config, speed, EN, softness=2.0).result_px == (2000, 4000)
    with pytest.raises(UsageError, match="allowed: shrink the photo to"):  # a sharp one is not shrunk first
        check_work([(1000, 2000)], 2.0, config, speed, EN)


def test_passes_are_counted() -> None:
    speed = Speed(scale=4, halo_cells=0, alone_s=1e-5)
    found = {scale: check_work([(100, 200)], scale, WebConfig(), speed, EN, 2.0) for scale in SCALES}
    cells = {scale: sum(height * width for height, width in each.lr_px) for scale, each in found.items()}
    assert cells == {1.0: 5_000, 2.0: 5_000, 4.0: 20_000, 8.0: 100_000}
    assert check_work([(100, 200)], 1.0, WebConfig(), speed, EN).lr_px == ()  # sharp: it stays as it is


def test_twelve_megapixels_are_taken_where_the_machine_is_able() -> None:
    speed = Speed(scale=4, halo_cells=32, alone_s=2e-5, transfer_s=5e-5, pose_s=1.0)
    for scale in (1.0, 2.0):
        check_work([(3000, 4000), (3000, 4000)], scale, WebConfig(), speed, EN, softness=2.0)
    speed.correction = 8.0
    with pytest.raises(UsageError, match="on this machine"):
        check_work([(3000, 4000), (3000, 4000)], 2.0, WebConfig(), speed, EN, softness=2.0)


def test_references_that_take_too_long_alone() -> None:
    speed = Speed(scale=4, halo_cells=0, alone_s=1e-5, pose_s=10.0)
    with pytest.raises(UsageError, match="choose fewer or smaller sharp photos"):
        check_work([(100, 100), *[(100, 100)] * 8], 4.0, WebConfig(max_seconds=60.0), speed, EN)


def test_a_full_disk(tmp_path: Path) -> None:
    config, job = WebConfig(max_total_mib=1.0), work(50)
    check_room(job, tmp_path, config, EN)
    (tmp_path / "of another visitor").write_bytes(bytes(900_000))
    with pytest.raises(UsageError, match="no room for more pictures at the moment: come back in 15 minutes"):
        check_room(job, tmp_path, config, EN)
