"""refsr video: a video and sharp stills."""

from pathlib import Path

from refsr.cli.console import progress_bar
from refsr.cli.options import MemoryOptions, Output
from refsr.device import Precision
from refsr.errors import OutputError
from refsr.video.upscale_video import VideoConfig, upscale_video


def video(
    source: Path,
    /,
    *,
    keyframes: Path,
    output: Output,
    most: int = 1,
    each_frame_anew: bool = False,
    crf: int = 16,
    precision: Precision = "auto",
    options: MemoryOptions = MemoryOptions(),
) -> None:
    """Enlarge a video four times, with real detail from sharp stills of the same things; the sound is kept.

    Args:
        source: The video.
        keyframes: Folder of stills; for each shot, those that fit are chosen.
        output: Video to write, .mp4 or .mkv.
        most: Stills for each frame, at the most.
        each_frame_anew: Match each frame by itself: slower, and it flickers more.
        crf: Quality of H.264, from 0, which loses nothing, to 51.
        precision: auto, fp32 or bf16, as for `refsr upscale`.

    Examples:
        refsr video holiday.mp4 --keyframes STILLS -o large.mp4
        refsr video holiday.mp4 --keyframes STILLS -o large.mkv --most 2 --crf 0
    """
    config = VideoConfig(
        most=most, carried=not each_frame_anew, crf=crf, memory_bytes=options.memory_bytes, precision=precision
    )
    if output.resolve() == source.resolve():
        raise OutputError(f"{output}: is the video given: choose another name for the result")
    with progress_bar(source.name) as progress:
        result = upscale_video(source, keyframes, output, options.load(), config, progress=progress)
    stills = ", ".join(f"{path.name} for {count}" for path, count in result.used.items()) or "none fits"
    print(f"{output}: {result.frames} frames, matched anew {result.searched} times; stills: {stills}")
    print(f"flicker: {result.flicker_levels:.2f} grey levels from frame to frame")
