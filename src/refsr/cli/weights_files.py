"""refsr models, convert and export: weights files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from refsr.cli.options import Output
from refsr.cli.verbs import verb
from refsr.models import WEIGHTS, load_model, packaged_model
from refsr.models.convert import convert as run_convert
from refsr.models.export import export_onnx


@verb
def models() -> None:
    """List the models.

    Examples:
        refsr models
    """
    table = Table("model", "parameters", "weights", "about", box=None, pad_edge=False)
    for name, weights in WEIGHTS.items():
        count = packaged_model(name).parameter_count() / 1e6
        table.add_row(name, f"{count:.2f} M", "included" if weights.file else "none", weights.about)
    Console().print(table)


@verb
def convert(
    files: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    output: Output,
) -> None:
    """Convert the official weights of SRNTT (ZZUTK/SRNTT), or of its VGG19.

    Args:
        files: upscale.npz with srntt.npz or srntt_init.npz; or imagenet-vgg-verydeep-19.mat alone.
        output: The .safetensors file to write, for --model in the first case, for --vgg19 in the second.

    Examples:
        refsr convert upscale.npz srntt.npz -o srntt-official.safetensors
        refsr convert imagenet-vgg-verydeep-19.mat -o vgg19.safetensors
    """
    print(run_convert(files, output))


@verb
def export(
    *,
    output: Output,
    model: str = "default",
) -> None:
    """Export the default model as ONNX: a file for the network and one for the descriptors.

    Args:
        output: Folder for the files; created if missing.
        model: Name listed by `refsr models`, or a weights file, of the architecture default.

    Examples:
        refsr export -o ONNX
    """
    for file in export_onnx(load_model(model, device="cpu"), output):
        checked = "not compared with the model, which needs pip install onnxruntime"
        if file.difference is not None:
            checked = f"run at another size, it differs from the model by {file.difference:.0e} at most"
        print(f"{file.path}: {file.path.stat().st_size / 2**20:.1f} MiB; {checked}")
