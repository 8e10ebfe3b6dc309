"""Log of a run: lines of JSON, and TensorBoard files on request."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from refsr.extras import import_extra


class RunLog:
    """Collects figures, and writes their means."""

    def __init__(self, run: Path, tensorboard: bool) -> None:
        """Open the log of a run.

        Args:
            run: Folder of log.jsonl and tensorboard/.
            tensorboard: Whether to write TensorBoard files.

        Raises:
            MissingExtraError: TensorBoard is not installed.
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
        """Collect the figures of a step; tensors stay on their device until `means`."""
        for name, figure in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + figure
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means of all figures since the last call."""
        found = {name: float(self._sums[name]) / self._counts[name] for name in self._sums}
        self._sums, self._counts = {}, {}
        return found

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line, and send its numbers to TensorBoard."""
        rounded = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in line.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
        if self._board is not None:
            for key, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(key, value, line["step"])

    def show(self, name: str, pictures: Float[Tensor, "3 h w"], step: int) -> None:
        """Send a picture to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pictures.clamp(0, 1).cpu(), step)
            self._board.flush()
