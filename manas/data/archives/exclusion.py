"""Backgrounds that another set has, too, found by what they show."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from manas.data.archives.index import Picture
from manas.data.archives.reading import find_archives, read_archive
from manas.data.photographs import photographs_in
from manas.errors import ManasError


class Exclusion(NamedTuple):
    """The names of the backgrounds that are left, and sentences that count the others."""

    kept: tuple[str, ...]
    notes: tuple[str, ...]


def excluding(backgrounds: Mapping[str, Picture], others: Sequence[str | Path], where: str) -> Exclusion:
    """The backgrounds without those that one of the others has.

    Args:
        backgrounds: clean pictures by name.
        others: roots of archives, or of several, or folders of photographs.
        where: what the backgrounds are of, for errors.

    Raises:
        ManasError: if another cannot be read, or no background is left.
    """
    kept, notes = dict(backgrounds), []
    for other in others:
        shared = _shared(kept, Path(other))
        kept = {name: picture for name, picture in kept.items() if name not in shared}
        notes.append(f"left out {len(shared)} backgrounds that are in {other}")
        if not kept:
            raise ManasError(f"{where}: all of its backgrounds are in {other}; exclude another set")
    return Exclusion(tuple(kept), tuple(notes))


def _shared(backgrounds: Mapping[str, Picture], other: Path) -> set[Hashable]:
    from manas.data.matching import matches  # loads what only those need who exclude something
    from manas.data.signature import Signature, signature

    def signed(pictures: Iterable[tuple[Hashable, Picture]]) -> dict[Hashable, Signature]:
        return {key: signature(picture.read()) for key, picture in pictures}

    return {match.first for match in matches(signed(backgrounds.items()), signed(_backgrounds(other)))}


def _backgrounds(root: Path) -> Iterator[tuple[Hashable, Picture]]:
    roots = find_archives(root)
    for each in roots:
        for scene in read_archive(each, exclusions=False).scenes:
            yield (each, scene.name), scene.clean
    if not roots:
        for name, path in photographs_in(root).items():
            yield name, Picture(path)
