"""refsr video: a video, with sharp stills as references."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, RestoreOptions
from refsr.cli.verbs import verb
from refsr.errors import OutputError
from refsr.io.files import is_same_file
from refsr.video.upscale_video import VideoConfig, upscale_video
from refsr.wording import counted, times


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VideoOptions(RestoreOptions, VideoConfig):
    """Settings of a video's enlargement, and the model."""


@verb
def video(source: Path, /, *, keyframes: Path, output: Output, options: VideoOptions = VideoOptions()) -> None:
    """Enlarge a video, with real detail from sharp stills of the same things; the sound is copied.

    Args:
        source: Video to enlarge.
        keyframes: Folder of stills; those that fit are chosen for each shot.
        output: Video to write, .mp4 or .mkv.

    Examples:
        refsr video holiday.mp4 --keyframes STILLS -o large.mp4
        refsr video holiday.mp4 --keyframes STILLS -o large.mkv --most 2 --crf 0
    """
    if is_same_file(output, source):
        raise OutputError(f"{output}: is the video given: choose another name for the result")
    with progress_bar(source.name) as progress:
        result = upscale_video(source, keyframes, output, options.load_blend(), options, progress=progress)
    for kind in result.left_out:
        complain(f"{source}: its {kind} tracks are left out")
    for note in result.notes:
        complain(note)
    stills = ", ".join(f"{path.name} for {count}" for path, count in result.used.items()) or "none fits"
    print(f"{output}: {counted(result.frames, 'frame')}, matched anew {times(result.searched)}; stills: {stills}")
    print(f"flicker: {result.flicker_levels:.2f} grey levels from frame to frame")
