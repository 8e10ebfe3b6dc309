"""`python -m refsr`, and the command `refsr`."""

import sys

from refsr.signals import end_at_once


def run() -> None:
    """Run the command line, and exit with its code."""
    end_at_once()
    from refsr.cli import main  # takes a moment, in which Ctrl-C may come

    sys.exit(main())


if __name__ == "__main__":
    run()
