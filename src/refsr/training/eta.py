"""Estimate of the time that a stage takes."""

import time


class StretchEstimate:
    """Estimates once, at the second line of the log: the steps before the first line decode photos and compile."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, float]] = []

    def at_line(self, step: int, last_step: int, seconds_left: float | None) -> str | None:
        """The estimate at a line of the log, if it is due.

        Args:
            step: Steps done.
            last_step: Last step of the stage.
            seconds_left: Time left of the limit; None without a limit.
        """
        self._lines.append((step, time.monotonic()))
        if len(self._lines) != 2:
            return None
        done, passed = (new - old for old, new in zip(*self._lines, strict=True))
        pace, left = passed / done, last_step - step
        possible = left if seconds_left is None else int(seconds_left / pace)
        if possible < left:
            return f"{pace:.3g} s a step: the time limit ends it at about step {step + possible}"
        return f"{pace:.3g} s a step: the stage takes {left * pace / 60:.0f} more minutes"
