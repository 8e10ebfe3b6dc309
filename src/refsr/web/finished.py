"""A finished job: the file to download, small pictures for the page, and what each reference gave, in words."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch.nn.functional as F
from PIL import Image

from refsr.io.photo import Photo
from refsr.restore.posed import NO_SHARPER, OTHER_THINGS, THE_PHOTO
from refsr.restore.upscale import Upscaled
from refsr.web.estimate import Work
from refsr.web.kept_results import Kept
from refsr.web.uploads import Order
from refsr.web.words import Words

SHOWN_PX: Final = 1600
"""Long side of the pictures on the page; the download has full size."""

_THUMBNAIL_PX: Final = 160
_LEAST_SHARE: Final = 0.005
"""Share of the picture below which a reference gave nothing to speak of."""

_REASONS: Final = {OTHER_THINGS: "unfit", NO_SHARPER: "gave_nothing", THE_PHOTO: "same"}
"""What `Upscaled.unfit` says, in the visitor's words."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a reference gave: its name, a sentence, and a small picture of it."""

    name: str
    text: str
    thumbnail: Image.Image


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """A finished job.

    Attributes:
        download: File of the result in full size, with the photo's metadata.
        preview: File of the result, reduced to the page's size.
        overlay: File of the map, reduced: which detail comes from which reference.
        summary: Size, and the share of real detail, in a sentence.
        given: What each reference gave.
        notes: Lines about what was not read of the pictures, or not done.
        kept: The result, to be looked at in full size.
        seconds: Time that it took.
    """

    download: Path
    preview: Path
    overlay: Path
    summary: str
    given: tuple[Given, ...]
    notes: tuple[str, ...]
    kept: Kept
    seconds: float


def finish(
    order: Order,
    work: Work,
    result: Upscaled,
    pictures: Sequence[Photo],
    folder: Path,
    keep: Path,
    words: Words,
    begun: float,
) -> JobResult:
    """Write what a visitor gets.

    Args:
        order: What was asked for.
        work: How much work it was.
        result: What was made, with provenance.
        pictures: The photo and its references.
        folder: Existing folder for the files.
        keep: Existing folder for what is kept to be looked at.
        words: Language of all that is said.
        begun: Time at which the work began, by `time.monotonic`.

    Raises:
        OSError: A file cannot be written.
    """
    names = tuple(reference.name for reference in order.references)
    whole = result.to_pil()
    kept = Kept(
        folder=keep,
        scale=order.scale,
        denoise=order.denoise,
        texture=order.texture,
        work=work,
        place=_strongest_place(result),
    )
    kept.write("before", pictures[0].to_pil())
    kept.write("after", whole)
    result.save(folder / order.file_name)
    overlay = replace(result.provenance, names=names).to_image(whole)
    given = (_given(result, index, names[index], ref, words) for index, ref in enumerate(pictures[1:]))
    return JobResult(
        download=folder / order.file_name,
        preview=_save_reduced(whole, folder / "after.webp"),
        overlay=_save_reduced(overlay, folder / "map.webp"),
        summary=f"{_summary(result, words)} {_seen(result, words)}",
        given=tuple(given) if result.is_restored else (),
        notes=result.notes if result.is_restored else result.notes[:-1],  # the last one is the summary's
        kept=kept,
        seconds=time.monotonic() - begun,
    )


def _save_reduced(image: Image.Image, path: Path) -> Path:
    image = image.convert("RGB")
    image.thumbnail((SHOWN_PX, SHOWN_PX))
    image.save(path, quality=90)
    return path


def _summary(result: Upscaled, words: Words) -> str:
    height, width = result.photo.size_px
    if not result.is_restored:
        return words("summary_sharp", width=width, height=height)
    used = result.provenance.used_levels
    if used is None or len(result.unfit) == len(result.provenance.names):
        return words("summary_alone", width=width, height=height)
    percent = round(100 * sum(result.provenance.shares.values()))
    return words("summary", width=width, height=height, percent=percent)


def _seen(result: Upscaled, words: Words) -> str:
    """What was measured in the photo, and what it was taken for."""
    condition, share = result.condition, result.real_share
    jpeg = words("jpeg", quality=round(condition.jpeg)) if condition.shows_jpeg else words("no_jpeg")
    seen = words("seen", noise=f"{condition.noise:.1f}", blur=f"{condition.blur_px:.1f}", jpeg=jpeg)
    if not result.is_restored:
        return seen
    taken = {0.0: "as_clean", 1.0: "as_real"}.get(share, "as_mixed")
    told = [seen, words(taken, percent=round(100 * share))]
    if result.texture:
        told.append(words("crisp", texture=f"{result.texture:g}"))
    return " ".join(told)


def _given(result: Upscaled, index: int, name: str, ref: Photo, words: Words) -> Given:
    own = result.provenance.names[index]
    share = result.provenance.shares.get(own, 0.0)
    if own in result.unfit:
        key = _REASONS.get(result.unfit[own])
        text = words(key) if key else result.unfit[own]
    else:
        text = words("gave", percent=round(100 * share)) if share >= _LEAST_SHARE else words("gave_nothing")
    thumbnail = ref.to_pil().convert("RGB")
    thumbnail.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    return Given(name=name, text=text, thumbnail=thumbnail)


def _strongest_place(result: Upscaled) -> tuple[float, float]:
    """Where the references changed most: (x, y), 0..1."""
    used = result.provenance.used_levels
    if used is None or not bool(used.any()):
        return 0.5, 0.5
    rows, columns = (min(16, side) for side in used.shape)
    blocks = F.adaptive_avg_pool2d(used[None, None], (rows, columns))[0, 0]
    row, column = divmod(int(blocks.argmax()), columns)
    return (column + 0.5) / columns, (row + 0.5) / rows
