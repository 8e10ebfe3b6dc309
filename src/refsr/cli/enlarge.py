"""refsr upscale: a photo."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain, count
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, RestoreOptions
from refsr.cli.verbs import verb
from refsr.errors import OutputError, UsageError
from refsr.io.files import check_writable, is_same_file
from refsr.io.photo import Photo, as_photo, check_output
from refsr.models import RefSRModel
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import open_library
from refsr.references.variants import VariantConfig
from refsr.restore.condition import check_quality
from refsr.restore.provenance import check_map_path
from refsr.restore.upscale import Upscaled
from refsr.wording import counted


@verb
def upscale(
    image: Path,
    /,
    *,
    ref: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    album: Path | None = None,
    output: Output | None = None,
    provenance: Path | None = None,
    ref_scales: list[float] | None = None,
    ref_degrees: list[float] | None = None,
    json: bool = False,
    quiet: bool = False,
    options: RestoreOptions = RestoreOptions(),
) -> None:
    """Enlarge a picture, or sharpen it, with detail from sharp references.

    How blurred, noisy and compressed it is is measured, and decides which weights restore it.

    Args:
        image: Blurry picture: JPEG, HEIC, PNG, WebP, TIFF, AVIF, BMP, GIF, JPEG 2000 or TGA.
        ref: Sharp pictures of something similar. Without one, detail is guessed.
        album: Folder of photos to choose references from; none is taken if none fits.
        output: File to write; its suffix names the format. By default NAME_refsr.png beside the picture, or
            NAME_refsr_2.png and so on, so that nothing is replaced.
        provenance: Also write a map of the detail that comes from references: .png to look at, .npz for numbers.
        ref_scales: Search the references as they are and at this scale, such as 0.5, instead of estimating the scale
            and rotation of each; repeat for more.
        ref_degrees: The same for a rotation in degrees, such as 90.
        json: Print the last line, which says what was made and of what, as JSON.
        quiet: Say nothing but errors, and save the fifth of the time in which the references' shares are measured.

    Examples:
        refsr upscale blurry.jpg --ref sharp.jpg -o restored.png
        refsr upscale blurry.jpg --ref a.jpg b.jpg -o restored.png --provenance map.png
        refsr upscale soft.jpg --ref sharp.jpg --scale 1
        refsr upscale blurry.jpg --album PHOTOS -o restored.png --memory 800MiB
    """
    refs = ref or []
    output = output or _free_name(image)
    tell: Callable[[str], None] = _ignore if quiet else complain
    _check_paths([image, *refs], output, provenance)
    variants = _variants(ref_scales or (), ref_degrees or (), bool(refs) or album is not None)
    photo = as_photo(image)
    blend = options.load_blend()
    check_quality(blend, options.quality, options.denoise, options.texture)
    check_output(output, photo, options.result_px(photo, blend))
    found = [] if album is None else _found_references(photo, image, album, blend.clean, tell)

    begun = time.monotonic()
    with progress_bar() as progress:
        measured = provenance is not None or json or not quiet  # it takes a fifth of the time
        result = options.upscale(
            photo, [*refs, *found], model=blend, variants=variants, provenance=measured, progress=progress
        )
    for note in result.notes:
        tell(note)
    for name, why in result.unfit.items():
        tell(f"{name}: {why}, and was not used")
    result.save(output)
    if provenance is not None:
        result.save_provenance(provenance)
    if json or not quiet:
        print(_summary(result, output, time.monotonic() - begun, json))


def _variants(scales: Sequence[float], degrees: Sequence[float], referenced: bool) -> VariantConfig | None:
    """Copies of the references to search; None to estimate their pose."""
    if not scales and not degrees:
        return None
    if not referenced:
        flag = "--ref-scales" if scales else "--ref-degrees"
        raise UsageError(f"{flag}: there is no reference to search: give --ref or --album")
    return VariantConfig(scales=tuple(scales), degrees=tuple(degrees))


def _check_paths(sources: Sequence[Path], output: Path, provenance: Path | None) -> None:
    """Refuse results that cannot be written, or would replace what they are made of."""
    for path in (output, *([provenance] if provenance else [])):
        check_writable(path)
        if any(is_same_file(path, source) for source in sources):
            raise OutputError(f"{path}: is one of the input pictures: choose another name for the result")
    if provenance is not None:
        check_map_path(provenance)
        if is_same_file(provenance, output):
            raise OutputError(f"{provenance}: is the output as well: choose another name for the map")


def _summary(result: Upscaled, output: Path, seconds: float, json: bool) -> str:
    """What was made, and of what: a line for people, or JSON."""
    height, width = result.photo.size_px
    shares = result.provenance.shares
    used = [name for name in result.provenance.names if name not in result.unfit] if result.is_restored else []
    origins = ", ".join(f"{shares[name]:.0%} from {name}" for name in used)
    origins = (origins or "all detail guessed") if result.is_restored else "no detail added"
    if json:
        summary = {"output": str(output), "width": width, "height": height, "seconds": round(seconds, 2)}
        summary |= {"used": used, "shares": shares, "unfit": dict(result.unfit), "notes": result.notes}
        return dumps(
            summary
            | {"condition": asdict(result.condition), "real_share": result.real_share, "texture": result.texture}
        )
    return f"{output}: {width}x{height} in {seconds:.1f} s, {origins}; {result.seen}"


def _free_name(image: Path) -> Path:
    """NAME_refsr.png beside the picture; with a number where that exists."""
    first = image.with_name(f"{image.stem}_refsr.png")
    others = (image.with_name(f"{image.stem}_refsr_{number}.png") for number in count(2))
    return next(path for path in chain([first], others) if not path.exists())


def _ignore(_line: str) -> None:
    return


def _found_references(
    photo: Photo, image: Path, album: Path, model: RefSRModel, tell: Callable[[str], None]
) -> list[FoundReference]:
    """Photos of the album that fit; the choice is reported."""
    if not model.uses_references:
        raise UsageError(f"--album {album}: the model {model.name} takes no references: choose another --model")
    with progress_bar("reading the album") as progress:
        library = open_library(album, model, progress=progress)
    for line in library.complaints():
        tell(line)
    with progress_bar("finding") as progress:
        found = find_references(photo, library, model, apart_from=[image], progress=progress)
    for reference in found:
        tell(f"took {reference.why()}")
    if not found:
        tell(f"none fits of {counted(len(library.paths), 'photo')} in {album}: all detail is guessed")
    return found
