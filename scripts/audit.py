"""Known holes in what is installed: pip-audit, which asks PyPI's advisories; without a network that is said.

A hole ends with 1. CI has no network beyond the package registry, whose mirror may lack the advisories.
"""

import subprocess
import sys
from pathlib import Path

_NO_ANSWER = ("ConnectionError", "ServiceError", "Max retries", "timed out", "503", "404", "403", "NameResolutionError")


def main() -> int:
    """Run it on what `constraints.txt` pins."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(Path(__file__).parent.parent / "constraints.txt"),
    ]
    command += ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--timeout", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode and "Name" not in done.stdout and any(sign in said for sign in _NO_ANSWER):
        print(
            "pip-audit: no advisories can be reached from here, nothing is known:", said.strip().splitlines()[-1][:200]
        )
        return 0
    print(said.strip())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
