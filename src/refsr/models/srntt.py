"""SRNTT after its paper and official code: VGG19 patches matched, swapped and fused at three levels.

It serves for comparison: features at the size of the output take hundreds of times the memory and time of the default
model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from refsr.errors import WeightsError
from refsr.models.alignment import Aligned
from refsr.models.base import Costs, Reference, RefSRModel, Values
from refsr.models.vgg import VGG19
from refsr.resize import downscale_bicubic, upscale_bicubic
from refsr.search import Match, search
from refsr.transfer.swap import swap

_LEVELS = ("relu3_1", "relu2_1", "relu1_1")
_CHANNELS = (256, 128, 64)
_PATCH = 3
"""Side of a patch in cells."""


@dataclass(frozen=True, kw_only=True)
class SRNTTConfig:
    """Sizes of the network; the defaults are the paper's.

    Attributes:
        scale: Output pixels per LR pixel. 8 and 16 match as 4 does, and enlarge further before the output.
        width: Channels.
        trunk_blocks: Residual blocks on the LR image.
        transfer_blocks: Residual blocks at relu3_1, relu2_1 and relu1_1.
        official: For weights of ZZUTK/SRNTT, whose branch without reference ends in tanh as well, and whose VGG19 has
            MatConvNet's weights.
    """

    scale: Literal[4, 8, 16] = 4
    width: int = 64
    trunk_blocks: int = 16
    transfer_blocks: tuple[int, int, int] = (16, 8, 4)
    official: bool = False


class NormedBlock(nn.Module):
    """Residual block of SRGAN (Ledig et al., 2017): conv, batch norm, ReLU, conv, batch norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        changed: Tensor = self.layers(x)
        return x + changed


class Transfer(nn.Module):
    """One level of equation 5: psi + Res(psi || M)."""

    def __init__(self, width: int, texture: int, blocks: int) -> None:
        super().__init__()
        self.join = nn.Sequential(nn.Conv2d(width + texture, width, 3, padding=1), nn.ReLU())
        self.blocks = _blocks(width, blocks)

    def forward(self, psi: Float[Tensor, "b c h w"], swapped: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c h w"]:
        changed: Tensor = self.blocks(self.join(torch.cat((psi, swapped), 1)))
        return psi + changed


class SRNTT(RefSRModel):
    """Image super-resolution by neural texture transfer.

    Source: Zhang, Wang, Lin and Qi, CVPR 2019, equations 1 to 5; ZZUTK/SRNTT for the sizes.
    """

    name: ClassVar[str] = "srntt"
    matches_tell_the_pose: ClassVar[bool] = False  # the paper searches references as they are, or given copies
    halo_cells: ClassVar[int] = 24
    external: ClassVar[tuple[str, ...]] = ("vgg.",)

    def __init__(self, config: SRNTTConfig | None = None, vgg: VGG19 | None = None) -> None:
        """Build with random weights.

        Args:
            config: Sizes of the network.
            vgg: VGG19; without it, one with random weights, which serves tests only.

        Raises:
            WeightsError: The VGG19 has other weights (torchvision's or MatConvNet's) than the config asks for.
        """
        super().__init__()
        self.config = config or SRNTTConfig()
        self.scale = self.config.scale
        if vgg is not None and vgg.is_matconvnet != self.config.official:
            needed = "MatConvNet's, as `refsr convert` makes them" if self.config.official else "torchvision's"
            raise WeightsError(f"these weights of srntt need VGG19 with weights of {needed}: give them with --vgg19")
        width = self.config.width
        extra = {4: 0, 8: 1, 16: 2}[self.scale]
        self.vgg = vgg or VGG19()
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.trunk = _blocks(width, self.config.trunk_blocks)
        self.sisr = nn.Sequential(*(_enlarge(width) for _ in range(2 + extra)), nn.Conv2d(width, 3, 1))
        self.transfers = nn.ModuleList(
            Transfer(width, channels, blocks)
            for channels, blocks in zip(_CHANNELS, self.config.transfer_blocks, strict=True)
        )
        self.enlarge = nn.ModuleList(_enlarge(width) for _ in range(2))
        self.tail = nn.Sequential(
            *(_enlarge(width) for _ in range(extra)),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.Conv2d(width // 2, 3, 1),
            nn.Tanh(),
        )

    @property
    def costs(self) -> Costs:
        last = 8 * self.config.width * (self.scale**2 - 16)  # enlarging beyond four times
        return Costs(
            encode=22_000, query=1024, reference=8192, search=15_500, transfer=17_000 + 420 * self.config.width + last
        )

    def encode_query(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 h w"]:
        query: Tensor = self.vgg(upscale_bicubic(lr, self.cell_px), ("relu3_1",))[0]
        return query

    def encode_reference(self, ref: Float[Tensor, "b 3 h2 w2"]) -> Reference:
        blurred = upscale_bicubic(downscale_bicubic(ref, self.cell_px), self.cell_px)
        return Reference(key=self.vgg(blurred, ("relu3_1",))[0], values=tuple(self.vgg(ref, _LEVELS)))

    def search(
        self,
        lr: Float[Tensor, "b 3 h w"],  # noqa: ARG002
        query: Float[Tensor, "b c h w"],
        references: Sequence[Reference],
        **how: Any,
    ) -> Sequence[Match]:
        return (search(query, [reference.key for reference in references], patch=_PATCH, **how),)

    def transfer(
        self,
        lr: Float[Tensor, "b 3 h w"],
        values: Sequence[Values],
        matches: Sequence[Match],
        fields: Iterable[Aligned] = (),  # noqa: ARG002
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """Restore from LR image and swapped features.

        lr ── trunk ── psi ──> level 3 ── 2x ──> level 2 ── 2x ──> level 1 ── sr
                                  M3                M2                M1
        """
        head = self.head(lr * 2 - 1)
        psi = head + self.trunk(head)
        if not matches:
            alone: Tensor = self.sisr(psi)
            return ((alone.tanh() if self.config.official else alone) + 1) / 2
        (match,) = matches
        for level, (transfer, maps) in enumerate(zip(self.transfers, zip(*values, strict=True), strict=True)):
            psi = transfer(psi, swap(maps, match, scale=2**level, patch=_PATCH))
            if level < len(self.enlarge):
                psi = self.enlarge[level](psi)
        fused: Tensor = self.tail(psi)
        return (fused + 1) / 2


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        *(NormedBlock(width) for _ in range(count)), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
    )


def _enlarge(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
