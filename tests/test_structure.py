"""The structure of the package: a limited number of rooms and of imports between them, and no file name twice."""

from collections import Counter
from pathlib import Path

import grimp

import refsr

PACKAGE = Path(refsr.__file__).parent
MAXIMUM_ROOMS = 24
MAXIMUM_ARROWS = 125


def test_rooms_and_arrows() -> None:
    """A room is a direct child of the package; an arrow goes from one to another that any of its files imports."""
    graph = grimp.build_graph("refsr", cache_dir=None)
    files = graph.modules - {"refsr"}
    rooms = {_room(file) for file in files}
    arrows = {
        (_room(file), _room(imported)) for file in files for imported in graph.find_modules_directly_imported_by(file)
    }
    assert len(rooms) <= MAXIMUM_ROOMS, sorted(rooms)
    between = sorted((first, second) for first, second in arrows if first != second and second in rooms)
    assert len(between) <= MAXIMUM_ARROWS, between


def test_file_names_occur_once() -> None:
    counts = Counter(file.stem for file in PACKAGE.rglob("*.py") if not file.stem.startswith("__"))
    assert not [name for name, count in counts.items() if count > 1]


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])
