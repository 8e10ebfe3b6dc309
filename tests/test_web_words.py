"""The words of the page: both languages say the same, and each visitor is told in one of them."""

import re
from itertools import chain

import pytest

from refsr.web.words import FIXED, SPOKEN, Words, fixed_words, words_for

FIGURES = {"references": 8, "file": 50, "request": 200, "megapixels": 64, "minutes": 15}


@pytest.mark.parametrize("texts", [FIXED, SPOKEN])
def test_both_languages_have_the_same_keys_and_places(texts: dict[str, dict[str, str]]) -> None:
    def places(language: str) -> dict[str, list[str]]:
        return {key: sorted(re.findall(r"{(\w+)}", text)) for key, text in texts[language].items()}

    assert places("en") == places("zh")
    assert all(
        re.search("[\u4e00-\u9fff]", text)
        for text in texts["zh"].values()
        if re.search("[a-z]{2}", re.sub("{.*?}", "", text))
    )
    assert not any(re.search("[\u4e00-\u9fff]", text) for text in texts["en"].values())


def test_every_word_is_said_somewhere() -> None:
    from pathlib import Path

    import refsr.web

    sources = [path.read_text() for path in Path(refsr.web.__path__[0]).glob("*.py") if path.name != "words.py"]
    for key in chain(FIXED["en"], SPOKEN["en"]):
        if key in ("seconds", "minutes"):
            continue
        assert any(f'"{key}"' in source for source in sources), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.5", "en"),
        ("fr-FR,fr;q=0.9,zh-TW;q=0.3", "zh"),
        ("de", "en"),
        ("zh;q=nonsense, en;q=0.1", "en"),
        ("*;;;,=,", "en"),
    ],
)
def test_the_browser_says_the_language(header: str | None, language: str) -> None:
    assert words_for(header).language == language


def test_places_are_filled() -> None:
    filled = fixed_words(FIGURES)
    assert set(filled) >= {"en", "zh", "zh-CN", "zh-TW"}
    assert not any("{" in text for texts in filled.values() for text in texts.values())
    assert filled["zh-CN"] == filled["zh"]
    assert Words("en")("waiting", ahead=2, time="about 5 s") == "Waiting: 2 before you, your turn in about 5 s."


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "about 1 s"), (42.4, "about 42 s"), (130.0, "about 2 min"), (3000.0, "about 50 min")]
)
def test_time_as_a_person_says_it(seconds: float, said: str) -> None:
    assert Words("en").time(seconds) == said
