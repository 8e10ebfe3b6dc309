"""How far will a stretch of training come?"""

import time


class StretchEstimate:
    """Told of the log's lines, it foretells once, at the second: steps before the first decode, and compile."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, float]] = []

    def at_line(self, step: int, last_step: int, seconds_left: float | None) -> str | None:
        """What to say at a line of the log.

        Args:
            step: Done so far.
            last_step: Of the stage.
            seconds_left: Until the end of the stretch; None without a limit.
        """
        self._lines.append((step, time.monotonic()))
        if len(self._lines) != 2:
            return None
        done, passed = (new - old for old, new in zip(*self._lines, strict=True))
        pace, left = passed / done, last_step - step
        possible = left if seconds_left is None else int(seconds_left / pace)
        if possible < left:
            return f"{pace:.3g} s a step: the time will be over at about step {step + possible}"
        return f"{pace:.3g} s a step: the stage takes {left * pace / 60:.0f} more minutes"
