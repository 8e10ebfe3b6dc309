"""Coarse-to-fine search: blocks are compared first, and cells only where their blocks agree.

    level 2   blocks of 16x16 cells   all with all      ──> three candidates a block
    level 1   blocks of  4x4  cells   in their windows  ──> three candidates a block, and those of the blocks around
    level 0   cells                   in their windows  ──> the best
The descriptor of a block is the mean features of its 2x2 quarters; the references' blocks lie half a block apart. The
number of levels grows until the comparison of all with all is cheap. Each level costs the same for a cell, however
large the picture.

A cell may be scored with its neighbours of the same block: they are compared with the same window anyway, so this
costs sums, no products.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from refsr.errors import MemoryBudgetError
from refsr.io.progress import Progress, silent
from refsr.search.match import cell_grid
from refsr.search.patches import mean_with_neighbours, patch_grid_size, unit_rows

_STEP: Final = 4
"""Side of a block in blocks of the next finer level."""

_MAXIMUM_PRODUCTS: Final = 1e9
"""Maximum multiplications of the coarsest level, as long as levels can be added."""

_BLOCK_CANDIDATES: Final = 3
_MARGIN: Final = 2
"""Margin of a search window, in places of its level."""

_NEIGHBOURS: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))
_NUMBERS_AT_ONCE: Final = 2**23
"""Working set of 32 MiB; a larger one is not faster."""

_PRODUCTS_AT_ONCE: Final = 2**22
_PRODUCT_BYTES: Final = 20
"""Memory for a product of the coarsest level, with its copies."""

_NOWHERE: Final = -(2**30)
_NORM_EPSILON: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Descriptors of one level, in reading order.

    Attributes:
        query: Unit descriptors of the query's blocks; of its cells at level 0.
        query_size: Rows and columns of the query.
        cells: Descriptors of the reference's patches at level 0, else mean features of its quarter blocks.
        cells_wide: Columns of `cells`.
        key_size: Rows and columns of places, the positions that a block may be matched at.
        lengths: Norms of the 2x2 quarters of each place; None at level 0.
        places: Width of a block in places: two, or one at level 0.
    """

    query: Float[Tensor, "n d"]
    query_size: tuple[int, int]
    cells: Float[Tensor, "m e"]
    cells_wide: int
    key_size: tuple[int, int]
    lengths: Float[Tensor, " p"] | None
    places: int

    def key(self, number: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Unit descriptors of places; put together on demand, since places overlap.

        `index_select`, which copies whole rows, is four times as fast here as indexing.
        """
        if self.lengths is None:
            return self.cells.index_select(0, number)
        corner = number // self.key_size[1] * self.cells_wide + number % self.key_size[1]
        quarters = (corner, corner + 1, corner + self.cells_wide, corner + self.cells_wide + 1)
        rows = torch.cat([self.cells.index_select(0, quarter) for quarter in quarters], 1)
        return rows.div_(self.lengths[number, None])


class CoarseSearch:
    """Search of one reference: all levels of blocks at construction, then the cells of the blocks that are wanted.

    Source: after Barnes et al., "The Generalized PatchMatch Correspondence Algorithm", ECCV 2010, section 3: several
        candidates each, spread among neighbours.
    """

    def __init__(
        self,
        query: Float[Tensor, "c h w"],
        key: Float[Tensor, "c h2 w2"],
        patch: int,
        memory_bytes: int,
        with_neighbours: bool = False,
    ) -> None:
        """Compare the blocks.

        Args:
            query: Feature map of the upsampled LR image.
            key: Feature map of the blurred reference.
            patch: Side of a patch in cells.
            memory_bytes: Bound on the working memory beside the patches themselves.
            with_neighbours: Score a patch with the eight around it, as far as they are in its block.

        Raises:
            MemoryBudgetError: Not even one window fits the budget.
        """
        depth = _depth(query, key)
        level = _level(query, key, depth, patch)
        places, scores = _all_with_all(level, _BLOCK_CANDIDATES if depth else 1, memory_bytes)
        self._size = level.query_size
        self._windows: _Windows | None = None
        for finer in range(depth - 1, -1, -1):
            parents = level.query_size
            level = _level(query, key, finer, patch)
            candidates = _distinct(_spread(places, parents))
            kept = _BLOCK_CANDIDATES if finer else 1
            windows = _Windows(level, parents, candidates, kept, memory_bytes, with_neighbours and not finer)
            if finer:
                windows.look()
                places, scores = windows.best()
            else:
                self._windows, self._size = windows, level.query_size
        self._found = places, scores

    def look(self, wanted: Bool[Tensor, "h3 w3"] | None = None, progress: Progress = silent) -> None:
        """Search the cells of all blocks, or of the blocks of wanted cells; blocks may be searched again."""
        if self._windows is not None:
            self._windows.look(None if wanted is None else self._blocks(wanted), progress)
        progress(1.0)

    def found(self) -> tuple[Int[Tensor, "2 h3 w3"], Float[Tensor, "h3 w3"]]:
        """Corner and score of each patch's match; the score is minus infinity where none was searched."""
        places, scores = self._found if self._windows is None else self._windows.best()
        height, width = self._size
        return rearrange(places[:, 0].long(), "(h w) yx -> yx h w", h=height, w=width), scores[:, 0].view(height, width)

    def _blocks(self, wanted: Bool[Tensor, "h3 w3"]) -> Bool[Tensor, " n"]:
        return F.max_pool2d(wanted[None].float(), _STEP, ceil_mode=True)[0].flatten() > 0


def _depth(query: Float[Tensor, "c h w"], key: Float[Tensor, "c h2 w2"]) -> int:
    """Fewest levels of blocks that make the coarsest one cheap; each needs four blocks a side in query and key."""
    smallest = min(*query.shape[-2:], *key.shape[-2:])
    depth = 1 if smallest >= 4 * _STEP else 0
    while True:
        blocks = query[0].numel() / _STEP ** (2 * depth)
        places = key[0].numel() * 4 / _STEP ** (2 * depth)
        if blocks * places * 4 * query.shape[0] <= _MAXIMUM_PRODUCTS or smallest < 4 * _STEP ** (depth + 1):
            return depth
        depth += 1


def _level(query: Float[Tensor, "c h w"], key: Float[Tensor, "c h2 w2"], depth: int, patch: int) -> _Level:
    if depth == 0:
        return _Level(
            query=unit_rows(query, patch),
            query_size=patch_grid_size(query, patch),
            cells=unit_rows(key, patch),
            cells_wide=patch_grid_size(key, patch)[1],
            key_size=patch_grid_size(key, patch),
            lengths=None,
            places=1,
        )
    quarter = _STEP**depth // 2
    quarters, key_quarters = _means(query, quarter), _means(key, quarter)
    blocks = rearrange(quarters, "c (h i) (w j) -> (h w) (i j c)", i=2, j=2)
    squares = key_quarters.square().sum(0)
    of_rows = squares[1:] + squares[:-1]
    lengths = (of_rows[:, 1:] + of_rows[:, :-1]).sqrt().clamp_min(_NORM_EPSILON)
    return _Level(
        query=F.normalize(blocks, dim=1),
        query_size=(quarters.shape[-2] // 2, quarters.shape[-1] // 2),
        cells=rearrange(key_quarters, "c h w -> (h w) c"),
        cells_wide=key_quarters.shape[-1],
        key_size=patch_grid_size(key_quarters, 2),
        lengths=lengths.flatten(),
        places=2,
    )


def _means(grid: Float[Tensor, "c h w"], side: int) -> Float[Tensor, "c h2 w2"]:
    """Means of squares, an even number in each direction; the last ones may be smaller, or repeated."""
    # With the strides of `grid[None]`, torch pools a transposed copy, ten times as slowly.
    batch = grid.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    means = F.avg_pool2d(batch, side, ceil_mode=True, count_include_pad=False)
    height, width = means.shape[-2:]
    return F.pad(means, (0, width % 2, 0, height % 2), mode="replicate")[0]


def _all_with_all(level: _Level, kept: int, memory_bytes: int) -> tuple[Int[Tensor, "n k 2"], Float[Tensor, "n k"]]:
    """Places of the highest local maxima of the score, and these scores."""
    height, width = level.key_size
    key = level.key(torch.arange(height * width, device=level.query.device))
    rows = max(1, min(_PRODUCTS_AT_ONCE, memory_bytes // _PRODUCT_BYTES) // len(key))
    places, scores = [], []
    for part in torch.split(level.query, rows):
        products = (part @ key.T).view(-1, height, width)
        if kept > 1:
            products = products.masked_fill(products < _highest_around(products), -1.0)
        top = products.flatten(1).topk(min(kept, height * width), dim=1)
        places.append(torch.stack((top.indices // width, top.indices % width), -1))
        scores.append(top.values)
    return torch.cat(places).int(), torch.cat(scores)


def _highest_around(values: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Maximum of 3x3 places; faster than torch's max pooling, which computes indices as well."""
    highest = values
    for axis in (1, 2):
        along, size = highest.clone(), values.shape[axis]
        for to, by in ((0, 1), (1, 0)):
            there = along.narrow(axis, to, size - 1)
            torch.maximum(there, highest.narrow(axis, by, size - 1), out=there)
        highest = along
    return highest


def _spread(places: Int[Tensor, "n k 2"], size: tuple[int, int]) -> Int[Tensor, "n k2 2"]:
    """Each block's own candidates, then the best ones of its four neighbours, moved by the step between the blocks."""
    best = rearrange(places[:, 0], "(h w) yx -> h w yx", h=size[0], w=size[1])
    around = F.pad(best.permute(2, 0, 1)[None].double(), (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0).int()
    moved = [
        around[1 + dy : 1 + dy + size[0], 1 + dx : 1 + dx + size[1]] - 2 * best.new_tensor((dy, dx))
        for dy, dx in _NEIGHBOURS
    ]
    return torch.cat((places, *(part.reshape(-1, 1, 2) for part in moved)), 1)


def _distinct(candidates: Int[Tensor, "n k 2"]) -> Int[Tensor, "n k 2"]:
    """Candidates without those next to an earlier one, whose windows would be nearly the same."""
    kept = candidates.clone()
    for k in range(1, candidates.shape[1]):
        beside = (kept[:, :k] - candidates[:, k : k + 1]).abs().amax(2) <= 1
        kept[beside.any(1), k] = _NOWHERE
    return kept


class _Windows:
    """Search of a level in windows around the candidates of the next coarser one, the parents."""

    def __init__(
        self,
        level: _Level,
        parents: tuple[int, int],
        candidates: Int[Tensor, "n k 2"],
        kept: int,
        memory_bytes: int,
        with_neighbours: bool,
    ) -> None:
        """Nothing is searched yet.

        Args:
            level: Level of the children, 4x4 for each parent.
            parents: Rows and columns of parents.
            candidates: Candidates of each parent, in places of its level.
            kept: Candidates to keep for each child.
            memory_bytes: Bound on the windows that are searched at once.
            with_neighbours: Score a child with its neighbours of the same parent.

        Raises:
            MemoryBudgetError: Not even one window fits.
        """
        self.level, self.parents, self.candidates = level, parents, candidates
        self.with_neighbours = with_neighbours
        self.side = 3 * level.places + 2 * _MARGIN + 1
        numbers = 2 * (self.side**2 + _STEP**2) * level.query.shape[1] + self.side**2 * _STEP**2
        self.at_once = min(memory_bytes // 4, _NUMBERS_AT_ONCE) // numbers
        if self.at_once < 1:
            raise MemoryBudgetError.of_search(memory_bytes, 4 * numbers)
        shape = (len(candidates), _STEP**2, kept)
        self.scores = level.query.new_full(shape, -math.inf)
        self.places = torch.full((*shape, 2), _NOWHERE, dtype=torch.int32, device=level.query.device)

    def look(self, wanted: Bool[Tensor, " n"] | None = None, progress: Progress = silent) -> None:
        """Search the windows of all parents, or of those that are wanted."""
        there = self.candidates[..., 0] > _NOWHERE // 2
        if wanted is not None:
            there &= wanted[:, None]
        total, done = max(1, int(there.sum())), 0
        for k in range(self.candidates.shape[1]):
            parents = there[:, k].nonzero()[:, 0]
            for start in range(0, len(parents), self.at_once):
                parent = parents[start : start + self.at_once]
                self._look_at(parent, self.candidates[parent, k].long())
                done += len(parent)
                progress(done / total)

    def best(self) -> tuple[Int[Tensor, "m k2 2"], Float[Tensor, "m k2"]]:
        """Places and scores of all children, in reading order."""
        size = self.level.query_size
        return _in_reading_order(self.places, self.parents, size), _in_reading_order(self.scores, self.parents, size)

    def _look_at(self, parent: Int[Tensor, " m"], candidate: Int[Tensor, "m 2"]) -> None:
        """Search one window of each of these parents."""
        level, side, device = self.level, self.side, parent.device
        window = torch.arange(side, device=device)
        within = cell_grid((_STEP, _STEP), parent).flatten(1)
        last_row, last_column = (n - 1 for n in level.key_size)
        base = candidate * 2 * level.places - _MARGIN
        rows = (base[:, :1] + window).clamp(0, last_row)
        columns = (base[:, 1:] + window).clamp(0, last_column)
        seen = level.key((rows[:, :, None] * level.key_size[1] + columns[:, None, :]).flatten())
        y = (parent // self.parents[1] * _STEP)[:, None] + within[0]
        x = (parent % self.parents[1] * _STEP)[:, None] + within[1]
        number = y.clamp_max(level.query_size[0] - 1) * level.query_size[1] + x.clamp_max(level.query_size[1] - 1)
        asking = level.query.index_select(0, number.flatten()).view(len(parent), _STEP**2, -1)
        products = asking @ seen.view(len(parent), side**2, -1).transpose(1, 2)
        if self.with_neighbours:
            pairs = products.view(-1, _STEP, _STEP, side, side)
            products = mean_with_neighbours(pairs).view_as(products)
        score, index = products.max(2)
        place = torch.stack((rows.gather(1, index // side), columns.gather(1, index % side)), -1).int()
        self._keep(parent, score, place)

    def _keep(self, parent: Int[Tensor, " m"], score: Float[Tensor, "m c"], place: Int[Tensor, "m c 2"]) -> None:
        """Put new places among the children's best ones, unless a better one lies next to them."""
        scores, places = self.scores, self.places
        best, where = scores[parent], places[parent]
        if scores.shape[2] == 1:
            better = score > best[..., 0]
            scores[parent, :, 0] = torch.where(better, score, best[..., 0])
            places[parent, :, 0] = torch.where(better[..., None], place, where[..., 0, :])
            return
        beside = (where - place[:, :, None]).abs().amax(3) <= 1
        known = (beside & (best >= score[..., None])).any(2)
        # Worse places next to a new one give way to it.
        best = best.masked_fill(beside & ~known[..., None], -math.inf)
        score = score.masked_fill(known, -math.inf)
        order = torch.cat((best, score[..., None]), 2).topk(best.shape[2], dim=2)
        scores[parent] = order.values
        picked = order.indices[..., None].expand(-1, -1, -1, 2)
        places[parent] = torch.cat((where, place[:, :, None]), 2).gather(2, picked)


def _in_reading_order(values: Tensor, parents: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """From children by parent to one list of the whole grid; what lies beyond the grid is left out."""
    grid = values.view(*parents, _STEP, _STEP, *values.shape[2:]).transpose(1, 2)
    grid = grid.reshape(parents[0] * _STEP, parents[1] * _STEP, *values.shape[2:])
    return grid[: size[0], : size[1]].reshape(size[0] * size[1], *values.shape[2:])
