"""The official weights of ZZUTK/SRNTT, converted to safetensors.

    upscale.npz ───────────────────────┐
                                       ├── SRNTT ──> srntt.safetensors
    srntt.npz, or srntt_init.npz ──────┘
    imagenet-vgg-verydeep-19.mat ────── VGG19 ───> vgg19.safetensors

An npz holds a bare list of arrays in the order of TensorLayer's layers. Only its position identifies an array, so every
shape is checked. The list is a pickle, read by an unpickler that makes arrays and calls nothing else.
"""

import pickle
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from refsr.errors import UsageError, WeightsError
from refsr.extras import import_extra
from refsr.io.files import check_writable, write_atomically
from refsr.io.weights import save_weights
from refsr.models.srntt import SRNTT, SRNTTConfig
from refsr.models.vgg import CONVOLUTIONS, VGG19
from refsr.wording import cause, counted

Array = NDArray[np.floating[Any]]
_MATCONVNET_MEAN: Final = (123.68, 116.779, 103.939)
"""RGB, 0..255."""


def convert(files: Sequence[Path], output: Path) -> str:
    """Convert the official weights of SRNTT, or of the VGG19 that it was trained with.

    Args:
        files: `upscale.npz` with `srntt.npz` or `srntt_init.npz`, in any order; or one MatConvNet `.mat`.
        output: Safetensors file to write.

    Returns:
        A line about the file written.

    Raises:
        UsageError: The files are not one of those sets.
        WeightsError: A file is damaged, or its arrays have other shapes than SRNTT's or VGG19's.
        OutputError: The output cannot be written.
        MissingExtraError: SciPy is needed for a `.mat` file.

    Source: ZZUTK/SRNTT, SRNTT/model.py and SRNTT/vgg19.py.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: weights are written as safetensors: end the name in .safetensors")
    check_writable(output)
    suffixes = sorted(file.suffix.lower() for file in files)
    if suffixes == [".mat"]:
        write_atomically(output, save(_read_vgg19(files[0])))
        return f"{output}: VGG19 with MatConvNet's weights; give it as --vgg19 to converted weights of SRNTT"
    if suffixes == [".npz", ".npz"]:
        model = _read_srntt(files)
        save_weights(output, model.name, model.config, model.own_state())
        return f"{output}: SRNTT with {model.parameter_count() / 1e6:.2f} M parameters"
    raise UsageError("give upscale.npz together with srntt.npz or srntt_init.npz, or a single .mat file of VGG19")


def _read_srntt(files: Sequence[Path]) -> SRNTT:
    model = SRNTT(SRNTTConfig(official=True))
    content = nn.ModuleList((model.head, model.trunk, model.sisr))
    first, second, third = model.transfers
    transfer = nn.ModuleList((first, model.enlarge[0], second, model.enlarge[1], third, model.tail))
    arrays = [_read_npz(file) for file in files]
    # The first kernel of the content extractor has three input channels, that of the transfer has many.
    is_content = [bool(found) and found[0].shape[2:3] == (3,) for found in arrays]
    if sum(is_content) != 1:
        raise UsageError(f"{files[0]} and {files[1]}: one must be upscale.npz, the other srntt.npz or srntt_init.npz")
    for file, found, of_content in zip(files, arrays, is_content, strict=True):
        _fill(content if of_content else transfer, found, file)
    return model


def _fill(part: nn.Module, arrays: Sequence[Array], file: Path) -> None:
    """Copy the arrays of a file to the layers of a part, in order."""
    targets = list(_targets(part))
    if len(arrays) != len(targets):
        raise WeightsError(
            f"{file}: holds {counted(len(arrays), 'array')}, that part of SRNTT has {len(targets)}: get it again"
        )
    for number, (array, (target, doubled)) in enumerate(zip(arrays, targets, strict=True)):
        given = _as_torch(array)
        if given.shape != target.shape:
            raise WeightsError(
                f"{file}: array {number} has the shape {tuple(array.shape)}, which is not that of SRNTT's layer there"
            )
        target.data.copy_(_shuffled(given) if doubled else given)


def _targets(part: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Tensors in TensorLayer's order, each with whether a pixel shuffle follows its layer.

    There a convolution before a batch norm has no bias, and a batch norm is beta, gamma, mean and variance.
    """
    layers = [m for m in part.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.PixelShuffle)]
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            doubled = isinstance(after, nn.PixelShuffle)
            assert layer.bias is not None
            yield layer.weight, doubled
            if isinstance(after, nn.BatchNorm2d):
                nn.init.zeros_(layer.bias)
            else:
                yield layer.bias, doubled
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            for tensor in (layer.bias, layer.weight, layer.running_mean, layer.running_var):
                yield tensor, False


def _as_torch(array: Array) -> Tensor:
    """Kernels from (height, width, in, out) to (out, in, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))


def _shuffled(given: Tensor) -> Tensor:
    """Channels from the order of TensorFlow's pixel shuffle, (row, column, channel), to torch's."""
    return rearrange(given, "(four c) ... -> (c four) ...", four=4)


def _read_npz(file: Path) -> list[Array]:
    """The list `params` of a file that TensorLayer wrote."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("params.npy") as stream:
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[np.lib.format.read_magic(stream)]
            shape, _, dtype = read_header(stream)
            if dtype != np.dtype(object) or len(shape) != 1:
                raise ValueError("no list of arrays")
            found = [np.asarray(array, dtype=np.float32) for array in _ArraysOnly(stream, encoding="latin1").load()]
    except FileNotFoundError as error:
        raise WeightsError(f"{file}: no such file") from error
    except Exception as error:  # damaged archives and pickles raise many kinds of errors
        raise WeightsError(
            f"{file}: damaged, or not weights that TensorLayer wrote ({cause(error)}): get it again"
        ) from error
    return found


class _ArraysOnly(pickle.Unpickler):
    """Unpickler of numpy arrays that refuses to call anything else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.partition(".")[0] == "numpy":
            allowed = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
            if global_name in allowed:
                return allowed[global_name]
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _read_vgg19(file: Path) -> dict[str, Tensor]:
    """MatConvNet's VGG19 under torchvision's keys, with its mean and deviation."""
    scipy_io = import_extra("scipy.io", f"{file}: a .mat file")
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    try:
        layers = scipy_io.loadmat(file, squeeze_me=True, struct_as_record=False)["layers"]
        named = {layer.name: layer for layer in np.atleast_1d(layers)}
    except Exception as error:  # scipy raises many kinds of errors
        raise WeightsError(f"{file}: damaged, or not MatConvNet's VGG19: get it again") from error
    expected = VGG19("relu5_1").state_dict()
    state: dict[str, Tensor] = {}
    for name, index in CONVOLUTIONS.items():
        if name not in named:
            raise WeightsError(f"{file}: has no layer {name}: give imagenet-vgg-verydeep-19.mat")
        # Newer files hold {kernel, bias} in `weights`, older ones in two fields.
        layer = named[name]
        kernel, bias = layer.weights if hasattr(layer, "weights") else (layer.filters, layer.biases)
        # (width, height, in, out) by ZZUTK/SRNTT's reading.
        given = {"weight": np.asarray(kernel).transpose(3, 2, 1, 0), "bias": np.asarray(bias).reshape(-1)}
        for kind, array in given.items():
            key = f"features.{index}.{kind}"
            state[key] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
            if state[key].shape != expected[key].shape:
                raise WeightsError(
                    f"{file}: the {kind} of {name} has the shape {tuple(state[key].shape)},"
                    f" VGG19's is {tuple(expected[key].shape)}"
                )
    state["mean"] = torch.tensor(_MATCONVNET_MEAN) / 255
    state["std"] = torch.full((3,), 1 / 255)
    return state
