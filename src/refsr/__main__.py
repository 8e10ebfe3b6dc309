"""`python -m refsr`, and the command `refsr`."""

import sys

from refsr.cli import main


def run() -> None:
    """Run the command line, and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    run()
