"""refsr upscale: a photo."""

import sys
import time
from pathlib import Path

from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, RestoreOptions
from refsr.errors import OutputError, UsageError
from refsr.io.files import check_writable, is_same_file
from refsr.io.photo import Photo, as_photo, check_output
from refsr.models import RefSRModel
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import open_library
from refsr.references.variants import VariantConfig
from refsr.restore.provenance import check_map_path


def upscale(
    image: Path,
    /,
    *,
    ref: list[Path] | None = None,
    album: Path | None = None,
    output: Output,
    provenance: Path | None = None,
    ref_scales: list[float] | None = None,
    ref_degrees: list[float] | None = None,
    options: RestoreOptions = RestoreOptions(),
) -> None:
    """Enlarge a picture four times, with detail from sharp references.

    Args:
        image: Blurry picture: PNG, JPEG, WebP or TIFF.
        ref: Sharp picture of something similar; repeat for more. Without one, detail is guessed.
        album: Folder of photos to choose references from; none is taken if none fits.
        output: File to write; its suffix names the format.
        provenance: Also write a map of the detail that comes from references: .png to look at, .npz for numbers.
        ref_scales: Search the references as they are and at this scale, such as 0.5, instead of estimating the scale
            and rotation of each; repeat for more.
        ref_degrees: The same for a rotation in degrees, such as 90.

    Examples:
        refsr upscale blurry.jpg --ref sharp.jpg -o restored.png
        refsr upscale blurry.jpg --ref a.jpg --ref b.jpg -o restored.png --provenance map.png
        refsr upscale blurry.jpg --album PHOTOS -o restored.png --memory 800MiB
    """
    refs = ref or []
    for path in (output, *([provenance] if provenance else [])):
        check_writable(path)
        if any(is_same_file(path, source) for source in (image, *refs)):
            raise OutputError(f"{path}: is one of the input pictures: choose another name for the result")
    if provenance is not None:
        check_map_path(provenance)
        if is_same_file(provenance, output):
            raise OutputError(f"{provenance}: is the output as well: choose another name for the map")
    variants = None
    if ref_scales or ref_degrees:
        variants = VariantConfig(scales=tuple(ref_scales or ()), degrees=tuple(ref_degrees or ()))
    photo = as_photo(image)
    loaded = options.load()
    check_output(output, photo, loaded.scale)
    found = [] if album is None else _found_references(photo, image, album, loaded)

    begun = time.monotonic()
    with progress_bar() as progress:
        mapped = provenance is not None
        result = options.upscale(
            photo, [*refs, *found], model=loaded, variants=variants, provenance=mapped, progress=progress
        )
    for note in result.notes:
        complain(note)
    for name in result.unfit:
        complain(f"{name}: shows other things than {image}, and was not used")
    result.save(output)
    if provenance is not None:
        result.save_provenance(provenance)
    if sys.stdout.isatty():
        height, width = result.photo.size_px
        print(f"{output}: {width}x{height} in {time.monotonic() - begun:.1f} s")


def _found_references(photo: Photo, image: Path, album: Path, model: RefSRModel) -> list[FoundReference]:
    """Photos of the album that fit; the choice is reported on standard error."""
    if not model.uses_references:
        raise UsageError(f"--album {album}: the model {model.name} takes no references: choose another --model")
    with progress_bar("reading the album") as progress:
        library = open_library(album, model, progress=progress)
    for path, problem in library.problems.items():
        complain(f"left out {path}: {problem}")
    with progress_bar("finding") as progress:
        found = find_references(photo, library, model, apart_from=[image], progress=progress)
    for reference in found:
        complain(f"took {reference.why()}")
    if not found:
        complain(f"none of the {len(library.paths)} photos in {album} fits: all detail is guessed")
    return found
