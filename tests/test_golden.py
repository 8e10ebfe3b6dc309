"""Results of the program as they have been; `scripts/golden.py` makes them and compares them to the bit."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden.json").read_text())

_spec = importlib.util.spec_from_file_location("golden", ROOT / "scripts" / "golden.py")
assert _spec is not None
assert _spec.loader is not None
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def tolerance(name: str) -> dict[str, float]:
    """The flicker is read as it is printed, with two digits: another processor may round the last one otherwise."""
    return {"rel": 1e-3, "abs": 0.011 if name.endswith("/flicker") else 1e-4}


@pytest.mark.parametrize("kind", golden.KINDS)
def test_results_are_as_they_were(kind: str) -> None:
    found = golden.summarise(golden.measure(kind))
    expected = {name: values for name, values in GOLDEN.items() if name.startswith(f"{kind}/")}
    assert found.keys() == expected.keys()
    wrong = [name for name in expected if found[name] != pytest.approx(expected[name], **tolerance(name), nan_ok=True)]
    assert not wrong, {name: (expected[name], found[name]) for name in wrong[:5]}
