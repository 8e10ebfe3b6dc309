"""The queue: one job computes, the others wait for their turn and know their place.

A job that was stopped goes on until it next reports its progress; until then it stays in front.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


class FullError(Exception):
    """As many jobs wait as are allowed."""


@dataclass(eq=False)
class Ticket:
    """A place in the queue.

    Attributes:
        expected_s: Time that the job will take.
        begun: Time at which its turn came, by `time.monotonic`; None while it waits.
    """

    expected_s: float
    begun: float | None = None

    def left_s(self) -> float:
        """Time that the job will still take; a job that is late is about to end."""
        spent = 0.0 if self.begun is None else time.monotonic() - self.begun
        return max(1.0, self.expected_s - spent)


@dataclass
class Line:
    """The queue.

    Attributes:
        max_waiting: Maximum count of those who wait, beside the one that computes.
    """

    max_waiting: int
    _tickets: list[Ticket] = field(default_factory=list)
    _moved: threading.Condition = field(default_factory=threading.Condition)

    def join(self, expected_s: float) -> Ticket:
        """A place at the end.

        Raises:
            FullError: As many wait as are allowed.
        """
        with self._moved:
            if len(self._tickets) > self.max_waiting:
                raise FullError
            ticket = Ticket(expected_s)
            self._tickets.append(ticket)
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """Let the next one come."""
        with self._moved:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._moved.notify_all()

    def is_empty(self) -> bool:
        """Whether nobody computes or waits."""
        return not self._tickets

    def wait(self, ticket: Ticket, tell: Callable[[int, float], None], every_s: float = 1.0) -> None:
        """Wait for a ticket's turn.

        Args:
            ticket: From `join`.
            tell: Told again and again how many are before, and the time until the turn in seconds; it may raise.
            every_s: Time between two reports.
        """
        with self._moved:
            while before := self._tickets[: self._tickets.index(ticket)]:
                tell(len(before), sum(each.left_s() for each in before))
                self._moved.wait(every_s)
            ticket.begun = time.monotonic()
