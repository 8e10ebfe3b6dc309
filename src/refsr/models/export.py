"""The default model as two ONNX files, for pictures of any size.

    descriptors.onnx   image (1, 3, h, w) ──> descriptor (1, C, h, w), one unit vector a pixel
    network.onnx       lr (1, 3, h, w), ref (1, 3, 4H, 4W), position_cells (1, 2, h, w), score (1, 1, h, w)
                       ──> sr (1, 3, 4h, 4w)
Between them lies the search, a product of matrices: for each descriptor of the LR image, the cell (y, x) with the
highest cosine among the descriptors of the reference, reduced four times by `refsr.resize.downscale_bicubic`; and that
cosine. Images are RGB, 0..1.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refsr.errors import OutputError, UsageError
from refsr.extras import import_extra, is_installed
from refsr.io.files import check_writable, make_folder, write_atomically
from refsr.models.base import RefSRModel
from refsr.models.default import DefaultModel
from refsr.search import Match
from refsr.transfer.smoothing import smooth

_OPSET: Final = 20
_LR_PX: Final = (24, 32)
_REF_PX: Final = (112, 80)
"""Sizes for tracing; the files take any."""

_CHECKED_PX: Final = ((31, 57), (64, 100))
_MAXIMUM_DIFFERENCE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Attributes:
        difference: Largest difference between its results and the model's, in 0..1, on random pictures of other sizes
            than it was traced with; None if onnxruntime is not installed.
    """

    path: Path
    difference: float | None


def export_onnx(model: RefSRModel, folder: Path) -> tuple[Exported, Exported]:
    """Write `network.onnx` and `descriptors.onnx`, and compare them with the model.

    Args:
        model: A `DefaultModel` of any width.
        folder: Created if missing.

    Returns:
        Both files.

    Raises:
        UsageError: The model is of another architecture.
        MissingExtraError: ONNX is not installed.
        OutputError: The folder cannot be written, or a file computes something else than the model.
    """
    if type(model) is not DefaultModel:
        raise UsageError(f"{model.name} cannot be exported: give a model of the architecture default")
    import_extra("onnxscript", "exporting to ONNX")
    network, descriptors = folder / "network.onnx", folder / "descriptors.onnx"
    make_folder(folder)
    for path in (network, descriptors):
        check_writable(path)
    traced, other = _inputs(_LR_PX, _REF_PX), _inputs(*_CHECKED_PX)
    write_atomically(network, _onnx(_Network(model), traced, "sr"))
    write_atomically(descriptors, _onnx(_Descriptors(model), {"image": traced["lr"]}, "descriptor"))
    return (
        Exported(path=network, difference=_difference(network, _Network(model), other)),
        Exported(path=descriptors, difference=_difference(descriptors, _Descriptors(model), {"image": other["lr"]})),
    )


def _inputs(lr_px: tuple[int, int], ref_px: tuple[int, int]) -> dict[str, Tensor]:
    """Random inputs of the network."""
    images = {"lr": torch.rand(1, 3, *lr_px), "ref": torch.rand(1, 3, *ref_px)}
    cells = min(ref_px) // 4 - 1
    return images | {"position_cells": torch.rand(1, 2, *lr_px) * cells, "score": torch.rand(1, 1, *lr_px)}


def _difference(path: Path, module: nn.Module, inputs: Mapping[str, Tensor]) -> float | None:
    """Largest difference between the results of a file and of the module that it was made of.

    Raises:
        OutputError: It is more than rounding.
    """
    if not is_installed("onnxruntime"):
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.inference_mode():
        expected = module(*inputs.values())
    difference = float((torch.from_numpy(found) - expected).abs().max())
    if not difference < _MAXIMUM_DIFFERENCE:
        raise OutputError(f"{path}: differs from the model by {difference:.2g}: use another release of torch")
    return difference


class _Network(nn.Module):
    """What follows the search, for one reference."""

    def __init__(self, model: DefaultModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, lr: Tensor, ref: Tensor, position_cells: Tensor, score: Tensor) -> Float[Tensor, "1 3 h w"]:
        match = Match(
            position_cells=position_cells,
            reference=torch.zeros_like(score[:, 0], dtype=torch.long),
            score=score,
            among=(0,),
        )
        values = [self.model.encode_reference(ref).values]
        fields = [self.model.fields(lr, values, match, smooth(match))[-1]]
        return self.model.transfer(lr, values, [match], fields).clamp(0, 1)


class _Descriptors(nn.Module):
    def __init__(self, model: DefaultModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Float[Tensor, "1 c h w"]:
        return self.model.encode_query(image)


def _onnx(module: nn.Module, inputs: Mapping[str, Tensor], output: str) -> bytes:
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    noise = logging.getLogger("torch.onnx")
    level = noise.level
    noise.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes=[sides] * len(inputs),
                dynamo=True,
                opset_version=_OPSET,
                verbose=False,
            )
    finally:
        noise.setLevel(level)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())
