"""A result is marked, and never taken for a photo."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from conftest import fails, small_models, texture
from PIL import ExifTags, Image

from refsr import ImageError, Photo, upscale
from refsr.assets import sample_path
from refsr.batch.jobs import JobOptions, read_jobs
from refsr.cli import main
from refsr.io.mark import Mark, is_marked, marked
from refsr.io.metadata import Metadata, loaded_exif
from refsr.io.photo import as_photo, is_result_file, read_preview, write_photo
from refsr.models import RefSRModel
from refsr.references.index import open_library

MARK = Mark(version="1.2.3", model="default abc", references={"a & <b>\n.jpg": 0.634, "c.jpg": None})
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:rights>Ann</dc:rights>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif(**texts: str) -> bytes:
    made = Image.Exif()
    for name, text in texts.items():
        made[ExifTags.Base[name]] = text
    return made.tobytes()


def elements(xmp: bytes | None) -> dict[str, list[str]]:
    """Texts by the local name of their element."""
    assert xmp is not None
    found: dict[str, list[str]] = {}
    for element in ElementTree.fromstring(xmp.split(b"?>", 1)[-1].rsplit(b"<?xpacket", 1)[0]).iter():
        if element.text:
            found.setdefault(element.tag.partition("}")[2], []).append(element.text)
    return found


def test_a_mark_is_added_to_what_is_there() -> None:
    before = Metadata(exif=exif(Software="Camera 1.0", Artist="Ann"), xmp=XMP)
    assert not is_marked(before)
    after = marked(before, MARK)
    assert is_marked(after)
    tags = loaded_exif(after.exif or b"")
    assert tags[ExifTags.Base.Software] == "Camera 1.0; refsr 1.2.3"
    assert tags[ExifTags.Base.Artist] == "Ann"
    said = elements(after.xmp)
    assert said["rights"] == ["Ann"]
    assert said["version"] == ["1.2.3"]
    assert said["model"] == ["default abc"]
    assert said["li"] == ["a & <b> .jpg (63%)", "c.jpg"]
    assert said["DigitalSourceType"][0].endswith("/compositeWithTrainedAlgorithmicMedia")


@pytest.mark.parametrize("xmp", [None, b"", b"damaged", b"\xff\xfe"])
def test_a_mark_without_metadata(xmp: bytes | None) -> None:
    assert elements(marked(Metadata(xmp=xmp), MARK).xmp)["version"] == ["1.2.3"]
    assert is_marked(replace_xmp(marked(Metadata(xmp=xmp), MARK))), "EXIF alone is enough"


def replace_xmp(metadata: Metadata) -> Metadata:
    return Metadata(exif=metadata.exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_format_keeps_the_mark(tmp_path: Path, suffix: str, bits: int) -> None:
    path = tmp_path / f"a{suffix}"
    photo = Photo(pixels=texture(12, 16), bits=16 if bits == 16 else 8)
    write_photo(path, photo)
    assert not is_result_file(path)
    assert not as_photo(path).is_result
    result = upscale(path, model=small_models()["sisr"])
    result.save(path)
    assert is_result_file(path)
    assert as_photo(path).is_result
    with pytest.raises(ImageError, match="is a result of refsr, whose detail may be guessed"):
        read_preview(path, 64)


def test_the_mark_names_the_references_and_their_shares(
    shipped: RefSRModel, sample: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    ref, noise = tmp_path / "beach.png", tmp_path / "noise.png"
    write_photo(ref, Photo(pixels=sample["ref"]))
    write_photo(noise, Photo(pixels=torch.rand(1, 3, 200, 240, generator=torch.Generator().manual_seed(0))))
    for measured in (True, False):
        result = upscale(sample["lr"], [ref, noise], model=shipped, provenance=measured)
        share = f" ({result.provenance.shares[str(ref)]:.0%})" if measured else ""
        assert elements(result.photo.metadata.xmp)["li"] == [f"beach.png{share}"]
        assert elements(result.photo.metadata.xmp)["model"] == [f"default {shipped.digest()}"]


def test_a_photo_that_is_left_as_it_is_bears_no_mark(shipped: RefSRModel, sample: dict[str, torch.Tensor]) -> None:
    assert not upscale(sample["truth"], model=shipped, scale=1).photo.is_result


def test_an_album_leaves_out_its_own_results(
    shipped: RefSRModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sharper a result looks, the better it would fit."""
    album, blurry = tmp_path / "album", tmp_path / "blurry.png"
    album.mkdir()
    truth = as_photo(sample_path("truth")).pixels[..., 120:376, 200:520]
    write_photo(blurry, Photo(pixels=torch.nn.functional.avg_pool2d(truth, 4)))
    write_photo(album / "sharp.png", Photo(pixels=truth))
    for _ in range(2):
        assert main(["upscale", str(blurry), "--album", str(album), "-o", str(album / "result.png"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["used"] == [str(album.resolve() / "sharp.png")]
    library = open_library(album, shipped, cache=tmp_path / "cache")
    assert [path.name for path in library.paths] == ["sharp.png"]
    assert library.complaints() == (
        f"left out {album.resolve()}/result.png: is a result of refsr, whose detail may be guessed: take the photo that"
        " it was made from",
    )


def test_a_batch_leaves_out_results(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", Photo(pixels=texture(12, 16)))
    upscale(tmp_path / "a.png", model=small_models()["sisr"]).save(tmp_path / "a_refsr.png")
    said: list[str] = []
    jobs = read_jobs(tmp_path, JobOptions(), tmp_path / "out", None, said.append)
    assert [job.image.name for job in jobs] == ["a.png"]
    assert said == ["left out 1 result of refsr: name a list to enlarge them once more"]


def test_a_result_as_a_reference_is_taken_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, ref = tmp_path / "photo.png", tmp_path / "ref.png"
    write_photo(photo, Photo(pixels=texture(24, 32)))
    upscale(texture(24, 32, seed=1), model=small_models()["sisr"]).save(ref)
    assert main(["upscale", str(photo), "--ref", str(ref), "-o", str(tmp_path / "out.png")]) == 0
    assert f"{ref}: was made by refsr: detail that was guessed in it is taken for real" in capsys.readouterr().err


def test_pairs_are_made_of_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    for name in ("a", "b"):
        upscale(texture(40, 40), model=small_models()["sisr"]).save(tmp_path / f"{name}.png")
    fails(
        capsys, 2, "2 could not be read, such as a.png: .*is a result of refsr", "pairs", tmp_path, "-o", tmp_path / "o"
    )
