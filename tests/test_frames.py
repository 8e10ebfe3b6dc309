"""Video files as cameras write them: variable rate, portrait, several tracks, no time stamps, colours."""

import struct
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch.nn.functional as F

from refsr.video.frames import VideoFile, writing

TICK = Fraction(1, 90_000)


def write_video(path: Path, ticks: Sequence[int], *, tracks: int = 0, size_px: tuple[int, int] = (48, 64)) -> None:
    """Frames of red, green and blue stripes at these times in 1/90,000 s, with silent tracks of sound."""
    stripes = np.zeros((*size_px, 3), np.uint8)
    third = size_px[1] // 3
    stripes[:, :third], stripes[:, third:-third], stripes[:, -third:] = (200, 30, 40), (30, 180, 60), (40, 60, 200)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=30, options={"crf": "1"})
        pictures.height, pictures.width = size_px
        pictures.pix_fmt = "yuv420p"
        pictures.codec_context.time_base = TICK
        sounds = [container.add_stream("aac", rate=44100) for _ in range(tracks)]
        for tick in ticks:
            frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
            frame.pts, frame.time_base = tick, TICK
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for sound in sounds:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 44100, 0
            container.mux(sound.encode(silence))
            container.mux(sound.encode())


def enlarge(source: Path, out: Path, times: int = 2) -> None:
    with closing(VideoFile(source)) as video:
        height, width = (side * times for side in video.size_px)
        with writing(out, video, (height, width), crf=1) as writer:
            for frame, stamp in video.read(writer):
                writer.write(F.interpolate(frame, scale_factor=times), stamp)


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize("ticks", [(0, 3000, 6000, 9000, 39_000, 42_000), (0, 3600, 12_600, 14_400, 81_000, 90_000)])
def test_frames_keep_their_own_times(tmp_path: Path, ticks: tuple[int, ...]) -> None:
    write_video(tmp_path / "in.mp4", ticks)
    enlarge(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == pytest.approx([tick / 90_000 for tick in ticks], abs=1e-3)


def test_a_stream_without_time_stamps_runs_at_its_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "in.h264", (0, 3000, 6000))
    enlarge(tmp_path / "in.h264", tmp_path / "out.mp4")
    steps = np.diff(times_of(tmp_path / "out.mp4"))
    assert len(steps) == 2
    assert steps[0] == pytest.approx(steps[1], abs=1e-3)


def test_a_portrait_video_comes_out_upright(tmp_path: Path) -> None:
    """With the display matrix of a phone that is held upright."""
    write_video(tmp_path / "in.mp4", (0, 3000))
    data = bytearray((tmp_path / "in.mp4").read_bytes())
    place = data.find(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000)
    (tmp_path / "in.mp4").write_bytes(data)
    with closing(VideoFile(tmp_path / "in.mp4")) as video:
        assert video.size_px == (64, 48)
        frame, _ = next(video.read())
    with av.open(str(tmp_path / "in.mp4")) as container:
        turned = next(container.decode(video=0))
    expected = np.rot90(turned.to_ndarray(format="rgb24"), round(turned.rotation / 90))
    assert np.array_equal((frame[0].permute(1, 2, 0) * 255).round().byte().numpy(), expected)
    red, blue = frame[0, :, 4, 24], frame[0, :, -4, 24]
    assert red[0] > red[2], "the left stripe of the sensor is at the top"
    assert blue[2] > blue[0]
    enlarge(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        upright = next(container.decode(video=0))
    assert (upright.height, upright.width, upright.rotation) == (128, 96, 0)


def test_large_results_have_the_colours_that_players_expect(tmp_path: Path) -> None:
    """Players take untagged video of 720 lines and more for BT.709, smaller one for BT.601."""
    write_video(tmp_path / "in.mp4", (0,), size_px=(192, 320))
    enlarge(tmp_path / "in.mp4", tmp_path / "out.mp4", times=4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == 1
    red = frame.to_ndarray(format="rgb24", src_colorspace="ITU709")[400, 200].astype(int)
    assert np.abs(red - (200, 30, 40)).max() < 6


def test_all_tracks_of_sound_are_copied(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", (0, 3000), tracks=2)
    enlarge(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 2
        heard = {packet.stream.index for packet in container.demux(container.streams.audio) if packet.size}
    assert heard == {1, 2}
