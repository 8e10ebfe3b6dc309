"""How a run is stopped from outside: by Ctrl-C (SIGINT), or by `kill` and schedulers (SIGTERM).

first moments     modules are imported, nothing is written    a signal ends the process at once, in one line
`interruptible`   a verb is at work                           a signal raises KeyboardInterrupt: all is put in order
last moments      everything is written                       a signal ends the process at once
Signals that the process was started to ignore, as by nohup, are ignored.
"""

import _thread
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM while a verb is at work."""


_received: list[signal.Signals] = []


def end_at_once() -> None:
    """From now on, either signal ends this process in one line; only for programs, which own their process."""
    try:
        for number in _STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _end)
    except KeyboardInterrupt:
        _end(signal.SIGINT, None)
    sys.unraisablehook = _interrupt_again


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, either signal raises KeyboardInterrupt, if this is a program that called `end_at_once`."""
    owned = [number for number in _STOPPING if signal.getsignal(number) is _end]
    for number in owned:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in owned:
            signal.signal(number, _end)


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all processes of a command."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_code(error: BaseException) -> int | None:
    """Exit code if a signal was the cause of an error, by whichever name it arrives; None if not.

    An import that is interrupted often fails with ImportError.
    """
    if _received:
        return 128 + _received[0]
    if isinstance(error, KeyboardInterrupt):
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return None


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"refsr: stopped\n")
    os._exit(128 + number)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _received.append(signal.Signals(number))
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _interrupt_again(unraisable: Any) -> None:
    """Repeat an interruption that fell into a place where nothing can be raised, such as a destructor."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _thread.interrupt_main(_received[0] if _received else signal.SIGINT)
    else:
        sys.__unraisablehook__(unraisable)
