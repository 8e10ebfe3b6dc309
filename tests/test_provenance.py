"""The map: its picture and its numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refsr.errors import OutputError
from refsr.restore.provenance import Provenance


@pytest.fixture
def provenance() -> Provenance:
    used_levels = torch.zeros(4, 6)
    used_levels[:, 3:] = 9
    reference = torch.zeros(4, 6, dtype=torch.long)
    reference[2:] = 1
    return Provenance(
        reference=reference,
        position_px=torch.rand(2, 4, 6),
        score=torch.rand(4, 6),
        used_levels=used_levels,
        names=("a.jpg", "b.jpg"),
    )


def test_grey_where_guessed_and_coloured_where_real(provenance: Provenance) -> None:
    painted = np.asarray(provenance.to_image(Image.new("RGB", (24, 16), (200, 100, 50)))).astype(int)
    assert painted.shape == (16 + 22, 24, 3)
    guessed, first, second = painted[2, 2], painted[2, 21], painted[14, 21]
    assert np.ptp(guessed) == 0
    assert first[1] - first[0] > 30, "the first reference is green"
    assert second[0] - second[2] > 30, "the second is orange"


def test_numbers_are_saved(provenance: Provenance, tmp_path: Path) -> None:
    provenance.save(tmp_path / "map.npz", Image.new("RGB", (24, 16)))
    with np.load(tmp_path / "map.npz") as numbers:
        assert numbers["names"].tolist() == ["a.jpg", "b.jpg"]
        assert np.array_equal(numbers["position_px"], provenance.position_px.numpy())
        assert np.array_equal(numbers["reference"], provenance.reference.numpy())


def test_other_suffixes_are_refused(provenance: Provenance, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"map.jpg: a map cannot be written as '.jpg': use .png .* or .npz"):
        provenance.save(tmp_path / "map.jpg", Image.new("RGB", (24, 16)))
    assert not list(tmp_path.iterdir())
