"""Protocols of the papers' own code, which make figures comparable with theirs.

| protocol | truth and LR image | references | PSNR, SSIM | border |
|---|---|---|---|---|
| refsr | truth cropped to a multiple of the scale | as given | Y | scale |
| ttsr | the same | cropped to a multiple of 4; several stacked, padded with black | Y | 0 |
| masa | truth padded to a multiple of 32 by repeating its edge; result cropped back | one: padded to a multiple of 16 by repeating its edge; several: each centred in 512x512, edge repeated, stacked | Y | 0 |
| c2 | truth cropped to a multiple of 4; truth and reference padded with black to their larger sides; result cropped back | several: stacked first, padded with black | Y, PSNR also in RGB | 4 |

Source: code of researchmm/TTSR (dataset/cufed.py, utils.py), dvlab-research/MASA-SR (dataloader/dataset.py,
models/trainer.py) and yumingj/C2-Matching (mmsr/data/ref_cufed_dataset.py, mmsr/models/ref_restoration_model.py). Their
code does not tell how TTSR and C2-Matching stack several references: one below the other is our reading of the papers.
"""  # noqa: E501

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.errors import ImageError
from refsr.resize import downscale_bicubic, pad_to_multiple, stored

ProtocolName = Literal["refsr", "ttsr", "masa", "c2"]
_MASA_BOX_PX: Final = 512


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Input of a model, and the truth to compare its result with.

    Attributes:
        lr: LR image in steps of 1/255, 0..1.
        references: References, 0..1, cropped, padded or stacked by the protocol.
        truth: Truth (HR image), 0..1.
        top_px: Row of the truth's top edge in the model's result.
        left_px: Column of the truth's left edge in the model's result.
        cropped: Whether rows or columns of the truth were cropped.
    """

    lr: Float[Tensor, "1 3 h w"]
    references: tuple[Float[Tensor, "1 3 _ _"], ...]
    truth: Float[Tensor, "1 3 h2 w2"]
    top_px: int = 0
    left_px: int = 0
    cropped: bool = False

    def inside(self, sr: Float[Tensor, "1 3 _ _"]) -> Float[Tensor, "1 3 h2 w2"]:
        """Part of a result that corresponds to the truth."""
        height, width = self.truth.shape[-2:]
        return sr[..., self.top_px : self.top_px + height, self.left_px : self.left_px + width]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Preparation of truth, LR image and references; see the table at the top of this module.

    Attributes:
        border_px: Border that PSNR and SSIM leave out on each side.
    """

    name: ProtocolName
    about: str
    border_px: int

    def prepare(
        self,
        truth: Float[Tensor, "1 3 _ _"],
        references: Sequence[Float[Tensor, "1 3 _ _"]],
        scale: int,
        lr: Float[Tensor, "1 3 _ _"] | None = None,
    ) -> Prepared:
        """Prepare one sample.

        Args:
            truth: Truth, 0..1, of any size.
            references: Chosen references, 0..1, most similar first.
            lr: Real LR image in place of the bicubic one; its sides are the truth's divided by `scale`, rounded down.

        Raises:
            ImageError: The real LR image does not fit the truth's size.
        """
        height, width = (side // scale * scale for side in truth.shape[-2:])
        cropped = truth[..., :height, :width]
        cut = cropped.shape != truth.shape
        refs = tuple(references)
        if lr is not None:
            if (lr.shape[-2] * scale, lr.shape[-1] * scale) != (height, width):
                raise ImageError(
                    f"its LR image has {lr.shape[-1]}x{lr.shape[-2]} pixels, the truth makes {width // scale}x"
                    f"{height // scale}: give LR images {scale} times smaller than the truths"
                )
            return Prepared(lr=lr, references=refs, truth=cropped, cropped=cut)
        if self.name == "masa":
            top, left = (((-side) % 32) // 2 for side in truth.shape[-2:])
            canvas = _pad(truth, [ceil(side / 32) * 32 for side in truth.shape[-2:]], top, left, "replicate")
            lr, refs = _reduced(canvas, scale), _masa_references(refs)
            return Prepared(lr=lr, references=refs, truth=truth, top_px=top, left_px=left)
        if self.name == "refsr":
            return Prepared(lr=_reduced(cropped, scale), references=refs, truth=cropped, cropped=cut)
        refs = tuple(ref[..., : ref.shape[-2] // 4 * 4, : ref.shape[-1] // 4 * 4] for ref in refs)
        if len(refs) > 1:
            refs = (_stacked(refs),)
        if self.name == "ttsr" or not refs:
            return Prepared(lr=_reduced(cropped, scale), references=refs, truth=cropped, cropped=cut)
        size = [max(a, b) for a, b in zip(cropped.shape[-2:], refs[0].shape[-2:], strict=True)]
        canvas, reference = (_pad(image, size, 0, 0, "constant") for image in (cropped, refs[0]))
        return Prepared(lr=_reduced(canvas, scale), references=(reference,), truth=cropped, cropped=cut)


PROTOCOLS: Final[dict[ProtocolName, Protocol]] = {
    "refsr": Protocol(name="refsr", border_px=4, about="Y of BT.601, border 4, truth cropped, references as given"),
    "ttsr": Protocol(
        name="ttsr", border_px=0, about="Y of BT.601, border 0, truth and references cropped; several stacked"
    ),
    "masa": Protocol(
        name="masa", border_px=0, about="Y of BT.601, border 0, truth padded to 32, references to 16 or 512"
    ),
    "c2": Protocol(
        name="c2", border_px=4, about="Y of BT.601 (and RGB), border 4, truth and reference padded with black"
    ),
}


def _reduced(image: Float[Tensor, "1 3 _ _"], scale: int) -> Float[Tensor, "1 3 _ _"]:
    """LR image by antialiased bicubic interpolation, rounded to 8 bits."""
    return stored(downscale_bicubic(image, scale))


def _pad(
    image: Tensor, size: Sequence[int], top_px: int, left_px: int, mode: Literal["constant", "replicate"]
) -> Float[Tensor, "1 3 _ _"]:
    bottom, right = size[0] - top_px - image.shape[-2], size[1] - left_px - image.shape[-1]
    return F.pad(image, (left_px, right, top_px, bottom), mode=mode)


def _stacked(refs: Sequence[Tensor]) -> Float[Tensor, "1 3 _ _"]:
    """References one below the other, padded with black to the largest."""
    size = [max(ref.shape[axis] for ref in refs) for axis in (-2, -1)]
    return torch.cat([_pad(ref, size, 0, 0, "constant") for ref in refs], -2)


def _masa_references(refs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not refs:
        return ()
    if len(refs) == 1:
        return (pad_to_multiple(refs[0], 16),)
    boxes = []
    for ref in refs:
        size = [max(_MASA_BOX_PX, side) for side in ref.shape[-2:]]  # the authors' box, or larger
        top, left = ((box - side) // 2 for box, side in zip(size, ref.shape[-2:], strict=True))
        boxes.append(_pad(ref, size, top, left, "replicate"))
    width = max(box.shape[-1] for box in boxes)
    boxes = [_pad(box, (box.shape[-2], width), 0, 0, "replicate") for box in boxes]
    return (pad_to_multiple(torch.cat(boxes, -2), 16),)
