"""Pictures in memory, read from and written to files.

file, PIL image, array or tensor ── as_photo ──> Photo: pixels (1, 3, H, W) RGB float32 0..1, alpha, metadata
Photo ── write_photo ──> PNG, JPEG, WebP, TIFF, AVIF or JPEG XL, written atomically
"""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor

from refsr.errors import ImageError
from refsr.io.decode import Decoded, decode, decode_pil, opened
from refsr.io.deep_colour import is_deep_colour
from refsr.io.encode import DEEP_FORMATS, check_format, encode
from refsr.io.files import write_atomically
from refsr.io.mark import is_marked
from refsr.io.metadata import Metadata, read_exif, read_metadata, text_of, upright

MINIMUM_SIDE_PX: Final = 8
_IS_A_RESULT: Final = "is a result of refsr, whose detail may be guessed: take the photo that it was made from"

ImageSource = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, a PIL image, an array (H, W), (H, W, 3 or 4), or a tensor (3, H, W) or (1, 3, H, W); integers of 8 or 16
bits, or floats 0..1."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A picture in memory, upright.

    Attributes:
        pixels: RGB, float32, 0..1.
        alpha: Opacity, float32, 0..1; None for opaque pictures.
        grey: Whether the three channels are equal, and written as one.
        bits: Bits per channel, kept where the output format can.
        metadata: EXIF, colour profile and the like.
        notes: Lines for the user about what was not read of the file, such as the end of a truncated one.
    """

    pixels: Float[Tensor, "1 3 h w"]
    alpha: Float[Tensor, "1 1 h w"] | None = None
    grey: bool = False
    bits: Literal[8, 16] = 8
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def is_result(self) -> bool:
        """Whether it was made by refsr, so that its detail may be guessed."""
        return is_marked(self.metadata)

    def to_pil(self) -> Image.Image:
        """An 8-bit PIL image: L, LA, RGB or RGBA."""
        return Image.fromarray(_to_array(replace(self, bits=8)))


def as_photo(source: ImageSource, name: str = "image") -> Photo:
    """Read a picture from a file, a PIL image, an array or a tensor.

    Args:
        source: See `ImageSource`.
        name: Name in error messages, for a picture without a file.

    Raises:
        ImageError: It cannot be read, is smaller than 8 pixels, has NaN, or a wrong shape, type or range.
        MissingExtraError: It is colour with 16 bits per channel, and the extra that reads those is not installed.
    """
    if isinstance(source, str | Path):
        return read_photo(Path(source))
    if isinstance(source, Image.Image):
        return _photo(decode_pil(source, name), name)
    if isinstance(source, Tensor):
        return _photo_from_tensor(source, name)
    return _photo_from_array(np.asarray(source), name)


def decode_photo(data: bytes, name: str) -> Photo:
    """Decode the bytes of a file of `READABLE_SUFFIXES`; `name` is for messages. Raises as `as_photo`."""
    return _photo(decode(data, name), name)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Upright RGB copy of a photo in 8 bits.

    Attributes:
        image: The copy.
        full_px: Height and width of the photo itself.
        copyright: Its copyright, or empty.
    """

    image: Image.Image
    full_px: tuple[int, int]
    copyright: str


def read_photo(path: Path) -> Photo:
    """Read a file of `READABLE_SUFFIXES`, its first page or frame. Raises as `as_photo`."""
    return decode_photo(_read_bytes(path), str(path))


def is_result_file(path: Path) -> bool:
    """Whether a file is a result of refsr; false where it cannot be read. Only its head is read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return is_marked(read_metadata(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read_preview(path: Path, long_side_px: int) -> Preview:
    """Read a photo of a collection at a smaller size; for a large JPEG, many times faster than at full size.

    Args:
        path: File of `READABLE_SUFFIXES`.
        long_side_px: Long side of the preview; smaller photos are not enlarged.

    Raises:
        ImageError: It cannot be read, or is a result of refsr, whose detail may be guessed.
        MissingExtraError: See `as_photo`.
    """
    data = _read_bytes(path)
    with opened(data, str(path), to_its_end=False) as image:
        if is_marked(read_metadata(image)):
            raise ImageError(f"{path}: {_IS_A_RESULT}")
        exif = read_exif(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        copyright_text = text_of(exif.get(ExifTags.Base.Copyright, ""))
        full = image.size
        shrink = max(1.0, max(full) / long_side_px)
        size = (max(1, round(full[0] / shrink)), max(1, round(full[1] / shrink)))
        if is_deep_colour(image, data) or image.mode.startswith("I;16"):
            plain = replace(decode_photo(data, str(path)), alpha=None).to_pil().convert("RGB")
            orientation = 1
            size = size if plain.size == full else size[::-1]
        else:
            image.draft("RGB", (2 * size[0], 2 * size[1]))
            plain = image.convert("RGB")
        small = np.asarray(plain.resize(size, Image.Resampling.BICUBIC))
    turned = np.ascontiguousarray(upright(small, orientation))
    full_px = full[::-1] if (full[0] > full[1]) == (turned.shape[1] > turned.shape[0]) else full
    return Preview(image=Image.fromarray(turned), full_px=full_px, copyright=copyright_text)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ImageError(f"{path}: is a folder: name a picture in it")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file: check the name") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error


def write_photo(path: Path, photo: Photo) -> None:
    """Write atomically, in the format of the suffix; see `refsr.io.encode.encode`.

    Raises:
        OutputError: See `check_output`, or the file cannot be written.
        MissingExtraError: See `check_output`.
    """
    kind = check_output(path, photo, photo.size_px)
    array = _to_array(photo if kind in DEEP_FORMATS else replace(photo, bits=8))
    write_atomically(path, encode(array, kind, photo.metadata.with_size(photo.size_px)))


def check_output(path: Path, photo: Photo, size_px: tuple[int, int]) -> str:
    """Refuse an output path that could not be written after `photo` is brought to a size; its format otherwise.

    Raises:
        OutputError: The format is unknown, cannot be written here, has no alpha, or has a smaller maximum size.
        MissingExtraError: The format, or 16-bit colour in it, needs an extra that is not installed.
    """
    is_deep = photo.bits == 16 and not (photo.grey and photo.alpha is None)
    return check_format(path, max(size_px), photo.alpha is not None, is_deep)


def _photo_from_tensor(tensor: Tensor, name: str) -> Photo:
    shape = tuple(tensor.shape)
    if len(shape) == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ImageError(f"{name}: a tensor of shape {shape}: give (3, H, W) or (1, 3, H, W), one picture at a time")
    return _photo_from_array(tensor.detach().cpu().permute(1, 2, 0).numpy(), name)


def _photo_from_array(array: NDArray[Any], name: str) -> Photo:
    """From (H, W), or (H, W, C) with 1 to 4 channels, upright."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{name}: an array of shape {array.shape}: give (H, W), (H, W, 3) or (H, W, 4)")
    height, width = array.shape[:2]
    if min(height, width) < MINIMUM_SIDE_PX:
        raise ImageError(f"{name}: {width}x{height} pixels is too small: at least {MINIMUM_SIDE_PX} a side are needed")
    bits: Literal[8, 16] = 8
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.uint8:
        values = array.astype(np.float32) / 255
    elif array.dtype == np.uint16:
        values, bits = array.astype(np.float32) / 65535, 16
    elif np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            raise ImageError(f"{name}: holds NaN or infinite values: replace them first")
        if values.min() < -1e-3 or values.max() > 1 + 1e-3:
            low, high = values.min(), values.max()
            raise ImageError(f"{name}: floats range over {low:.4g}..{high:.4g}: scale them to 0..1")
        values = values.clip(0, 1)
    else:
        raise ImageError(f"{name}: values of type {array.dtype}: give uint8, uint16 or floats 0..1")
    tensor = torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None]
    channels = tensor.shape[1]
    colour = tensor[:, :1].expand(-1, 3, -1, -1) if channels < 3 else tensor[:, :3]
    alpha = tensor[:, -1:].contiguous() if channels in (2, 4) else None
    return Photo(pixels=colour.contiguous(), alpha=alpha, grey=channels < 3, bits=bits)


def _photo(decoded: Decoded, name: str) -> Photo:
    return replace(_photo_from_array(decoded.array, name), metadata=decoded.metadata, notes=decoded.notes)


def _to_array(photo: Photo) -> NDArray[Any]:
    """Pixels (H, W), or (H, W, C) for two channels and more; uint8 or uint16."""
    colour = list(photo.pixels[0].cpu())
    if photo.grey:
        colour = [0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]]
    channels = colour if photo.alpha is None else [*colour, photo.alpha[0, 0].cpu()]
    array = np.empty((*photo.size_px, len(channels)), np.uint8 if photo.bits == 8 else np.uint16)
    for index, channel in enumerate(channels):  # one by one, since a large picture's numbers take much memory
        array[..., index] = channel.clamp(0, 1).mul_(2**photo.bits - 1).round_().numpy()
    return array[..., 0] if array.shape[2] == 1 else array
