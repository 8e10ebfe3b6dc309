"""Frames in and out of video files, with their sound; by PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refsr.errors import ImageError, OutputError
from refsr.extras import import_extra
from refsr.io.files import check_writable

Frame = Float[Tensor, "1 3 h w"]


class VideoFile:
    """A video that is read.

    Attributes:
        frames: How many there are, as far as the file tells; else 0.
        size_px: Height and width.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ImageError: It is no video.
            MissingExtraError: PyAV is not installed.
        """
        self._av = import_extra("av", "enlarging videos")
        self.path = path
        try:
            self._container = self._av.open(str(path))
            self._video = self._container.streams.video[0]
        except (self._av.FFmpegError, OSError, IndexError) as error:
            raise ImageError(f"{path}: is no video that can be read ({error})") from error
        self._video.thread_type = "AUTO"
        self.frames = int(self._video.frames or 0)
        self.rate = Fraction(self._video.average_rate or 25)
        self.size_px = (int(self._video.height), int(self._video.width))

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def read(self, sound: "VideoWriter | None" = None) -> Iterator[tuple[Frame, Any]]:
        """Each frame, RGB, 0..1, with its time stamp; the sound goes to the writer on the way.

        Args:
            sound: Gets the packets of sound.

        Raises:
            ImageError: The file is damaged.
        """
        audio = self._container.streams.audio[:1] if sound is not None else ()
        try:
            for packet in self._container.demux(self._video, *audio):
                if packet.stream.type == "audio":
                    assert sound is not None
                    sound.write_sound(packet)
                    continue
                for frame in packet.decode():
                    pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                    yield torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, (frame.pts, frame.time_base)
        except self._av.FFmpegError as error:
            raise ImageError(f"{self.path}: is damaged ({error})") from error

    def sound(self) -> Any:
        """The first stream of sound, or none."""
        return self._container.streams.audio[0] if self._container.streams.audio else None


class VideoWriter:
    """A video that is written, as H.264, with the sound of another as it is."""

    def __init__(self, path: Path, like: VideoFile, size_px: tuple[int, int], crf: int) -> None:
        self._av = like._av
        self._container = self._av.open(str(path), "w", format=None)
        self._video = self._container.add_stream(
            "libx264", rate=like.rate, options={"crf": str(crf), "preset": "medium"}
        )
        self._size_px = (size_px[0] // 2 * 2, size_px[1] // 2 * 2)  # H.264 wants even sides
        self._video.height, self._video.width = self._size_px
        self._video.pix_fmt = "yuv420p"
        source = like.sound()
        self._sound = None if source is None else self._container.add_stream_from_template(source)

    def write(self, frame: Frame, stamp: Any) -> None:
        """Add a frame.

        Args:
            frame: RGB, 0..1.
            stamp: From `VideoFile.read`.
        """
        height, width = self._size_px
        pixels = (frame[0, :, :height, :width].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        made = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        made.pts, made.time_base = stamp
        for packet in self._video.encode(made):
            self._container.mux(packet)

    def write_sound(self, packet: Any) -> None:
        """Add a packet of sound as it is."""
        if self._sound is not None and packet.dts is not None:
            packet.stream = self._sound
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        for packet in self._video.encode():
            self._container.mux(packet)
        self._container.close()


@contextmanager
def writing(path: Path, like: VideoFile, size_px: tuple[int, int], crf: int) -> Iterator[VideoWriter]:
    """A writer beside the path, renamed when all is written: the path holds the old file or the whole new one.

    Raises:
        OutputError: It cannot be written, or its suffix names no kind of video.
    """
    check_writable(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        writer = VideoWriter(part, like, size_px, crf)
        yield writer
        writer.close()
        part.replace(path)
    except (like._av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, ImageError):
            raise
        raise OutputError(f"{path}: cannot be written ({' '.join(str(error).split())}): write .mp4 or .mkv") from error
    finally:
        part.unlink(missing_ok=True)
