"""What a run tells: a line of JSON now and then, and TensorBoard's files if they are wanted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from refsr.extras import import_extra


class RunLog:
    """Means of what was told since the last line."""

    def __init__(self, run: Path, tensorboard: bool) -> None:
        """Open.

        Args:
            run: Folder; gets log.jsonl, and tensorboard/.
            tensorboard: Whether it does.

        Raises:
            MissingExtraError: TensorBoard is wanted and not installed.
        """
        self.path = run / "log.jsonl"
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}
        self._board: Any = None
        if tensorboard:
            import_extra("tensorboard", "--tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"))

    def add(self, figures: Mapping[str, float | Tensor]) -> None:
        """Remember one step's figures; tensors stay on their device until the means are asked for."""
        for name, figure in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + figure
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Of all since the last call."""
        found = {name: float(self._sums[name]) / self._counts[name] for name in self._sums}
        self._sums, self._counts = {}, {}
        return found

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; numbers go to TensorBoard as well."""
        rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in line.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
        if self._board is not None:
            for key, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(key, value, line["step"])

    def show(self, name: str, pictures: Float[Tensor, "3 h w"], step: int) -> None:
        """A picture for TensorBoard, if there is one."""
        if self._board is not None:
            self._board.add_image(name, pictures.clamp(0, 1).cpu(), step)
            self._board.flush()
