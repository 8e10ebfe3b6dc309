"""refsr pairs, refsr triples: a test set and a training set from a folder of photos, or of captures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from refsr.cli.console import complain, progress_bar
from refsr.cli.options import Output, Processes, count_processes
from refsr.cli.verbs import verb
from refsr.errors import UsageError
from refsr.pairs.build import build_pairs
from refsr.pairs.output_folder import BuildConfig
from refsr.pairs.triples import TriplesConfig, build_triples
from refsr.wording import counted


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PairsOptions(BuildConfig):
    """Settings of the sets."""

    crop_px: Annotated[Literal[160, 320], Parameter(name="--crop")] = 160


@verb
def pairs(
    album: Path,
    /,
    *,
    output: Output,
    options: PairsOptions = PairsOptions(),
    processes: Processes = "auto",
    strict: bool = False,
) -> None:
    """Build a test set and a training set of inputs and references from a folder of photos.

    Args:
        album: Folder of photos, with its subfolders; photos of a subfolder stay together in testing or training.
        output: Folder for the sets, created if missing; an interrupted run in it continues.
        processes: Number of processes; auto takes one for each core.
        strict: End with an error if a photo could not be read.

    Examples:
        refsr pairs ~/Photos -o pairs
        refsr pairs ~/Photos -o pairs --train-from both --test-share 0.1 --processes 4
    """
    count = count_processes(processes)
    with progress_bar() as progress:
        built = build_pairs(album, output, options, processes=count, progress=progress, tell=complain)
    for name, reason in built.unreadable.items():
        complain(f"left out {name}: {reason}")
    verified = ", ".join(f"level {level}: {count}" for level, count in built.levels.items())
    print(
        f"{counted(built.photos, 'photo')}, {counted(len(built.duplicates), 'near-duplicate')} left out,"
        f" {len(built.unreadable)} unreadable"
    )
    print(f"{counted(built.compared, 'pair')} compared, the same thing in {sum(built.levels.values())} ({verified})")
    made = f"{counted(built.groups, 'test group')}, {counted(built.crops, 'training pair')}"
    print(f"{made}: look at {output / 'index.html'}")
    print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in built.seconds.items()))
    if built.unreadable and strict:
        raise UsageError(
            f"left out {counted(len(built.unreadable), 'photo')}: repair or remove them, or leave out --strict"
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TriplesOptions(TriplesConfig):
    """Settings of the groups."""


@verb
def triples(
    folder: Path,
    /,
    *,
    output: Output,
    options: TriplesOptions = TriplesOptions(),
    processes: Processes = "auto",
    strict: bool = False,
) -> None:
    """Find, register and write a blurry, a sharp and another photo of each place.

    Args:
        folder: Folder of photos, with its subfolders: of each place a blurry or distant one, a sharp one from the same
            place, and another sharp one.
        output: Folder for the groups, created if missing; an interrupted run in it continues.
        processes: Number of processes; auto takes one for each core.
        strict: End with an error if a photo is in no group.

    Examples:
        refsr triples ~/Captures -o triples
        refsr bench triples/test --model auto
        refsr train recipes/default-real.yaml --data PHOTOS --data triples/train --init WEIGHTS -o run
    """
    count = count_processes(processes)
    with progress_bar() as progress:
        built = build_triples(folder, output, options, processes=count, progress=progress, tell=complain)
    for name, reason in built.left_out.items():
        complain(f"left out {name}: {reason}")
    made = f"{counted(built.groups, 'test group')}, {counted(built.crops, 'training crop')}"
    print(f"{counted(built.photos, 'photo')}, {len(built.left_out)} left out; {made}: look at {output / 'index.html'}")
    print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in built.seconds.items()))
    if built.left_out and strict:
        raise UsageError(
            f"left out {counted(len(built.left_out), 'photo')}: take others, or remove them, or leave out --strict"
        )
