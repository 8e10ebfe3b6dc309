"""Where pairs come from: folders and shards, told apart into photographs, crops of pairs, and views with truth."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from refsr.data.leaks import find_leaks
from refsr.data.pack import decode_field
from refsr.data.photos import PhotoFiles
from refsr.data.shards import FIELD_SUFFIX, TarMember, list_shards, pair_up, read_index, read_pack_kind
from refsr.data.views import Partner, RealView
from refsr.errors import ImageError, UsageError
from refsr.io.listing import list_photos

File = Path | TarMember
_FIELD_NAME: Final = re.compile(rf"(.+)/(\d+)-(\d+){re.escape(FIELD_SUFFIX)}")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where pairs come from.

    Attributes:
        photos: All pictures, by number.
        single: Numbers of those that pairs are made of by known motions.
        views: Those that have partners.
        leaks: Photographs that were left out, each with the held-out picture that it shows.
    """

    photos: PhotoFiles
    single: tuple[int, ...] = ()
    views: tuple[RealView, ...] = ()
    leaks: tuple[tuple[str, str], ...] = ()


def open_sources(
    places: Sequence[Path],
    smallest_px: int,
    held_out: Sequence[Path] = (),
) -> Sources:
    """Tell pairs, views and photographs apart.

    Args:
        places: Folders with input/ and ref/ inside; folders of .tar shards, or shards, also those of a pack; any other
            folders are searched through for photographs.
        smallest_px: Photographs with a shorter side are left out.
        held_out: Pictures that must not be trained on, or folders of them; photographs and views that show one of them
            are left out.

    Raises:
        UsageError: A place is missing or holds nothing, or none is given; or no photograph is left.
        ImageError: A shard is damaged, of another version, or holds views without matches; or the first photographs of
            a place cannot be used.
    """
    if not places:
        raise UsageError("no data: give a folder with --data")
    files: list[File] = []
    single: list[int] = []
    views: list[RealView] = []
    leaks: list[tuple[str, str]] = []
    firsts: list[int] = []
    pictures = [picture for place in held_out for picture in _pictures(place)]

    def keep(found: Sequence[File], place: Path) -> dict[int, int]:
        """Take over those that show no held-out picture: by place among those found, their numbers."""
        if not found:
            raise ImageError(f"{place}: holds no picture: make it again")
        shown = find_leaks(found, pictures)
        leaks.extend((str(found[number]), str(picture)) for number, picture in shown.items())
        kept = [number for number in range(len(found)) if number not in shown]
        if not kept:
            raise UsageError(f"{place}: every photograph shows a held-out picture: name another folder")
        first = len(files)
        files.extend(found[number] for number in kept)
        return {number: first + after for after, number in enumerate(kept)}

    for place in places:
        firsts.append(len(files))
        if not place.exists():
            raise UsageError(f"{place}: no such folder: check the name")
        shards = list_shards(place)
        packed = [shard for shard in shards if read_pack_kind(shard) == "views"]
        members = read_index([shard for shard in shards if shard not in packed])
        both = pair_up(members) if members else list_pairs(place) if not shards else []
        loose: Sequence[File] = members or ([] if shards else list_photos(place))
        for shard in packed:
            views += _read_views(shard, keep)
        if both:
            first = len(files)
            files += [file for pair in both for file in pair]
            views += [
                RealView(photo=first + 2 * n, partners=(Partner(photo=first + 2 * n + 1),)) for n in range(len(both))
            ]
        elif loose:
            single += keep(loose, place).values()
        elif not packed:
            raise UsageError(f"{place}: holds neither photographs nor pairs (input/NAME and ref/NAME): name another")
    photos = PhotoFiles(files, smallest_px)
    for first, after in zip(firsts, [*firsts[1:], len(files)], strict=True):
        photos.first_usable(range(first, after))
    return Sources(
        photos=photos,
        single=tuple(single),
        views=tuple(views),
        leaks=tuple(leaks),
    )


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The pairs of a folder with input/NAME and ref/NAME; none if it has not both."""
    inputs, refs = ({p.stem: p for p in list_photos(folder / kind, deep=False)} for kind in ("input", "ref"))
    return [(inputs[name], refs[name]) for name in sorted(inputs.keys() & refs.keys())]


def _read_views(shard: Path, keep: Callable[[Sequence[File], Path], dict[int, int]]) -> list[RealView]:
    """The views of a shard: SSSS/VV.webp, and SSSS/VV-WW.field.npz for each partner of one."""
    pictures = read_index([shard])
    numbers = {pictures[place].name.rpartition(".")[0]: number for place, number in keep(pictures, shard).items()}
    partners: dict[str, list[Partner]] = {}
    for member in read_index([shard], (FIELD_SUFFIX,)):
        named = _FIELD_NAME.fullmatch(member.name)
        if named is None:
            raise ImageError(
                f"{member}: not named as a field of a pack (SSSS/VV-WW{FIELD_SUFFIX}): pack the views again"
            )
        first, second = (f"{named[1]}/{name}" for name in named.groups()[1:])
        if first in numbers and second in numbers:
            field_px = decode_field(member.read_bytes(), str(member))
            if not np.isfinite(field_px).any():
                raise ImageError(f"{member}: a view without matches: pack the views again")
            partners.setdefault(first, []).append(Partner(photo=numbers[second], field_px=field_px))
    if not partners and len(numbers) == len(pictures):
        raise ImageError(f"{shard}: no view in it has a match: pack the views again")
    return [RealView(photo=numbers[name], partners=tuple(found)) for name, found in sorted(partners.items())]


def _pictures(place: Path) -> list[Path]:
    found = [place] if place.is_file() else list_photos(place)
    if not found:
        raise UsageError(f"{place}: holds no picture to be held out: check the name")
    return found
