"""The page: photo and references in, sliders, a map and a download out.

Its one function is an API as well, `upscale`, which gradio's clients can call.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from refsr.assets import sample_path
from refsr.errors import RefSRError, UsageError
from refsr.extras import import_extra
from refsr.image import Photo, as_photo, write_photo
from refsr.models import RefSRModel
from refsr.resize import downscale_bicubic
from refsr.web.work import Format, Limits, Status, do_job

_TITLE: Final = "refsr: real detail from another sharp photo"
_ABOUT: Final = """# Real detail from another sharp photo
Give a blurry or small photo, and one or more sharp photos of something similar: another shot of the trip, the same
building, the other camera of the phone. They need not be aligned."""
_LEGEND: Final = (
    "In the map, detail is **real** where there is colour, one colour for each reference, and **guessed** where it is"
    " grey. Do not rely on guessed detail, least of all in faces and text."
)
_CSS: Final = ".gradio-container {max-width: 1200px !important; margin: auto} #status {min-height: 2em}"
_SWEEP_S: Final = 10


def serve(model: RefSRModel, limits: Limits, *, host: str, port: int) -> None:
    """Serve the page until Ctrl-C; uploads and results lie in a folder of their own, which is deleted at the end.

    Args:
        model: The network.
        limits: Of every visitor.
        host: Address to listen at; 127.0.0.1 is this machine alone.
        port: To listen at.

    Raises:
        MissingExtraError: gradio is not installed.
        UsageError: The address cannot be used.
    """
    folder = Path(tempfile.mkdtemp(prefix="refsr-web-"))
    # gradio reads these when it is imported.
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
    try:
        gr = import_extra("gradio", "the web page")
        page = _build(gr, model, limits, folder)
        page.queue(max_size=limits.waiting, default_concurrency_limit=1)
        page.launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{limits.file_mib:g}mb",
            footer_links=["api"],
            css=_CSS,
            quiet=True,
            ssr_mode=False,
            prevent_thread_lock=True,
        )
        print(f"refsr is at http://{host}:{port} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be used ({' '.join(str(error).split())}): choose another --port"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build(gr: Any, model: RefSRModel, limits: Limits, folder: Path) -> Any:
    """The page, and its function."""

    class PhotoFile(gr.Image):  # type: ignore[misc]
        """A picture that reaches us as it was uploaded, with its EXIF; gradio does not decode it."""

        def preprocess(self, payload: Any) -> str | None:
            return None if payload is None else payload.path

        def get_block_name(self) -> str:
            return "image"

    def upscale(photo: str | None, references: list[str] | None, kind: Format) -> Iterator[tuple[Any, ...]]:
        if photo is None:
            raise gr.Error("Give a blurry photo first.", title="No photo")
        job = Path(tempfile.mkdtemp(prefix="job-", dir=folder))
        try:
            for told in do_job(Path(photo), [Path(name) for name in references or ()], kind, job, model, limits):
                if isinstance(told, Status):
                    yield (_said(told), *(gr.skip(),) * 4)
                else:
                    sliders = ((str(told.before), str(told.after)), (str(told.without), str(told.after)))
                    yield (told.summary, *sliders, str(told.overlay), str(told.download))
        except (RefSRError, OSError) as error:
            raise gr.Error(" ".join(str(error).split()), title="This did not work") from error
        finally:
            shutil.rmtree(job, ignore_errors=True)

    with gr.Blocks(title=_TITLE, delete_cache=(_SWEEP_S, int(limits.kept_seconds))) as page:
        gr.Markdown(_ABOUT)
        with gr.Row():
            with gr.Column(min_width=300):
                photo = PhotoFile(
                    label="Blurry photo", sources=["upload", "clipboard"], type="filepath", height=260, elem_id="photo"
                )
                references = gr.File(
                    label="Sharp references", file_count="multiple", file_types=["image"], elem_id="references"
                )
                kind = gr.Radio(["PNG", "JPEG"], value="PNG", label="Download as")
                with gr.Row():
                    start = gr.Button("Enlarge 4 times", variant="primary", elem_id="start")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                gr.Examples(
                    [_example(folder, model.scale)], [photo, references], label="Try this one", elem_id="example"
                )
                gr.Markdown(_limits_said(limits, model.scale))
            with gr.Column(min_width=300, scale=2):
                status = gr.Markdown(elem_id="status")
                with gr.Tab("Before and after"):
                    before_after = gr.ImageSlider(label="bicubic | refsr", elem_id="before-after", interactive=False)
                with gr.Tab("Which detail is real"):
                    overlay = gr.Image(label="map", elem_id="overlay", interactive=False)
                    gr.Markdown(_LEGEND)
                with gr.Tab("Without and with references"):
                    without_with = gr.ImageSlider(label="without | with", elem_id="without-with", interactive=False)
                download = gr.File(label="Download", elem_id="download", interactive=False)
        run = start.click(
            upscale,
            [photo, references, kind],
            [status, before_after, without_with, overlay, download],
            api_name="upscale",
            show_progress="hidden",
        )
        cancel.click(lambda: "Cancelled.", None, status, cancels=[run], api_visibility="private")
    return page


def _said(status: Status) -> str:
    left = "" if status.seconds_left is None else f", about {max(1, round(status.seconds_left))} s left"
    return f"{status.text} ({status.share:.0%}{left})"


def _limits_said(limits: Limits, scale: int) -> str:
    minutes = limits.kept_seconds / 60
    return (
        f"Up to {limits.references} references, {limits.file_mib:g} MiB a file, {limits.megapixels:g} megapixels for"
        f" the result ({scale} times as wide and high as the photo) and for each reference. Files are deleted after"
        f" {minutes:g} minutes."
    )


def _example(folder: Path, scale: int) -> Sequence[Any]:
    """The bundled pictures, as a visitor would have them."""
    truth = as_photo(sample_path("truth"))
    blurry, sharp = folder / "blurry.png", folder / "sharp.png"
    write_photo(blurry, Photo(pixels=downscale_bicubic(truth.pixels, scale)))
    write_photo(sharp, as_photo(sample_path("reference")))
    return [str(blurry), [str(sharp)]]
