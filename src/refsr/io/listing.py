"""Photos of a folder: one rule for albums, training data, batches and data sets."""

from pathlib import Path

from refsr.io.decode import READABLE_SUFFIXES


def list_photos(folder: Path, *, deep: bool = True, without: Path | None = None) -> list[Path]:
    """Files with the suffix of a photo, sorted; hidden files and folders are left out.

    Args:
        folder: May be missing: then there are none.
        deep: Whether to search all folders in it.
        without: Folder to leave out, such as that of the results.
    """
    left_out = None if without is None else without.resolve()
    return [
        path
        for path in sorted(folder.glob("**/*" if deep else "*"))
        if path.suffix.lower() in READABLE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and (left_out is None or not path.resolve().is_relative_to(left_out))
    ]
