"""The largest memory that this process has held."""

import sys
from pathlib import Path

from refsr.device import MIB


def reset_peak() -> None:
    """Begin anew, where the system can (Linux); elsewhere the peak is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """In MiB, since `reset_peak` on Linux."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # not on Windows

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / MIB if sys.platform == "darwin" else largest / 1024
