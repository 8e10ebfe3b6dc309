"""Pieces of the page in HTML: status, trouble, the loupe and the references. All that visitors name is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Final

from PIL import Image

from refsr.assets import figure_path
from refsr.web.finished import Given, JobResult
from refsr.web.kept_results import Layer
from refsr.web.turns import Status
from refsr.web.words import Words

CSS: Final = """
.gradio-container {max-width: min(1280px, 100vw) !important; margin: auto}
[data-testid=status-tracker] {display: none !important}
.html-container {padding: 0 !important}
#status {min-height: 2em}
.bar {height: 8px; border-radius: 4px; overflow: hidden; background: var(--border-color-primary); margin-bottom: 6px}
.bar div {height: 100%; background: var(--color-accent)}
.problem {border-left: 4px solid #c2410c; padding: .4em .8em; background: var(--background-fill-secondary)}
.problem, .note, .step, .summary {overflow-wrap: anywhere}
.note {opacity: .75}
.figure img {width: 100%; border-radius: 8px}
.loupe {display: flex; flex-wrap: wrap; gap: 6px}
.loupe figure {position: relative; flex: 1 1 130px; min-width: 0; margin: 0}
.loupe img {width: 100%; aspect-ratio: 1; object-fit: none; border-radius: 6px; background: #8882}
.loupe figcaption {position: absolute; top: 6px; left: 6px; padding: 1px 8px; border-radius: 6px; font-size: .85em;
  color: white; background: #000a}
.cards {display: flex; flex-wrap: wrap; gap: 12px}
.cards figure {display: flex; gap: 10px; align-items: center; margin: 0; flex: 1 1 240px; min-width: 0}
.cards img {width: 84px; height: 84px; object-fit: cover; border-radius: 6px; flex: none}
.cards figcaption {min-width: 0; overflow-wrap: anywhere}
#compare-note {align-self: center}
#texture, #measure {--block-info-text-color: currentColor}
#preview img {cursor: zoom-in}
#scale label, #kind label {padding: 5px 8px}
"""

SCROLL: Final = """() => {
  const shown = document.querySelector("#result");
  if (shown && window.innerWidth < 768 && !document.querySelector("#status .problem"))
    setTimeout(() => shown.scrollIntoView({behavior: "smooth", block: "start"}), 300);
}"""
"""Run in the browser when a job has ended: where the result lies below the screen, it is brought up."""


def problem(line: str) -> str:
    """What did not work, until the next run begins."""
    return f'<div class="problem" role="alert">{escape(line)}</div>'


def step(status: Status) -> str:
    """What is done now, with a bar; none while nothing is done yet."""
    percent = f"{100 * status.share:.0f}"
    role = f'role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100"'
    bar = f'<div class="bar" {role}><div style="width: {percent}%"></div></div>' if status.share else ""
    return f'<div class="step" aria-live="polite">{bar}<div>{escape(status.text)}</div></div>'


def note(*lines: str) -> str:
    """Lines of less weight."""
    return "".join(f'<div class="note">{escape(line)}</div>' for line in lines)


def summary(result: JobResult) -> str:
    """What came out, in a sentence, and what was not read or not done."""
    return f'<div class="summary">{escape(result.summary)}</div>' + note(*result.notes)


def loupe(layers: Sequence[Layer], words: Words) -> str:
    """A place of each picture in full size, side by side."""
    parts = (
        f'<figure><img src="{_inline(image)}" alt="{escape(words(name))}">'
        f"<figcaption>{escape(words(name))}</figcaption></figure>"
        for name, image in layers
    )
    return f'<div class="loupe">{"".join(parts)}</div>'


def cards(given: Sequence[Given]) -> str:
    """The references, with what each gave."""
    parts = (
        f'<figure><img src="{_inline(each.thumbnail, quality=80)}" alt="">'
        f"<figcaption><b>{escape(each.name)}</b><br>{escape(each.text)}</figcaption></figure>"
        for each in given
    )
    return f'<div class="cards">{"".join(parts)}</div>'


def idea() -> str:
    """The picture that explains it all."""
    data = base64.b64encode(figure_path().read_bytes()).decode()
    return f'<div class="figure"><img src="data:image/webp;base64,{data}" alt=""></div>'


def _inline(image: Image.Image, quality: int = 92) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
