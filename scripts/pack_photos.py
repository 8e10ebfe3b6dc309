"""Photographs and views in tar shards, so that a training run can be carried to another machine.

    python scripts/pack_photos.py --photos DIR --views DIR --held-out DIR -o PACK

Nothing but the repository and the pack is needed there. Each folder inside a views folder is a scene; pairs of its
views come with dense verified correspondences. What `refsr.data.shards` holds says how a shard is laid out.
"""

import argparse
import sys
import time
from pathlib import Path

from refsr.errors import RefSRError
from refsr.pairs.pack_photos import PackConfig, pack_photos


def main() -> None:
    """Write the pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, action="append", default=[], metavar="DIR", help="again for more")
    parser.add_argument("--views", type=Path, action="append", default=[], metavar="DIR", help="again for more")
    parser.add_argument(
        "--held-out", type=Path, action="append", default=[], metavar="DIR", help="not to be trained on; again for more"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PACK", help="a new or empty folder")
    parser.add_argument("--shard-mib", type=int, default=PackConfig.shard_mib, help="no shard is larger")
    parser.add_argument("--most-mib", type=int, default=PackConfig.most_mib, help="of the whole pack; 0: no limit")
    parser.add_argument("--longest-px", type=int, default=PackConfig.longest_px, help="of the packed pictures")
    parser.add_argument("--quality", type=int, default=PackConfig.quality, help="of WebP")
    parser.add_argument("--partners", type=int, default=PackConfig.partners, help="of each view")
    parser.add_argument("--processes", type=int, default=1, help="how many work")
    arguments = parser.parse_args()
    begun = time.monotonic()
    try:
        packed = pack_photos(
            arguments.photos,
            arguments.views,
            arguments.held_out,
            arguments.output,
            PackConfig(
                shard_mib=arguments.shard_mib,
                most_mib=arguments.most_mib,
                longest_px=arguments.longest_px,
                quality=arguments.quality,
                partners=arguments.partners,
            ),
            processes=arguments.processes,
            report=lambda line: print(f"{time.monotonic() - begun:6.0f} s  {line}", file=sys.stderr, flush=True),
        )
    except RefSRError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("stopped: nothing was written") from None
    for name, reason in packed.left_out.items():
        print(f"left out {name}: {reason.removeprefix(f'{name}: ')}")
    for name, size in packed.shards.items():
        print(f"{name}: {size / 2**20:.1f} MiB")
    print(
        f"{packed.photos} photographs; {packed.views} views of {packed.scenes} scenes with {packed.fields} fields,"
        f" {packed.known:.0%} of their nodes known; {sum(packed.shards.values()) / 2**20:.1f} MiB;"
        f" {len(packed.left_out)} left out, {packed.over_limit} beyond the limit"
    )


if __name__ == "__main__":
    main()
