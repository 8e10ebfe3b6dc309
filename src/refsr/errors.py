"""What can go wrong, in one tree.

    RefSRError                  anything the caller can act on; its text is one line that says what to do
    ├── ImageError              a picture that cannot be read or used
    ├── OutputError             a result that cannot be written
    ├── WeightsError            a weights file that is missing, damaged or of another model
    ├── UsageError              an argument out of range
    ├── MemoryBudgetError       the work does not fit the memory budget, or the machine
    ├── TrainingError           a training run that cannot go on
    └── MissingExtraError       an optional dependency that is not installed

Everything else that is raised is a defect of refsr.
"""


class RefSRError(Exception):
    """Base of every error that the caller can act on."""


class ImageError(RefSRError, ValueError):
    """A picture, file or array, that cannot be read or used."""


class OutputError(RefSRError, OSError):
    """A result that cannot be written."""


class WeightsError(RefSRError):
    """A weights file that is missing, damaged or of another model."""


class UsageError(RefSRError, ValueError):
    """An argument out of range."""


class MemoryBudgetError(RefSRError, MemoryError):
    """The work does not fit the memory budget, or the machine.

    Attributes:
        least_bytes: The smallest budget that would do, where a part of the work has one of its own.
    """

    least_bytes: int | None = None

    @classmethod
    def of_search(cls, memory_bytes: int, least_bytes: int) -> "MemoryBudgetError":
        """A search that was allowed too little.

        Args:
            memory_bytes: What it was allowed.
            least_bytes: What it needs.
        """
        error = cls(f"a search budget of {memory_bytes} bytes is too small: allow at least {least_bytes} bytes")
        error.least_bytes = least_bytes
        return error


class TrainingError(RefSRError):
    """A training run that cannot go on; the text names its last good checkpoint."""


class MissingExtraError(RefSRError, ImportError):
    """An optional dependency that is not installed; the text names the pip command."""
