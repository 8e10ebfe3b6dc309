"""The docs' examples run, their commands exist, and their links lead somewhere."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from refsr.assets import sample_path
from refsr.cli import app
from refsr.cli.verbs import VERBS
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


def outline(page: Path) -> list[int]:
    """Levels of all headings, in order."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def untranslated(page: Path) -> list[list[str]]:
    """Lines of all blocks, without what is said beside them: comments, and what stands apart by two spaces."""
    found = [block for language in ("", "python") for block in blocks(page, language)]
    return [[re.split(r"  +|\s#", line, maxsplit=1)[0] for line in block.splitlines()] for block in found]


def test_the_readmes_of_both_languages_hold_the_same() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert outline(english) == outline(chinese)
    assert len(untranslated(english)) > 8
    assert untranslated(english) == untranslated(chinese)
    texts = [page.read_text(encoding="utf-8") for page in (english, chinese)]
    for pattern in (r"`(--[a-z-]+)", r"\]\(((?:docs|scripts)/[^)\s]+)", r"\d+\.\d\d"):
        first, second = (set(re.findall(pattern, text)) for text in texts)
        assert first == second, pattern


def test_the_gain_named_at_the_top_is_the_measured_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"the best reference brings (\S+) dB on (\d+) groups", text)
    measured = re.search(r"The best reference gains (\S+) dB on average", text)
    groups = re.search(r"^\| (\d+) groups of real photographs", text, re.MULTILINE)
    assert told
    assert measured
    assert groups
    assert told.groups() == (measured[1], groups[1])


def test_the_tree_in_the_readme_is_the_packages() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^[├└]── (\S+)", text, re.MULTILINE)
    package = ROOT / "src" / "refsr"
    rooms = [f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()]
    assert sorted(told) == sorted([*rooms, *(path.name for path in package.glob("[!_]*.py"))])


def test_extras_are_spelled_one_way() -> None:
    pages = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert len(re.findall(r"pip install 'refsr\[[a-z]+\]'", text)) > 20
    assert "pip install .[" not in text
    assert "pip install '.[" not in text
    assert not re.findall(r"(?<!pip install ')refsr\[[a-z]+\]", text)


def test_every_verb_is_in_the_table_with_an_example() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z ]+)` \| .+ \| `(refsr .+)` \|$", page, re.MULTILINE)
    expected = {*VERBS, *(f"bench {name}" for name in ("compare", "matches", "robust", "report", "speed"))}
    assert {verb for verb, _ in rows} == expected
    for verb, example in rows:
        assert example.startswith(f"refsr {verb}")
        app.parse_args(shlex.split(example)[1:], exit_on_error=False, print_error=False)


def test_the_site_describes_all_flags() -> None:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    made = hooks.on_page_markdown(page)
    assert "## All verbs and flags" in made
    assert all(flag in made for flag in ("--ref-degrees", "--crops", "--max-seconds"))


def test_no_page_is_missing_in_the_navigation() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
