"""Layout of the page: photo and references on one side, the result on the other; what it says is in `words`.

Its functions `upscale` and `upscale_to` are API endpoints for gradio's clients.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from refsr.assets import sample_path
from refsr.errors import UsageError
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.resize import downscale_bicubic
from refsr.web import show
from refsr.web.turns import Status, StoppedError
from refsr.web.uploads import Upload, as_upload
from refsr.web.visits import Visits, words_of
from refsr.web.web_config import SCALES, Format, WebConfig
from refsr.web.words import fixed_words

_TITLE: Final = "refsr: real detail from another sharp photo"
_CLEANUP_INTERVAL_S: Final = 10
_EXAMPLE_SCALE: Final = 4


@dataclass(frozen=True)
class _Result:
    """Components that a job fills."""

    idea: Any
    shown: Any
    summary: Any
    preview: Any
    loupe: Any
    given: Any
    cards: Any
    comparison: Any
    compare: Any
    compare_note: Any
    overlay: Any
    download: Any


def build_page(gr: Any, visits: Visits) -> tuple[Any, Any]:
    """The page, and its translations for `launch`.

    Args:
        gr: The module gradio, imported after its settings were made.
        visits: What happens when something is pressed.
    """
    config = visits.shop.config
    texts = gr.I18n(**fixed_words(_figures(config)))
    with gr.Blocks(title=_TITLE, delete_cache=(_CLEANUP_INTERVAL_S, int(config.keep_seconds))) as page:
        gr.Markdown(texts("about"))
        with gr.Row():
            with gr.Column(min_width=300, scale=2):
                photo, references = _inputs(gr, texts)
                scale, kind = _choices(gr, texts, config.scale or 4.0)
                texture = _texture(gr, texts, config.texture, visible=not visits.shop.blend.is_single)
                strength = _strength(gr, texts, visible=not visits.shop.blend.is_single)
                with gr.Row():
                    start = gr.Button(texts("start"), variant="primary", elem_id="start", min_width=120)
                    cancel = gr.Button(texts("cancel"), elem_id="cancel", min_width=80)
                status = gr.HTML(elem_id="status")
                example = gr.Button(texts("example"), elem_id="example", size="sm")
                gr.Markdown(texts("limits"), elem_id="limits")
            with gr.Column(min_width=300, scale=3):
                result = _result_of(gr, texts)
        wanted = [photo, references, kind, scale, texture]
        _restoring(gr, visits, (start, cancel), [*wanted, *strength], status, result)
        _offering(gr, visits, photo, scale)
        _looking(gr, visits, result)
        pictures = _example(visits.shop.folder)
        example.click(lambda: pictures, None, [photo, references], api_visibility="private", queue=False)
        _endpoints(gr, visits, wanted, [result.summary, result.overlay, result.download])
    return page, texts


def _inputs(gr: Any, texts: Callable[[str], Any]) -> tuple[Any, Any]:
    """Photo and references, which come as the files that were sent: gradio would decode them and drop their EXIF."""
    photo = gr.Image(
        label=texts("photo"),
        sources=["upload", "clipboard"],
        type="filepath",
        height=240,
        elem_id="photo",
        buttons=[],
    )
    photo.preprocess = _upload
    references = gr.File(
        label=texts("references"), file_count="multiple", file_types=["image"], height=150, elem_id="references"
    )
    references.preprocess = _uploads
    return photo, references


def _choices(gr: Any, texts: Callable[[str], Any], initial: float) -> tuple[Any, Any]:
    """Scale and format."""
    with gr.Row():
        scale = gr.Radio(
            [(f"{each:g}x", each) for each in SCALES],
            value=initial,
            label=texts("scale"),
            elem_id="scale",
            scale=3,
            min_width=270,
        )
        kind = gr.Radio(["PNG", "JPEG"], value="PNG", label=texts("kind"), elem_id="kind", scale=2, min_width=150)
    return scale, kind


def _texture(gr: Any, texts: Callable[[str], Any], initial: float, *, visible: bool) -> Any:
    """Share of the crisp weights."""
    return gr.Slider(
        0,
        1,
        value=initial,
        step=0.05,
        label=texts("texture"),
        info=texts("texture_info"),
        visible=visible,
        elem_id="texture",
    )


def _strength(gr: Any, texts: Callable[[str], Any], *, visible: bool) -> tuple[Any, Any]:
    """Whether the photo is measured, and in place of that a share of the weights for real photographs."""
    measured = gr.Checkbox(
        value=True, label=texts("measure"), info=texts("measure_info"), visible=visible, elem_id="measure"
    )
    denoise = gr.Slider(0, 1, value=0.5, step=0.05, label=texts("denoise"), visible=False, elem_id="denoise")
    measured.change(lambda on: gr.update(visible=not on), measured, denoise, api_visibility="private", queue=False)
    return measured, denoise


def _result_of(gr: Any, texts: Callable[[str], Any]) -> _Result:
    """The figure that explains it all, and in its place, once there is one, the result."""
    with gr.Column() as idea:
        gr.HTML(show.idea())
        gr.Markdown(texts("how"))
    with gr.Column(visible=False, elem_id="result") as shown:
        summary = gr.HTML(elem_id="summary")
        preview = gr.Image(label=texts("result"), elem_id="preview", interactive=False, buttons=[])
        loupe = gr.HTML(elem_id="loupe")
        download = gr.DownloadButton(texts("download"), variant="primary", elem_id="download")
        given = gr.Markdown(texts("given"), elem_id="given")
        cards = gr.HTML(elem_id="cards")
        with gr.Row() as comparison:
            compare = gr.Button(texts("compare"), elem_id="compare", size="sm")
            compare_note = gr.HTML(elem_id="compare-note")
        with gr.Accordion(texts("map"), open=False, elem_id="map"):
            overlay = gr.Image(show_label=False, elem_id="overlay", interactive=False, buttons=[])
            gr.Markdown(texts("map_about"))
    return _Result(
        idea=idea, shown=shown, summary=summary, preview=preview, loupe=loupe, download=download, given=given,
        cards=cards, comparison=comparison, compare=compare, compare_note=compare_note, overlay=overlay,
    )  # fmt: skip


def _offering(gr: Any, visits: Visits, photo: Any, scale: Any) -> None:
    """Choose the scale that suits a photo as soon as it is given."""

    def first_scale(given: Upload | None, visitor: gr.Request) -> float:
        return visits.first_scale(given, visitor)

    photo.upload(first_scale, photo, scale, api_visibility="private", queue=False)


def _restoring(
    gr: Any, visits: Visits, buttons: tuple[Any, Any], wanted: list[Any], status: Any, result: _Result
) -> None:
    """Let the first button restore, and the second one stop that."""

    def restore(
        photo: Upload | None,
        references: list[Upload],
        kind: Format,
        scale: float,
        texture: float,
        is_measured: bool,
        strength: float,
        visitor: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        words, denoise = words_of(visitor), None if is_measured else float(strength)
        yield {status: "", result.idea: gr.update(visible=True), result.shown: gr.update(visible=False)}
        try:
            for told in visits.restore(photo, references, kind, scale, texture, denoise, visitor):
                if isinstance(told, Status):
                    yield {status: show.step(told)}
                    continue
                has_references = bool(told.given)
                yield {
                    status: show.note(words("done", seconds=max(1, round(told.seconds)))),
                    result.idea: gr.update(visible=False),
                    result.shown: gr.update(visible=True),
                    result.summary: show.summary(told),
                    result.preview: str(told.preview),
                    result.loupe: visits.look(None, visitor),
                    result.given: gr.update(visible=has_references),
                    result.cards: show.cards(told.given),
                    result.comparison: gr.update(visible=has_references),
                    result.compare_note: visits.compare_note(visitor),
                    result.overlay: str(told.overlay),
                    result.download: str(told.download),
                }
        except StoppedError:
            yield {status: show.note(words("cancelled"))}
        except UsageError as error:
            yield {status: show.problem(str(error))}

    def cancel(visitor: gr.Request) -> None:
        visits.cancel(visitor)

    filled = [status, *vars(result).values()]
    begun = buttons[0].click(restore, wanted, filled, api_visibility="private", show_progress="hidden")
    begun.then(None, None, None, js=show.SCROLL, api_visibility="private")
    buttons[1].click(cancel, None, None, api_visibility="private", queue=False)


def _looking(gr: Any, visits: Visits, result: _Result) -> None:
    """Show the place that is touched in full size, and beside it what it would be without references."""

    def look(event: gr.SelectData, visitor: gr.Request) -> str:
        return visits.look(event.index, visitor)

    def compare(visitor: gr.Request) -> Iterator[dict[Any, Any]]:
        for note, loupe in visits.compare(visitor):
            yield {result.compare_note: note} | ({} if loupe is None else {result.loupe: loupe})

    result.preview.select(look, None, result.loupe, api_visibility="private", queue=False, show_progress="hidden")
    shown = [result.compare_note, result.loupe]
    result.compare.click(compare, None, shown, api_visibility="private", show_progress="hidden")


def _endpoints(gr: Any, visits: Visits, wanted: list[Any], outputs: list[Any]) -> None:
    """The API; its errors are exceptions of one line."""

    def upscale_to(
        photo: Upload | None, references: list[Upload], kind: Format, scale: float, texture: float, visitor: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        try:
            for told in visits.restore(photo, references, kind, scale, texture, None, visitor):
                if isinstance(told, Status):
                    yield (told.text, gr.skip(), gr.skip())
                else:
                    yield (told.summary, str(told.overlay), str(told.download))
        except (StoppedError, UsageError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    def upscale(
        photo: Upload | None, references: list[Upload], kind: Format, visitor: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        yield from upscale_to(photo, references, kind, 4.0, 0.0, visitor)

    called = gr.Button(visible=False)
    called.click(upscale, wanted[:3], outputs, api_name="upscale")
    called.click(upscale_to, wanted, outputs, api_name="upscale_to")


def _upload(payload: Any) -> Upload | None:
    return None if payload is None else as_upload(payload.path, payload.orig_name)


def _uploads(payload: Any) -> list[Upload]:
    return [] if payload is None else [as_upload(each.path, each.orig_name) for each in payload.root]


def _figures(config: WebConfig) -> dict[str, str]:
    """Figures that the page names."""
    return {
        "references": f"{config.max_references}",
        "file": f"{config.max_file_mib:g}",
        "request": f"{config.max_request_mib:g}",
        "megapixels": f"{config.max_megapixels:g}",
        "minutes": f"{config.keep_seconds / 60:.2g}",
    }


def _example(folder: Path) -> tuple[str, list[str]]:
    """Files of the bundled pictures: blurry photo, and references."""
    truth = as_photo(sample_path("truth"))
    blurry, sharp = folder / "blurry.png", folder / "sharp.png"
    write_photo(blurry, Photo(pixels=downscale_bicubic(truth.pixels, _EXAMPLE_SCALE)))
    write_photo(sharp, as_photo(sample_path("reference")))
    return str(blurry), [str(sharp)]
