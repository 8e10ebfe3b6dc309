"""refsr models, convert and export: weights, and what becomes of them."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from refsr.cli.options import Output
from refsr.models import WEIGHTS, load_model, packaged_model
from refsr.models.convert import convert as run_convert
from refsr.models.export import export_onnx


def models() -> None:
    """List the models, and whether their weights are here.

    Examples:
        refsr models
    """
    table = Table("model", "parameters", "weights", "about", box=None, pad_edge=False)
    for name, weights in WEIGHTS.items():
        count = packaged_model(name).parameter_count() / 1e6
        table.add_row(name, f"{count:.2f} M", "ship with refsr" if weights.file else "needs none", weights.about)
    Console().print(table)


def convert(
    files: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    output: Output,
) -> None:
    """Make the authors' own weights of SRNTT (ZZUTK/SRNTT), or of its VGG19, into files of refsr.

    Args:
        files: upscale.npz together with srntt.npz or srntt_init.npz; or imagenet-vgg-verydeep-19.mat alone.
        output: The .safetensors file to write: for --model in the first case, for --vgg19 in the second.

    Examples:
        refsr convert upscale.npz srntt.npz -o srntt-official.safetensors
        refsr convert imagenet-vgg-verydeep-19.mat -o vgg19.safetensors
    """
    print(run_convert(files, output))


def export(
    *,
    output: Output,
    model: str = "default",
) -> None:
    """Write the default model as ONNX for other runtimes: one file for the network, one for the descriptors.

    Args:
        output: Folder; made if missing.
        model: A weights file of the default model's kind, if not the shipped one.

    Examples:
        refsr export -o ONNX
    """
    for path in export_onnx(load_model(model, device="cpu"), output):
        print(path)
