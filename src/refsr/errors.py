"""All errors.

    RefSRError                  anything the caller can act on; its text is one line with the culprit and the remedy
    ├── ImageError              a picture that cannot be read or used
    ├── OutputError             a result that cannot be written
    ├── WeightsError            a weights file that is missing, damaged or of another model
    ├── UsageError              an argument out of range
    ├── MemoryBudgetError       the work does not fit the memory budget, or the machine
    ├── TrainingError           a training run that cannot go on
    └── MissingExtraError       an optional dependency that is not installed

Any other exception is a defect of refsr.
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
        minimum_search_bytes: The smallest sufficient budget of the search, if it was the search's that is too small.
    """

    minimum_search_bytes: int | None = None

    @classmethod
    def of_search(cls, memory_bytes: int, minimum_bytes: int) -> "MemoryBudgetError":
        """The error of a search whose budget is too small."""
        error = cls(f"a search budget of {memory_bytes} bytes is too small: allow at least {minimum_bytes} bytes")
        error.minimum_search_bytes = minimum_bytes
        return error


class TrainingError(RefSRError):
    """A training run that cannot go on; the text names its last good checkpoint."""


class MissingExtraError(RefSRError, ImportError):
    """An optional dependency that is not installed; the text names the pip command."""
