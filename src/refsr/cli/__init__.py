"""The command line: one function a verb. Exit codes: 0, 2 for bad usage or bad input, 1 for our own failure; 3 for a
batch of which some jobs failed."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.table import Table

from refsr.cli.batch import batch
from refsr.cli.bench import bench
from refsr.cli.console import complain, count_bar, stage_bar
from refsr.cli.demo import run_demo
from refsr.cli.quantities import parse_bytes
from refsr.cli.serve import serve
from refsr.cli.train import train
from refsr.cli.video import video
from refsr.device import Precision
from refsr.errors import OutputError, RefSRError, UsageError
from refsr.io.files import check_writable
from refsr.io.photo import Photo, as_photo, check_output
from refsr.models import MODELS, RefSRModel, load_model, packaged_model, packaged_weights
from refsr.models.convert import convert as run_convert
from refsr.models.export import export_onnx
from refsr.pairs.build import build_pairs
from refsr.pairs.output_folder import PairsConfig
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import open_library
from refsr.references.variants import VariantConfig
from refsr.restore.provenance import check_map_path
from refsr.restore.upscale import upscale as run_upscale
from refsr.search import Engine

app = App(
    name="refsr",
    help="Reference-based image super-resolution: real detail from another sharp photo.",
    suppress_keyboard_interrupt=False,
)
app.command(batch)
app.command(bench)
app.command(serve)
app.command(train)
app.command(video)
_Many = Parameter(negative=())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every failure is one line on standard error."""
    try:
        code = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except (RefSRError, CycloptsError) as error:
        complain(str(error))
        return 2
    except MemoryError:  # outside of `upscale`, which names the picture: while one is read or written
        complain("out of memory: close other programs, or use smaller pictures")
        return 2
    except KeyboardInterrupt:
        complain("stopped")
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        complain(f"a defect of refsr, please report it: {type(error).__name__}: {error}")
        return 1
    return code if isinstance(code, int) else 0


@app.command
def upscale(
    image: Path,
    /,
    *,
    ref: Annotated[list[Path] | None, _Many] = None,
    album: Path | None = None,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: str = "default",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    memory: str = "2GiB",
    provenance: Path | None = None,
    ref_scales: Annotated[list[float] | None, _Many] = None,
    ref_degrees: Annotated[list[float] | None, _Many] = None,
    search: Engine = "auto",
    precision: Precision = "auto",
    vgg19: Path | None = None,
) -> None:
    """Enlarge a picture four times, with real detail from sharp references.

    Args:
        image: The blurry picture: PNG, JPEG, WebP or TIFF.
        ref: A sharp picture of something similar; give the option again for more. Without any, detail is guessed.
        album: Folder of photos in which the best references are found; none is taken where none fits.
        output: Where to write; the suffix names the format.
        model: A name that `refsr models` lists, or a weights file.
        device: auto, cpu, cuda or mps.
        memory: Working memory allowed, such as 800MiB or 2GiB.
        provenance: Write a map of which detail is real: .png to look at, .npz for its numbers.
        ref_scales: Search the references as they are and at this size, such as 0.5, in place of turning and scaling
            each as it fits best; give the option again for more.
        ref_degrees: The same for angles, such as 90.
        search: exact compares every place with every place; coarse compares blocks first, for large pictures.
        precision: bf16 takes half the network's time where the processor has it, which auto finds out; or fp32.
        vgg19: File of VGG19 weights, for the model srntt.
    """
    memory_bytes = parse_bytes(memory)
    refs = ref or []
    for path in (output, *([provenance] if provenance else [])):
        check_writable(path)
        if any(path.resolve() == source.resolve() for source in (image, *refs)):
            raise OutputError(f"{path}: is one of the pictures given: choose another name for the result")
    if provenance is not None:
        check_map_path(provenance)
        if provenance.resolve() == output.resolve():
            raise OutputError(f"{provenance}: is the output as well: choose another name for the map")
    variants = None
    if ref_scales or ref_degrees:
        variants = VariantConfig(scales=tuple(ref_scales or ()), degrees=tuple(ref_degrees or ()))
    photo = as_photo(image)
    loaded = load_model(model, device=device, vgg19=vgg19)
    check_output(output, photo, loaded.scale)
    found = [] if album is None else _found_references(photo, image, album, loaded)

    begun = time.monotonic()
    with stage_bar() as progress:
        result = run_upscale(
            photo,
            [*refs, *found],
            model=loaded,
            memory_bytes=memory_bytes,
            variants=variants,
            engine=search,
            precision=precision,
            provenance=provenance is not None,
            progress=progress,
        )
    for name in result.unfit:
        complain(f"{name}: shows other things than {image}, and was not used")
    result.save(output)
    if provenance is not None:
        result.save_provenance(provenance)
    if sys.stdout.isatty():
        height, width = result.photo.size_px
        print(f"{output}: {width}x{height} in {time.monotonic() - begun:.1f} s")


def _found_references(photo: Photo, image: Path, album: Path, model: RefSRModel) -> list[FoundReference]:
    """The album's photos that fit, which are told on standard error."""
    if not model.uses_references:
        raise UsageError(f"--album {album}: the model {model.name} takes no references")
    with count_bar("reading the album") as progress:
        library = open_library(album, model, progress=progress)
    for path, problem in library.problems.items():
        complain(f"left out {path}: {problem}")
    with stage_bar() as stages:
        found = find_references(
            photo, library, model, apart_from=[image], progress=lambda share: stages("finding", share)
        )
    for reference in found:
        complain(f"took {reference.why()}")
    if not found:
        complain(f"none of the {len(library.paths)} photos in {album} fits: all detail is guessed")
    return found


@app.command
def models() -> None:
    """List the models, and whether their weights are here."""
    table = Table("model", "parameters", "weights", "about", box=None, pad_edge=False)
    for name, spec in MODELS.items():
        file = packaged_weights(name)
        count = packaged_model(name).parameter_count() / 1e6
        weights = "needs none" if not spec.has_weights else "ship with refsr" if file else "none yet: give a file"
        table.add_row(name, f"{count:.2f} M", weights, spec.about)
    Console().print(table)


@app.command
def convert(
    files: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
) -> None:
    """Make the authors' own weights of SRNTT (ZZUTK/SRNTT), or of its VGG19, into files of refsr.

    Args:
        files: upscale.npz together with srntt.npz or srntt_init.npz; or imagenet-vgg-verydeep-19.mat alone.
        output: The .safetensors file to write: for --model in the first case, for --vgg19 in the second.
    """
    print(run_convert(files, output))


@app.command
def export(
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: str = "default",
) -> None:
    """Write the default model as ONNX for other runtimes: one file for the network, one for the descriptors.

    Args:
        output: Folder; made if missing.
        model: A weights file of the default model's kind, if not the shipped one.
    """
    for path in export_onnx(load_model(model, device="cpu"), output):
        print(path)


@app.command
def demo(*, out: Path = Path("out/demo")) -> None:
    """Run the main job on a bundled sample, and leave pictures to look at.

    Args:
        out: Folder for the pictures; made if missing.
    """
    Console().print(run_demo(out))


@app.command
def pairs(
    album: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    crop: Literal[160, 320] = 160,
    train_from: Literal["matches", "single", "both"] = "matches",
    test_share: float = 0.2,
    licence: str = "",
    jobs: int = 0,
    strict: Annotated[bool, _Many] = False,
) -> None:
    """Build a test set and a training set of inputs and references from any folder of photos.

    Args:
        album: Folder of photos, searched through; photos of one folder in it stay together in testing or training.
        output: Folder for the sets, made if missing; the same one again goes on with a broken run.
        crop: Side of the training crops in pixels.
        train_from: Crops round the matches of two photos, or two of a single photo without overlap, or both.
        test_share: Share of the photos for testing, 0 to 1.
        licence: Said in the manifests of photos whose EXIF says none.
        jobs: Processes; one for each core without it.
        strict: End with an error if any photo could not be read.
    """
    config = PairsConfig(crop_px=crop, train_from=train_from, test_share=test_share, licence=licence)
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: give a count of processes, or 0 for one each core")
    with stage_bar() as progress:
        built = build_pairs(album, output, config, jobs=jobs or os.cpu_count() or 1, progress=progress)
    for name, reason in built.unreadable.items():
        complain(f"left out {name}: {reason}")
    verified = ", ".join(f"level {level}: {count}" for level, count in built.levels.items())
    print(
        f"{built.photos} photos, {len(built.duplicates)} near-duplicates left out, {len(built.unreadable)} unreadable"
    )
    print(f"{built.compared} pairs compared, {sum(built.levels.values())} show the same thing ({verified})")
    print(f"{built.groups} test groups, {built.crops} training pairs: look at {output / 'index.html'}")
    print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in built.seconds.items()))
    if built.unreadable and strict:
        raise UsageError(f"{len(built.unreadable)} photos were left out, and --strict was given")
