"""Videos: frames and sound in and out, stills chosen, matches carried."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import Told, agreement, fails, moved_view, smooth_field, texture
from PIL import Image
from torch import Tensor

from refsr.bench.metrics import psnr_db
from refsr.cli import main
from refsr.errors import UsageError
from refsr.io.photo import Photo, write_photo
from refsr.models import RefSRModel, load_blend, load_model
from refsr.resize import downscale_bicubic, resize
from refsr.restore.delicate import Delicate
from refsr.restore.pipeline import Matched, match
from refsr.search import search
from refsr.video.frames import VideoFile
from refsr.video.motion import carry
from refsr.video.upscale_video import VideoConfig, upscale_video

FRAMES = 10


def truth(sample: dict[str, Tensor], number: int) -> Tensor:
    """A frame of a camera that moves by two pixels of the result each time."""
    return sample["truth"][..., :192, 2 * number : 2 * number + 256]


@pytest.fixture
def files(sample: dict[str, Tensor], tmp_path: Path) -> dict[str, Path]:
    video = tmp_path / "in.mp4"
    with av.open(str(video), "w") as container:
        pictures = container.add_stream("libx264", rate=10, options={"crf": "1"})
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv444p"
        sound = container.add_stream("aac", rate=16000)
        for number in range(FRAMES):
            lr = downscale_bicubic(truth(sample, number), 4).clamp(0, 1)
            pixels = (lr[0].permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(pictures.encode(frame))
        tone = np.sin(np.arange(16000) / 5).astype(np.float32)[None] / 2
        heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        heard.sample_rate = 16000
        container.mux(sound.encode(heard))
        container.mux(sound.encode())
        container.mux(pictures.encode())
    stills = tmp_path / "stills"
    stills.mkdir()
    write_photo(stills / "same.png", Photo(pixels=sample["ref"]))
    write_photo(stills / "other.png", Photo(pixels=texture(200, 260, 3)))
    return {"video": video, "stills": stills, "out": tmp_path / "out.mp4"}


def frames_of(path: Path) -> list[Tensor]:
    video = VideoFile(path)
    found = [frame for frame, _ in video.read()]
    video.close()
    return found


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        packets: Any = container.demux(container.streams.audio[0])
        return [bytes(packet) for packet in packets if packet.size]


def test_frames_and_sound(
    files: dict[str, Path], shipped: RefSRModel, sample: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["out"].parent / "cache"))
    told = Told()
    result = upscale_video(files["video"], files["stills"], files["out"], shipped, VideoConfig(), progress=told)
    assert result.frames == FRAMES
    assert told[-1] == (FRAMES, FRAMES, "")
    assert result.used == {files["stills"] / "same.png": FRAMES}
    assert result.searched < FRAMES
    helped = frames_of(files["out"])
    assert [tuple(frame.shape) for frame in helped] == [(1, 3, 192, 256)] * FRAMES
    assert sound_of(files["out"]) == sound_of(files["video"])
    assert not list(files["out"].parent.glob(".*part*"))

    anew = upscale_video(files["video"], files["stills"], files["out"], shipped, VideoConfig(each_frame_anew=True))
    assert anew.searched == FRAMES
    assert result.flicker_levels < 1.01 * anew.flicker_levels
    frame_by_frame = frames_of(files["out"])
    (files["stills"] / "same.png").unlink()
    alone = upscale_video(files["video"], files["stills"], files["out"], shipped, VideoConfig())
    assert (alone.used, alone.searched) == ({}, 0)
    without = frames_of(files["out"])

    def quality(frames: list[Tensor]) -> float:
        return sum(psnr_db(f, truth(sample, n)).item() for n, f in enumerate(frames)) / FRAMES

    assert quality(helped) > quality(without) + 0.3
    assert quality(helped) > quality(frame_by_frame) - 0.1


@pytest.mark.parametrize(("scale", "size"), [(2, (96, 128)), (1.5, (72, 96))])
def test_other_sizes(
    files: dict[str, Path],
    shipped: RefSRModel,
    sample: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
    size: tuple[int, int],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["out"].parent / "cache"))
    result = upscale_video(files["video"], files["stills"], files["out"], shipped, VideoConfig(scale=scale))
    assert result.used == {files["stills"] / "same.png": FRAMES}
    made = frames_of(files["out"])
    assert [tuple(frame.shape[-2:]) for frame in made] == [size] * FRAMES
    assert min(psnr_db(f, resize(truth(sample, n), size)).item() for n, f in enumerate(made)) > 28


def test_impossible_sizes(files: dict[str, Path], shipped: RefSRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["out"].parent / "cache"))
    for config, message in (
        (VideoConfig(scale=8), "in.mp4: a video is enlarged 4 times at the most"),
        (VideoConfig(scale=1), "in.mp4: is as sharp as its size allows: enlarge it"),
        (VideoConfig(size=(4, 4)), "--size 4x4: is too small"),
    ):
        with pytest.raises(UsageError, match=message):
            upscale_video(files["video"], files["stills"], files["out"], shipped, config)
    assert not files["out"].exists()


def test_carried_matches_follow_what_moves() -> None:
    key = smooth_field(0, 80, 90)
    match = search(moved_view(key, 40, 50, 10, 12), [key], patch=1, engine="exact")
    for step in range(1, 6):
        query = moved_view(key, 40, 50, 10 + step, 12 + 2 * step)
        match = carry(query, key, match)
        exact = search(query, [key], patch=1, engine="exact")
        assert agreement(match, exact) > 0.9
        assert (match.score <= exact.score + 1e-5).all()
        row, column = match.position_cells[0, :, 20, 30].long().tolist()
        assert match.score[0, 0, 20, 30] == pytest.approx((query[0, :, 20, 30] * key[0, :, row, column]).sum().item())


def test_only_stills_near_in_time_are_tried(
    files: dict[str, Path], shipped: RefSRModel, sample: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["out"].parent / "cache"))
    (files["stills"] / "other.png").unlink()
    (files["stills"] / "same.png").rename(files["stills"] / "same_100s.png")
    for second in range(4):
        write_photo(files["stills"] / f"other_{second}.5s.png", Photo(pixels=texture(200, 260, second)))
    result = upscale_video(files["video"], files["stills"], files["out"], shipped, VideoConfig())
    assert result.used == {}


def test_faces_and_print_stay_faithful_for_a_while(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of crisp frames; found in the left half of the first one alone."""
    looked_at: list[Tensor] = []

    def found(frame: Tensor) -> Delicate | None:
        looked_at.append(frame)
        mask = torch.zeros(1, 1, *frame.shape[-2:])
        mask[..., : frame.shape[-1] // 2] = 1
        return Delicate(faces=1, lines=0, mask=mask) if len(looked_at) == 1 else None

    monkeypatch.setattr("refsr.video.upscale_video.find_delicate", found)
    blend, results = load_blend(device="cpu"), []
    for name, share in (("faithful", 0), ("crisp", 1)):
        out = tmp_path / f"{name}.mkv"
        config = VideoConfig(texture=share, quality="clean", crf=0)
        result = upscale_video(files["video"], files["stills"], out, blend, config)
        results.append(frames_of(out))
        assert [note for note in result.notes if "1 face likely" in note] == ["1 face likely: detail made crisp there"
            " could be false, so none is"][:share]  # fmt: skip
    assert len(looked_at) == FRAMES
    changed = [(255 * (a - b)).abs().mean((0, 1, 2)) for a, b in zip(*results, strict=True)]
    left, right = ([x[side].mean().item() for x in changed] for side in (slice(0, 112), slice(144, None)))
    assert left[0] < 0.3 * right[0]
    assert left[0] < left[4] < left[9]
    assert left[9] > 0.5 * right[9]


def test_the_command_and_bad_input(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shipped: RefSRModel
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(files["out"].parent / "cache"))
    video, stills, out = files["video"], files["stills"], files["out"]
    engines: list[str] = []

    def matched(*inputs: Any, engine: Any, **options: Any) -> Matched:
        engines.append(engine)
        return match(*inputs, engine=engine, **options)

    monkeypatch.setattr("refsr.video.upscale_video.match", matched)
    picture = (stills / "same.png").rename(stills / "same.bmp")
    with Image.open(picture) as image:
        image.save(stills / "same.gif", save_all=True, append_images=[image.rotate(90)])
    picture.unlink()
    (stills / "raw.dng").write_bytes(b"")
    command = ["video", str(video), "--keyframes", str(stills), "-o", str(out), "--device", "cpu"]
    assert main([*command, "--search", "exact", "--precision", "fp32", "--memory", "1GiB", "--model", "default"]) == 0
    assert set(engines) == {"exact"}
    said = capsys.readouterr()
    assert f"{FRAMES} frames" in said.out
    assert "refsr: left out 1 .dng file: raw files are not read" in said.err
    assert f"refsr: {stills / 'same.gif'}: holds 2 pictures: only the first is taken" in said.err
    was = out.read_bytes()
    broken = video.with_name("broken.mp4")
    broken.write_bytes(b"no video")
    for source, target, message in (
        (broken, out, "broken.mp4: is no video that can be read"),
        (stills / "same.gif", stills / "out.txt", "out.txt: cannot be written .*: write .mp4 or .mkv"),
        (video, video, "is the video given"),
        (video, out.parent / "nowhere" / "out.mp4", "does not exist"),
    ):
        fails(capsys, 2, message, "video", source, "--keyframes", stills, "-o", target, "--device", "cpu")
    assert out.read_bytes() == was
    with pytest.raises(UsageError, match="give 0 to 51"):
        VideoConfig(crf=52)
    with pytest.raises(UsageError, match="give 1 or more"):
        VideoConfig(most=0)
    with pytest.raises(UsageError, match="bicubic has no matches"):
        upscale_video(video, stills, out, load_model("bicubic", device="cpu"), VideoConfig())
