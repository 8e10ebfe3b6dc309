"""No training photo shows a picture that results are measured on."""

from pathlib import Path

import numpy as np
import pytest
from conftest import texture
from PIL import Image
from scipy.fft import dctn

from refsr.data.leaks import find_leaks, perceptual_hash
from refsr.data.sources import open_sources
from refsr.io.listing import list_photos


def picture(seed: int, shift: int = 0) -> Image.Image:
    pixels = (texture(96, 128, seed)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.roll(pixels, shift, axis=1))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    training, tests = tmp_path / "training", tmp_path / "tests"
    for folder in (training, tests):
        folder.mkdir()
    for seed in range(4):
        picture(seed).save(training / f"{seed}.png")
        picture(seed, shift=40).save(tests / f"{seed}.png")
    return training, tests


def test_the_hash_is_that_of_an_independent_transform() -> None:
    image = picture(0)
    small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=float)
    slow = dctn(small, norm="ortho")[:8, :8].ravel()[1:]
    assert np.array_equal(perceptual_hash(image), slow > np.median(slow))


def test_changed_copies_are_found_and_other_pictures_are_not(folders: tuple[Path, Path]) -> None:
    training, tests = folders
    assert find_leaks(list_photos(training), list_photos(tests)) == {}
    copy = tests / "copy.jpg"
    picture(2).resize((75, 60)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy, quality=40)
    (training / "3.png").write_bytes(b"no photo")
    (tests / "0.png").write_bytes(b"no photo")
    assert find_leaks(list_photos(training), list_photos(tests)) == {2: copy}


def test_photos_that_show_a_held_out_picture_are_left_out(folders: tuple[Path, Path]) -> None:
    training, tests = folders
    picture(1).resize((100, 75)).save(tests / "copy.png")
    sources = open_sources((training,), 64, held_out=(tests,))
    assert sources.leaks == ((str(training / "1.png"), str(tests / "copy.png")),)
    assert [Path(str(file)).name for file in sources.photos.files] == ["0.png", "2.png", "3.png"]


@pytest.mark.parametrize("held_out", ["dev", "sisr"])
def test_no_photo_that_is_trained_on_shows_a_test_picture(shared: Path, held_out: str) -> None:
    """With what the model card's command holds out."""
    tests = shared / "data" / held_out
    sources = open_sources((shared / "data" / "train",), 160, held_out=(tests,))
    files = [sources.photos.files[number] for number in sources.single]
    assert len(files) > 600
    assert find_leaks(files, list_photos(tests)) == {}
