"""`python -m refsr`, and the command `refsr`."""

import sys

from refsr.cli import main


def run() -> None:
    """Exit with the command line's code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
