"""The docs' examples run, their commands exist, and their links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from refsr.assets import sample_path
from refsr.cli import app
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.resize import downscale_bicubic

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> Iterator[str]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if found[1] == language:
            yield found[2]


@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "python"))], ids=lambda page: page.name)
def test_examples_in_python_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    truth = as_photo(sample_path("truth")).pixels[..., :160, :160]
    write_photo(Path("blurry.jpg"), Photo(pixels=downscale_bicubic(truth, 4)))
    write_photo(Path("sharp.jpg"), as_photo(sample_path("reference")))
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})
    assert Path("restored.png").is_file()


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        lines = "".join(blocks(page, "")).replace("\\\n", " ").splitlines()
        for line in lines if page.name != "log.md" else ():  # the log has what was run then
            if line.startswith("refsr ") and "[--" not in line:  # a synopsis is no command
                yield page.name, line.split("#")[0].strip()


def test_commands_are_found() -> None:
    assert {"README.md", "batch.md", "training.md"} <= {page for page, _ in commands()}


@pytest.mark.parametrize(("page", "command"), list(commands()), ids=lambda text: text.replace(" ", "_"))
def test_commands_exist(page: str, command: str) -> None:
    try:
        app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{page}: {command}: {error}")


def test_links_lead_somewhere() -> None:
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    ]
    assert len(links) > 20
    assert not [(page.name, target) for page, target in links if not (page.parent / target).exists()]


def test_the_readmes_of_both_languages_show_the_same_commands() -> None:
    first = next(blocks(ROOT / "README.md", ""))
    assert [line.split("#")[0].strip() for line in first.splitlines()] == [
        line.split("#")[0].strip() for line in next(blocks(ROOT / "README.zh.md", "")).splitlines()
    ]


def test_no_page_is_missing_in_the_navigation() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
