"""The command line: a function for each verb.

Exit codes: 0; 1 for a defect of refsr; 2 for wrong usage or input; 3 for a batch with failed jobs; 130 or 143 if
stopped by Ctrl-C or by `kill`.
"""

import errno
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Final

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from refsr import __version__
from refsr.cli.console import complain
from refsr.cli.verbs import register_verbs
from refsr.errors import RefSRError, UsageError
from refsr.signals import interruptible, stop_code

_RENAMED: Final = {
    "batch": {"--engine": "--where"},
    "bench": {"--json": "--output", "--refs": "--references"},
    "demo": {"--out": "--output"},
    "pairs": {"--jobs": "--processes"},
    "train": {"--out": "--output", "--accelerator": "--device", "--devices": "--processes"},
}
"""Old flag to new flag, by verb, for flags renamed since the last release; the old ones work for one more release."""

app = App(
    name="refsr",
    help="Reference-based image super-resolution: detail from another sharp photo.",
    default_parameter=Parameter(negative=()),
    version=__version__,
    version_format="plaintext",
    help_format="plaintext",  # Markdown, which takes a moment to import, is for the verbs
    suppress_keyboard_interrupt=False,
)
register_verbs(app)
app.register_install_completion_command(help="Install completion of verbs and flags for your shell.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; each failure is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    try:
        given = with_new_names(sys.argv[1:] if arguments is None else arguments)
        if any("-" in (argument, argument.partition("=")[2]) for argument in given):
            raise UsageError("-: standard input and output are not offered as files: name a file")
        run, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)  # imports the verb
        with interruptible():
            code = run(*bound.args, **bound.kwargs)
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:
        line, code = _failure(error)
        complain(line)
    return code if isinstance(code, int) else 0


def _failure(error: BaseException) -> tuple[str, int]:
    """Line and exit code of a failure."""
    if (code := stop_code(error)) is not None:
        return "stopped", code
    line = _remedy(error)
    return (f"a defect of refsr, please report it: {type(error).__name__}: {error}", 1) if line is None else (line, 2)


def _remedy(error: BaseException) -> str | None:
    """What the user can do about an error; None for a defect."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens and error.command_chain:
        return _too_much(error.unused_tokens[0], error.command_chain)
    if isinstance(error, RefSRError | CycloptsError):
        ours = isinstance(error, CycloptsError) and isinstance(error.__cause__, RefSRError)  # of a converter
        return str(error.__cause__ if ours else error)
    if isinstance(error, MemoryError):  # in reading or writing; `upscale` itself names the picture
        return "out of memory: close other programs, or use smaller pictures"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}: allow more (ulimit -n 1024), or fewer processes (--processes 1)"
    if isinstance(error, OSError):
        culprit = "the output" if error.filename is None else error.filename
        return f"{culprit}: {error.strerror}: choose another path, or free some disk space"
    return None


def _too_much(word: str, verbs: Sequence[str]) -> str:
    """The message about a word that a verb does not take."""
    if tuple(verbs) == ("upscale",):
        return f"{word}: `refsr upscale` takes one picture: enlarge several with `refsr batch FOLDER -o OUT`"
    if tuple(verbs) == ("batch",):
        return f"{word}: `refsr batch` takes one folder or list: put the pictures into a folder"
    command = " ".join(("refsr", *verbs))
    return f"{word}: is more than `{command}` takes: see `{command} --help`"


def with_new_names(arguments: Sequence[str]) -> list[str]:
    """Replace old flags by new ones, with a hint for each on standard error.

    Args:
        arguments: Command line, beginning with the verb.
    """
    renamed = _RENAMED.get(arguments[0], {}) if arguments else {}
    found = []
    for argument in arguments:
        flag, *value = argument.split("=", 1)
        if flag in renamed:
            complain(f"{flag} is called {renamed[flag]} now: the old name works in this release only")
        found.append("=".join((renamed.get(flag, flag), *value)))
    return found
