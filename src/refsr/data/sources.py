"""Sources of training pairs: photos, ready pairs of crops, and views with truth, in folders and shards."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from refsr.data.leaks import find_leaks
from refsr.data.photos import PhotoFiles
from refsr.data.shards import (
    FIELD_SUFFIX,
    Field,
    TarMember,
    decode_field,
    list_shards,
    pair_up,
    read_index,
    read_pack_kind,
)
from refsr.errors import ImageError, UsageError
from refsr.io.listing import list_photos

File = Path | TarMember
_FIELD_NAME: Final = re.compile(rf"(.+)/(\d+)-(\d+){re.escape(FIELD_SUFFIX)}")


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Another photo of the same place.

    Attributes:
        photo: Number of the photo.
        field_px: (y, x) in it of each node of the view, NaN where not verified (see `refsr.data.shards`); None for a
            pair of crops of one place and size, without known correspondences.
    """

    photo: int
    field_px: Field | None = None


@dataclass(frozen=True, kw_only=True)
class RealView:
    """A photo, by number, with at least one partner; and the number of its real LR image, where there is one."""

    photo: int
    partners: tuple[Partner, ...]
    lr: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Pictures that training pairs are made of.

    Attributes:
        photos: All pictures, by number.
        single: Numbers of the photos for synthetic pairs, by known homographies.
        views: Photos with partners, for real pairs.
        leaks: Photos that were left out, each with the held-out picture that it shows.
    """

    photos: PhotoFiles
    single: tuple[int, ...] = ()
    views: tuple[RealView, ...] = ()
    leaks: tuple[tuple[str, str], ...] = ()


def open_sources(places: Sequence[Path], smallest_px: int, held_out: Sequence[Path] = ()) -> Sources:
    """List the pictures of training data, and tell photos, pairs and views apart.

    Args:
        places: Folders with input/ and ref/ inside, and lr/ where LR images are real; .tar shards or folders of them,
            also those of a pack; all other folders are searched recursively for photos.
        smallest_px: Minimum length of a photo's shorter side.
        held_out: Pictures for evaluation, or folders of them; photos and views that show one of them are left out.

    Raises:
        UsageError: There is no place, a place is missing or empty, or all its photos show held-out pictures.
        ImageError: A shard is damaged, of another version, or holds views without matches; or the first photos of a
            place are unusable.
    """
    if not places:
        raise UsageError("no training data: give a folder with --data")
    files: list[File] = []
    single: list[int] = []
    views: list[RealView] = []
    leaks: list[tuple[str, str]] = []
    firsts: list[int] = []
    lr_numbers: set[int] = set()
    pictures = [picture for place in held_out for picture in _held_out_pictures(place)]

    def keep(found: Sequence[File], place: Path) -> dict[int, int]:
        """Add the files that show no held-out picture; their numbers, by index among `found`."""
        if not found:
            raise ImageError(f"{place}: holds no picture: make the shard again")
        shown = find_leaks(found, pictures)
        leaks.extend((str(found[number]), str(picture)) for number, picture in shown.items())
        kept = [number for number in range(len(found)) if number not in shown]
        if not kept:
            raise UsageError(f"{place}: every photograph shows a held-out picture: name another folder")
        first = len(files)
        files.extend(found[number] for number in kept)
        return {index: first + position for position, index in enumerate(kept)}

    for place in places:
        firsts.append(len(files))
        if not place.exists():
            raise UsageError(f"{place}: no such folder: check the name")
        shards = list_shards(place)
        packed = [shard for shard in shards if read_pack_kind(shard) == "views"]
        members = read_index([shard for shard in shards if shard not in packed])
        pairs: Sequence[tuple[File, File]] = pair_up(members) if members else list_pairs(place) if not shards else []
        loose: Sequence[File] = members or ([] if shards else list_photos(place))
        for shard in packed:
            views += _read_views(shard, keep)
        if pairs:
            numbers = range(len(files), len(files) + 2 * len(pairs), 2)
            files += [file for pair in pairs for file in pair]
            real_lr = {} if members else {p.stem: p for p in list_photos(place / "lr", deep=False)}
            if real_lr and (lacking := [pair[0] for pair in pairs if _stem(pair[0]) not in real_lr]):
                raise UsageError(f"{place / 'lr'}: lacks the LR image of {lacking[0]}: add it, or remove the folder lr")
            for number, (photo, _) in zip(numbers, pairs, strict=True):
                lr = real_lr.get(_stem(photo))
                views.append(
                    RealView(photo=number, partners=(Partner(photo=number + 1),), lr=None if lr is None else len(files))
                )
                if lr is not None:
                    lr_numbers.add(len(files))
                    files.append(lr)
        elif loose:
            single += keep(loose, place).values()
        elif not packed:
            raise UsageError(f"{place}: holds neither photographs nor pairs (input/NAME and ref/NAME): name another")
    photos = PhotoFiles(files, smallest_px, frozenset(lr_numbers))
    for first, after in zip(firsts, [*firsts[1:], len(files)], strict=True):
        photos.first_usable(range(first, after))
    return Sources(photos=photos, single=tuple(single), views=tuple(views), leaks=tuple(leaks))


def _stem(file: File) -> str:
    return Path(file.name).stem


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pairs of input/NAME and ref/NAME in a folder, by their stems; none unless it has both folders."""
    inputs, refs = ({p.stem: p for p in list_photos(folder / kind, deep=False)} for kind in ("input", "ref"))
    return [(inputs[name], refs[name]) for name in sorted(inputs.keys() & refs.keys())]


def _read_views(shard: Path, keep: Callable[[Sequence[File], Path], dict[int, int]]) -> list[RealView]:
    """The views of a shard: SSSS/VV.webp, with SSSS/VV-WW.field.npz for each partner."""
    pictures = read_index([shard])
    numbers = {pictures[index].name.rpartition(".")[0]: number for index, number in keep(pictures, shard).items()}
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
                raise ImageError(f"{member}: holds no match: pack the views again")
            partners.setdefault(first, []).append(Partner(photo=numbers[second], field_px=field_px))
    if not partners and len(numbers) == len(pictures):
        raise ImageError(f"{shard}: none of its views has a match: pack the views again")
    return [RealView(photo=numbers[name], partners=tuple(found)) for name, found in sorted(partners.items())]


def _held_out_pictures(place: Path) -> list[Path]:
    found = [place] if place.is_file() else list_photos(place)
    if not found:
        raise UsageError(f"{place}: holds no held-out picture: check the name")
    return found
