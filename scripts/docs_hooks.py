"""What mkdocs puts into the pages when it builds them."""

from typing import Any

from refsr.cli import app


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The command line as the program itself describes it, in place of `{{ command line }}`."""
    if "{{ command line }}" not in markdown:
        return markdown
    described = app.generate_docs(output_format="markdown")
    without_title = described.partition("\n")[2]
    head, _, commands = without_title.partition("## Table of Contents")
    return markdown.replace("{{ command line }}", head + "**Commands**" + commands.partition("**Commands**")[2])
