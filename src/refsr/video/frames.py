"""Video files read and written frame by frame, with their sound, by PyAV."""

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
    """Video open for reading.

    Attributes:
        frames: Count of frames by the file's header; 0 if unknown.
        size_px: Height and width.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            ImageError: The file is missing, or no video.
            MissingExtraError: PyAV is not installed.
        """
        self._av = import_extra("av", "enlarging videos")
        self.path = path
        try:
            self._container = self._av.open(str(path))
            self._video = self._container.streams.video[0]
        except (self._av.FFmpegError, OSError, IndexError) as error:
            raise ImageError(f"{path}: is no video that can be read ({error}): give another file") from error
        self._video.thread_type = "AUTO"
        self.frames = int(self._video.frames or 0)
        self.rate = Fraction(self._video.average_rate or 25)
        self.size_px = (int(self._video.height), int(self._video.width))

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, sound: "VideoWriter | None" = None) -> Iterator[tuple[Frame, Any]]:
        """Yield each RGB frame, 0..1, with its time stamp (a count, and the duration of one in seconds).

        Args:
            sound: Writer for the packets of sound that lie between the frames.

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
            raise ImageError(f"{self.path}: is damaged ({error}): get it again") from error


class VideoWriter:
    """Video open for writing as H.264, with the sound of another video copied."""

    def __init__(self, path: Path, like: VideoFile, size_px: tuple[int, int], crf: int) -> None:
        self._av = like._av
        self._container = self._av.open(str(path), "w", format=None)
        self._video = self._container.add_stream(
            "libx264", rate=like.rate, options={"crf": str(crf), "preset": "medium"}
        )
        self._size_px = (size_px[0] // 2 * 2, size_px[1] // 2 * 2)  # H.264 with 4:2:0 needs even sides
        self._video.height, self._video.width = self._size_px
        self._video.pix_fmt = "yuv420p"
        audio = like._container.streams.audio[:1]
        self._sound = self._container.add_stream_from_template(audio[0]) if audio else None

    def write(self, frame: Frame, stamp: Any) -> None:
        """Add an RGB frame, 0..1, with its time stamp from `VideoFile.read`."""
        height, width = self._size_px
        pixels = (frame[0, :, :height, :width].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        image = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        image.pts, image.time_base = stamp
        for packet in self._video.encode(image):
            self._container.mux(packet)

    def write_sound(self, packet: Any) -> None:
        """Add an encoded packet of sound."""
        if self._sound is not None and packet.dts is not None:
            packet.stream = self._sound
            self._container.mux(packet)

    def close(self) -> None:
        """Flush the encoder and close the file."""
        for packet in self._video.encode():
            self._container.mux(packet)
        self._container.close()


@contextmanager
def writing(path: Path, like: VideoFile, size_px: tuple[int, int], crf: int) -> Iterator[VideoWriter]:
    """Writer of a temporary file beside the path, renamed at the end: the path never holds an incomplete video.

    Raises:
        OutputError: The file cannot be written, or its suffix names no video format.
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
