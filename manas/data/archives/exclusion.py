"""The exclusion of backgrounds that another set has, too, recognised by their pixels and not by their names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manas.data.archives.index import StoredImage
from manas.data.archives.reading import find_archives, inspect_archive
from manas.data.photographs import photographs_in
from manas.errors import ManasError

if TYPE_CHECKING:
    from manas.data.checking.signature import Signature


class Exclusion(NamedTuple):
    """The names of the backgrounds that remain, and sentences that count the excluded ones."""

    kept: tuple[str, ...]
    notes: tuple[str, ...]


def excluding(backgrounds: Mapping[str, StoredImage], others: Sequence[str | Path], where: str) -> Exclusion:
    """Excludes the backgrounds that one of the other sets has.

    Args:
        backgrounds: clean pictures by name.
        others: roots of one or several archives, or folders of photographs.
        where: the name of the set of the backgrounds, for errors.

    Raises:
        ManasError: if another set cannot be read, or no background remains.
    """
    rest, notes = dict(backgrounds), []
    own = _signatures(backgrounds.items()) if others else {}
    for other in others:
        shared = _shared({name: own[name] for name in rest}, Path(other))
        rest = {name: picture for name, picture in rest.items() if name not in shared}
        notes.append(f"left out {len(shared)} backgrounds that are in {other}")
        if not rest:
            raise ManasError(f"{where}: all of its backgrounds are in {other}; exclude another set")
    return Exclusion(tuple(rest), tuple(notes))


def _shared(own: Mapping[Hashable, Signature], other: Path) -> set[Hashable]:
    from manas.data.checking.matching import matches  # here, since only exclusions need its libraries

    return {match.first for match in matches(own, _signatures(_backgrounds(other)))}


def _signatures(pictures: Iterable[tuple[Hashable, StoredImage]]) -> dict[Hashable, Signature]:
    from manas.data.checking.remembered import signatures

    by_key = dict(pictures)
    known = signatures(by_key.values())
    return {key: known[picture] for key, picture in by_key.items()}


def _backgrounds(root: Path) -> Iterator[tuple[Hashable, StoredImage]]:
    roots = find_archives(root)
    for each in roots:
        archive = inspect_archive(each, exclusions=False)
        if archive.problems:  # a clean picture without partner is in no scene, and would be missed
            raise ManasError(
                f"{archive.problems[0]}: so not all backgrounds of {each} are known; mend what manas data "
                "check finds in it, or exclude its folder of clean pictures"
            )
        for scene in archive.scenes:
            yield (each, scene.name), scene.clean
    if not roots:
        for name, path in photographs_in(root).items():
            yield name, StoredImage(path)
