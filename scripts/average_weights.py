"""The mean of two weights files of one lineage and size: `python scripts/average_weights.py A B -o C [--share 0.5]`

Two runs that go on from the same weights often lie in one basin, and their mean is as good as the better one at what
each is good at. Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, section 3.
"""

import argparse
from pathlib import Path

from refsr.io.weights import save_weights
from refsr.models import load_model


def main() -> None:
    """Write the mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the second one")
    arguments = parser.parse_args()
    first, second = (load_model(path, device="cpu") for path in (arguments.first, arguments.second))
    if first.config != second.config:
        raise SystemExit(f"{arguments.second}: is of another size than {arguments.first}")
    others = second.own_state()
    mixed = {
        name: value.float().lerp(others[name].float(), arguments.share) for name, value in first.own_state().items()
    }
    save_weights(arguments.output, first.name, first.config, mixed)


if __name__ == "__main__":
    main()
