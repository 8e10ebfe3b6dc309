"""Video files read and written frame by frame, with their sound, by PyAV."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from refsr.errors import ImageError, OutputError
from refsr.extras import import_extra
from refsr.io.files import check_writable
from refsr.wording import cause

Frame = Float[Tensor, "1 3 h w"]
Stamp = tuple[int, Fraction]
"""Time of a frame: a count, and the duration of one in seconds."""

_HD_LINES: Final = 720
_BT709, _UNTAGGED, _LIMITED_RANGE = 1, 2, 1


class VideoFile:
    """Video open for reading.

    Attributes:
        frames: Count of frames by the file's header; 0 if unknown.
        size_px: Height and width of the upright picture.
        left_out: Kinds of tracks that are not copied, such as "subtitle".
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
            with self._av.open(str(path)) as probe:
                first = next(probe.decode(video=0))
            self._container = self._av.open(str(path))
            self._video = self._container.streams.video[0]
        except (self._av.FFmpegError, OSError, IndexError, StopIteration) as error:
            raise ImageError(f"{path}: is no video that can be read ({cause(error)}): give another file") from error
        self._video.thread_type = "AUTO"
        self.frames = int(self._video.frames or 0)
        self.rate = Fraction(self._video.average_rate or 25)
        self._turns = round(first.rotation / 90)
        self.size_px = (first.height, first.width)[:: 1 if self._turns % 2 == 0 else -1]
        self.sound = tuple(self._container.streams.audio)
        kinds = [stream.type for stream in self._container.streams if stream.type not in ("video", "audio")]
        self.left_out = tuple(dict.fromkeys(kind for kind in kinds if kind != "data"))

    @property
    def time_base(self) -> Fraction:
        """Duration of a count of its time stamps, in seconds."""
        return Fraction(self._video.time_base or 1 / self.rate)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def read(self, sound: "VideoWriter | None" = None) -> Iterator[tuple[Frame, Stamp]]:
        """Yield each upright RGB frame, 0..1, with its time stamp.

        Args:
            sound: Writer for the packets of sound that lie between the frames.

        Raises:
            ImageError: The file is damaged.
        """
        audio = self.sound if sound is not None else ()
        count = 0
        try:
            for packet in self._container.demux(self._video, *audio):
                if packet.stream.type == "audio":
                    assert sound is not None
                    sound.write_sound(packet)
                    continue
                for frame in packet.decode():
                    stamp = (count, 1 / self.rate) if frame.pts is None else (frame.pts, frame.time_base)
                    yield self._pixels(frame), stamp
                    count += 1
        except self._av.FFmpegError as error:
            raise ImageError(f"{self.path}: is damaged ({cause(error)}): get it again") from error

    def _pixels(self, frame: Any) -> Frame:
        """Untagged colours are BT.709 from 720 lines on, BT.601 below, as players take them."""
        untagged = frame.colorspace == _UNTAGGED
        source = ("ITU709" if frame.height >= _HD_LINES else "ITU601") if untagged else None
        pixels = np.rot90(frame.to_ndarray(format="rgb24", src_colorspace=source), self._turns)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


class VideoWriter:
    """Video open for writing as H.264 in BT.709, with the sound of another video copied."""

    def __init__(self, path: Path, like: VideoFile, size_px: tuple[int, int], crf: int) -> None:
        self._av = like._av
        self._container = self._av.open(str(path), "w", format=None)
        self._video = self._container.add_stream(
            "libx264", rate=like.rate, options={"crf": str(crf), "preset": "medium"}
        )
        self._size_px = (size_px[0] // 2 * 2, size_px[1] // 2 * 2)  # H.264 with 4:2:0 needs even sides
        context = self._video.codec_context
        context.height, context.width = self._size_px
        context.pix_fmt = "yuv420p"
        context.time_base = like.time_base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        self._sound = {track.index: self._container.add_stream_from_template(track) for track in like.sound}

    def write(self, frame: Frame, stamp: Stamp) -> None:
        """Add an RGB frame, 0..1, with its time stamp from `VideoFile.read`."""
        height, width = self._size_px
        pixels = (frame[0, :, :height, :width].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        image = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace="ITU709")
        image.pts, image.time_base = stamp
        for packet in self._video.encode(image):
            self._container.mux(packet)

    def write_sound(self, packet: Any) -> None:
        """Add an encoded packet of sound."""
        if packet.dts is not None:
            packet.stream = self._sound[packet.stream.index]
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
        raise OutputError(f"{path}: cannot be written ({cause(error)}): write .mp4 or .mkv") from error
    finally:
        part.unlink(missing_ok=True)
