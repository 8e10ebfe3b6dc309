"""What mkdocs puts into the pages when it builds them."""

from typing import Any, Final

from refsr.cli import app

_MARK: Final = "<!-- all verbs and flags: the site of `make docs` has them here -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The command line as the program itself describes it, in place of a comment."""
    if _MARK not in markdown:
        return markdown
    described = app.generate_docs(output_format="markdown")
    without_title = described.partition("\n")[2]
    head, _, commands = without_title.partition("## Table of Contents")
    listed = head + "**Commands**" + commands.partition("**Commands**")[2]
    return markdown.replace(_MARK, f"## All verbs and flags\n\n{listed}")
