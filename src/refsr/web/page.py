"""Web page: upload of photo and references; sliders, provenance map and download of the result.

Its function `upscale` is also an API endpoint for gradio's clients.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from refsr.assets import sample_path
from refsr.errors import RefSRError, UsageError
from refsr.extras import import_extra
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.models import RefSRModel
from refsr.resize import downscale_bicubic
from refsr.web.request import Format, Status, StoppedError, WebConfig, run_job

_TITLE: Final = "refsr: real detail from another sharp photo"
_ABOUT: Final = """# Real detail from another sharp photo
Give a blurry or small photo, and one or more sharp photos of something similar: another shot of the trip, the same
building, the other camera of the phone. They need not be aligned."""
_LEGEND: Final = (
    "In the map, detail is **real** where there is colour, one colour for each reference, and **guessed** where it is"
    " grey. Do not rely on guessed detail, least of all in faces and text."
)
_CSS: Final = """
.gradio-container {max-width: min(1200px, 100vw) !important; margin: auto}
#status {min-height: 2em}
[data-testid=status-tracker] {display: none !important}
"""
_CLEANUP_INTERVAL_S: Final = 10


def serve(model: RefSRModel, config: WebConfig, *, host: str, port: int) -> None:
    """Serve the page until Ctrl-C; uploads and results are kept in a temporary folder.

    Args:
        host: Address to listen at; 127.0.0.1 is reachable from this machine only.
        port: TCP port, 1 to 65535.

    Raises:
        MissingExtraError: gradio is not installed.
        UsageError: The address cannot be used.
    """
    folder = Path(tempfile.mkdtemp(prefix="refsr-web-"))
    # gradio reads these at import
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
    try:
        gr = import_extra("gradio", "the web page")
        page = _build(gr, model, config, folder)
        page.queue(max_size=config.max_waiting, default_concurrency_limit=1)
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=round(config.max_file_mib * 2**20),
            footer_links=["api"],
            css=_CSS,
            quiet=True,
            ssr_mode=False,
            prevent_thread_lock=True,
        )
        print(f"refsr is at http://{host}:{port} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{host}:{port} cannot be used ({reason}): choose another --port") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build(gr: Any, model: RefSRModel, config: WebConfig, folder: Path) -> Any:
    running: dict[str | None, threading.Event] = {}

    def upscale(
        photo: str | None, references: list[str] | None, kind: Format, visitor: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        if photo is None:
            raise gr.Error("Give a blurry photo first.", title="No photo", duration=None, print_exception=False)
        job = Path(tempfile.mkdtemp(prefix="job-", dir=folder))
        stop = running[visitor.session_hash] = threading.Event()
        try:
            paths = [Path(name) for name in references or ()]
            for found in run_job(Path(photo), paths, kind, job, model, config, stop):
                if isinstance(found, Status):
                    yield (_status_text(found), *(gr.skip(),) * 4)
                else:
                    sliders = ((str(found.before), str(found.after)), (str(found.without), str(found.after)))
                    yield (found.summary, *sliders, str(found.overlay), str(found.download))
        except StoppedError:
            yield ("Cancelled.", *(gr.skip(),) * 4)
        except (RefSRError, OSError) as error:
            reason = " ".join(str(error).split())
            raise gr.Error(reason, title="This did not work", duration=None, print_exception=False) from error
        finally:
            running.pop(visitor.session_hash, None)
            shutil.rmtree(job, ignore_errors=True)

    def cancel_job(visitor: gr.Request) -> None:
        if visitor.session_hash in running:
            running[visitor.session_hash].set()

    with gr.Blocks(title=_TITLE, delete_cache=(_CLEANUP_INTERVAL_S, int(config.keep_seconds))) as page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(min_width=300):
                photo = gr.Image(
                    label="Blurry photo", sources=["upload", "clipboard"], type="filepath", height=260, elem_id="photo"
                )
                photo.preprocess = _uploaded_file
                references = gr.File(
                    label="Sharp references", file_count="multiple", file_types=["image"], elem_id="references"
                )
                kind = gr.Radio(["PNG", "JPEG"], value="PNG", label="Download as")
                with gr.Row():
                    start = gr.Button(f"Enlarge {model.scale} times", variant="primary", elem_id="start")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                example = gr.Button("Take the example", variant="secondary", elem_id="example")
                gr.Markdown(_limits_text(config, model.scale))
            with gr.Column(min_width=300, scale=2):
                outputs = _outputs(gr)
        start.click(upscale, [photo, references, kind], outputs, api_name="upscale", show_progress="hidden")
        pictures = _example(folder, model.scale)
        example.click(lambda: pictures, None, [photo, references], api_visibility="private", queue=False)
        cancel.click(cancel_job, None, None, api_visibility="private", queue=False)
    return page


def _outputs(gr: Any) -> list[Any]:
    """Components that `upscale` fills, in its order."""
    status = gr.Markdown(elem_id="status")
    with gr.Tab("Before, after"):
        before_after = gr.ImageSlider(label="bicubic | refsr", elem_id="before-after", interactive=False)
    with gr.Tab("What is real"):
        overlay = gr.Image(label="map", elem_id="overlay", interactive=False, buttons=["download", "fullscreen"])
        gr.Markdown(_LEGEND)
    with gr.Tab("Without, with"):
        without_with = gr.ImageSlider(label="without | with", elem_id="without-with", interactive=False)
    download = gr.File(label="Download", elem_id="download", interactive=False)
    return [status, before_after, without_with, overlay, download]


def _uploaded_file(payload: Any) -> str | None:
    """The file as uploaded: gradio would decode the picture and drop its EXIF."""
    return None if payload is None else payload.path


def _status_text(status: Status) -> str:
    left = "" if status.seconds_left is None else f", about {max(1, round(status.seconds_left))} s left"
    return f"{status.text} ({status.share:.0%}{left})"


def _limits_text(config: WebConfig, scale: int) -> str:
    minutes = config.keep_seconds / 60
    return (
        f"Up to {config.max_references} references, {config.max_file_mib:g} MiB a file, {config.max_megapixels:g}"
        f" megapixels for the result ({scale} times as wide and high as the photo) and for each reference. Files are"
        f" deleted after {minutes:g} minutes."
    )


def _example(folder: Path, scale: int) -> tuple[str, list[str]]:
    """Files of the bundled pictures: blurry photo, and references."""
    truth = as_photo(sample_path("truth"))
    blurry, sharp = folder / "blurry.png", folder / "sharp.png"
    write_photo(blurry, Photo(pixels=downscale_bicubic(truth.pixels, scale)))
    write_photo(sharp, as_photo(sample_path("reference")))
    return str(blurry), [str(sharp)]
