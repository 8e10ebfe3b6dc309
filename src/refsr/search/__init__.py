"""Where in the references does each cell's texture lie?

    query (B, C, h, w) ──┐
                         ├── cosine of every patch with every patch, best kept ──> Match on the query's grid
    keys  (B, C, H, W) ──┘
    one pool of references, of any sizes

| engine | how | cost grows with |
|---|---|---|
| exact | every patch with every patch | the square of the picture |
| coarse | blocks first, then the cells of blocks that agree | the picture |
| faiss | an inverted file of all patches | the picture, hardly with the number of references |
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refsr.device import MIB
from refsr.errors import ImageError, UsageError
from refsr.extras import is_installed
from refsr.io.progress import Progress, silent
from refsr.search.batched import find_small, is_small
from refsr.search.candidates import PATCH, find_candidates, find_coarse
from refsr.search.exact import find_exact
from refsr.search.faiss import find_ivf
from refsr.search.match import Found, Match, cell_grid, refine_subpixel, strongest
from refsr.search.patches import patch_grid_size

DEFAULT_SEARCH_BYTES = 512 * MIB
_ENGINES: Final[dict[str, Callable[..., Found]]] = {"exact": find_exact, "coarse": find_coarse, "faiss": find_ivf}

Engine = Literal["auto", "exact", "coarse", "faiss"]
"""`auto` is the fastest engine whose matches serve as well as exact ones: see `choose_engine`."""

_MAXIMUM_EXACT_PRODUCTS: Final = 3e10
"""`auto` searches exactly below this many multiplications, a third of a second on two cores."""

_MINIMUM_FAISS_REFERENCES: Final = 24


def search(
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    *,
    patch: int = 3,
    engine: Engine = "auto",
    memory_bytes: int = DEFAULT_SEARCH_BYTES,
    progress: Progress = silent,
) -> Match:
    """Find each query patch's best match in a pool of references.

    Only patches that lie wholly inside their grid take part, as in the paper. A border cell, which centres no such
    patch, takes its nearest neighbour's match, moved along by the same step. Ties go to the first reference, then to
    the first position in reading order.

    Args:
        query: Feature map of the upsampled LR image.
        keys: Feature maps of the blurred references, one pool; sizes may differ.
        patch: Side of a patch in cells, odd.
        engine: See the table above.
        memory_bytes: Bound on the search's own working memory.
        progress: Told the finished share.

    Returns:
        A match on the query's whole grid, without gradient.

    Raises:
        UsageError: An even patch or an empty pool.
        ImageError: The query or a key is smaller than the patch.
        MemoryBudgetError: The budget is too small for the least part of the work.
        MissingExtraError: The engine is "faiss", which is not installed.

    Source: Zhang et al., "Image Super-Resolution by Neural Texture Transfer", CVPR 2019, equations 1 and 2.
    """
    if patch < 1 or patch % 2 == 0:
        raise UsageError(f"patch is {patch}: it must be odd")
    _require_searchable(query, keys, patch)
    find = _ENGINES[choose_engine(query, keys, patch=patch) if engine == "auto" else engine]
    with torch.no_grad():
        found = [find(query[b], [key[b] for key in keys], patch, memory_bytes, progress) for b in range(len(query))]
    return _match(found, patch // 2)


def search_candidates(
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    *,
    engine: Engine = "auto",
    memory_bytes: int = DEFAULT_SEARCH_BYTES,
    progress: Progress = silent,
) -> list[Match]:
    """Find each cell's best match in each of two references: in the two that fit best around it, if there are more.

    Matching scores a cell with its neighbours, since one cell matches many places by accident and a neighbourhood
    rarely does. The returned score is the cell's own. FAISS searches cells alone, in one pool of all references.

    Args:
        query: Descriptors of the LR image.
        keys: Descriptors of the references; sizes may differ.
        engine: See the table above. For `auto`, small pictures on an accelerator are compared exactly, a whole batch
            at once (`refsr.search.batched`).
        memory_bytes: Bound on the search's own working memory.
        progress: Told the finished share.

    Returns:
        The candidates on the query's whole grid, refined to fractions of a cell, without gradient.

    Raises:
        UsageError: An empty pool.
        ImageError: The engine is "exact", and the query or a key is smaller than three cells.
        MemoryBudgetError: The budget is too small for the least part of the work.
        MissingExtraError: The engine is "faiss", which is not installed.
    """
    patch = PATCH if engine == "exact" else 1
    _require_searchable(query, keys, patch)
    chosen = choose_engine(query, keys, patch=1, with_neighbours=True) if engine == "auto" else engine

    def find(query: Float[Tensor, "c h w"], keys: Sequence[Float[Tensor, "c _ _"]]) -> Sequence[Found]:
        if chosen == "faiss":
            return [find_ivf(query, keys, 1, memory_bytes, progress)]
        return find_candidates(query, keys, chosen == "coarse", memory_bytes, progress)

    with torch.no_grad():
        if engine == "auto" and query.device.type != "cpu" and is_small(query, keys):
            return find_small(query, keys, memory_bytes)
        found = [find(query[b], [key[b] for key in keys]) for b in range(len(query))]
        candidates = [_match(candidate, patch // 2) for candidate in zip(*found, strict=True)]
        return [refine_subpixel(query, keys, candidate) for candidate in candidates]


def _require_searchable(query: Float[Tensor, "b c h w"], keys: Sequence[Float[Tensor, "b c _ _"]], patch: int) -> None:
    if not keys:
        raise UsageError("search needs at least one reference")
    for name, grid in (("the image", query), *((f"reference {i + 1}", key) for i, key in enumerate(keys))):
        if min(grid.shape[-2:]) < patch:
            height, width = grid.shape[-2:]
            raise ImageError(
                f"{name} is too small: {width}x{height} cells, the search compares patches of {patch}x{patch}"
            )


def _match(found: Sequence[Found], reach: int) -> Match:
    """Matches of a batch, extended to the border cells."""
    corner, reference, score = (
        torch.stack([getattr(part, name) for part in found]) for name in ("corner", "reference", "score")
    )
    return Match(
        position_cells=_extend_positions(corner.to(score.dtype), reach),
        reference=_extend(reference[:, None].to(score.dtype), reach)[:, 0].long(),
        score=_extend(score[:, None], reach),
    )


def choose_engine(
    query: Float[Tensor, "b c h w"],
    keys: Sequence[Float[Tensor, "b c _ _"]],
    *,
    patch: int,
    with_neighbours: bool = False,
) -> Engine:
    """The engine of `auto`: the fastest whose matches serve as well as exact ones.

    Exact up to 3e10 multiplications; beyond, FAISS from 24 references on if it is installed, else coarse. Where cells
    are scored with their neighbours, coarse matches are as good as exact ones at any size.

    Args:
        query: As for `search`.
        keys: As for `search`.
        patch: As for `search`.
        with_neighbours: Cells are scored with their neighbours, as in `search_candidates`.
    """
    patches = math.prod(patch_grid_size(query[0], patch))
    key_patches = sum(math.prod(patch_grid_size(key[0], patch)) for key in keys)
    if not with_neighbours and patches * key_patches * query.shape[1] * patch**2 <= _MAXIMUM_EXACT_PRODUCTS:
        return "exact"
    return "faiss" if len(keys) >= _MINIMUM_FAISS_REFERENCES and is_installed("faiss") else "coarse"


def _extend(grid: Float[Tensor, "b c h w"], reach: int) -> Float[Tensor, "b c h2 w2"]:
    return F.pad(grid, (reach,) * 4, mode="replicate") if reach else grid


def _extend_positions(corner: Float[Tensor, "b 2 h w"], reach: int) -> Float[Tensor, "b 2 h2 w2"]:
    """Positions of all cells from the corners of inner patches; the offset from query to reference is the same for a
    patch's corner and its centre."""
    offset = _extend(corner - cell_grid(corner.shape[-2:], corner), reach)
    return offset + cell_grid(offset.shape[-2:], offset)


__all__ = [
    "DEFAULT_SEARCH_BYTES",
    "Engine",
    "Match",
    "cell_grid",
    "choose_engine",
    "refine_subpixel",
    "search",
    "strongest",
]
