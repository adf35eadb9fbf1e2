"""A root -> the index of the data set in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from manas.data.archives.checks import check_sizes
from manas.data.archives.folder import Folder
from manas.data.archives.halves import disagreement
from manas.data.archives.index import KINDS, Archive, Half, Scene
from manas.data.archives.layouts import layout_named, recognised
from manas.data.archives.lists import read_list
from manas.data.archives.pairing import Reading, of_levels, pair
from manas.data.archives.published import warnings_about, without_test_backgrounds
from manas.data.archives.readers import parts_in
from manas.errors import ManasError

Root = str | Path | Mapping[str, str | Path]

DEEPEST = 8  # Snow100K's own archive has its sets below six folders
NAMED = 12


class _Found(NamedTuple):
    layout: str
    root: Path
    reading: Reading


def read_archive(
    root: Root,
    *,
    layout: str | None = None,
    side: Half | None = None,
    levels: Collection[str] | None = None,
    allow: Collection[str] = (),
    exclusions: bool = True,
) -> Archive:
    """The data set in a folder, as an index of scenes.

    Args:
        root: its folder; or a list of pairs, a ``.txt`` file; or ``{"clean": folder, level: folder, ...}``.
        layout: by name (`manas.data.archives.layouts.LAYOUTS`); unless given, it is recognised.
        side: of the degraded half, where files have two; unless given, the layout or a vote decides.
        levels: the degraded versions to take, by name; all unless given.
        allow: kinds of `Problem` that are no error; the files are left out.
        exclusions: leaves the backgrounds of the published test set out of a training set.

    Raises:
        ManasError: if there is no set, or there are several, or one with problems.
    """
    found = inspect_archive(root, layout=layout, side=side, levels=levels, exclusions=exclusions)
    return found.require(allow)


def inspect_archive(
    root: Root,
    *,
    layout: str | None = None,
    side: Half | None = None,
    levels: Collection[str] | None = None,
    exclusions: bool = True,
) -> Archive:
    """As `read_archive`, but with problems reported in the archive, and their files left out of it."""
    found = _found(root, layout, side)
    reading = found.reading
    parts, complete = reading.parts, reading.complete
    if levels is not None:
        parts = of_levels(parts, levels, str(found.root), complete=complete)
    scenes, unpaired = pair(parts, complete=complete)
    notes = [*reading.notes, *warnings_about(found.layout, scenes, found.root)]
    if exclusions:
        scenes, left_out = without_test_backgrounds(found.layout, scenes)
        notes += left_out
    checked = check_sizes(scenes)
    problems = [*reading.problems, *unpaired, *checked.problems, *disagreement(checked.scenes)]
    problems.sort(key=lambda problem: (KINDS.index(problem.kind), problem.path))
    notes += _unmasked(checked.scenes)
    sound = tuple(checked.scenes)
    return Archive(found.layout, found.root, sound, tuple(problems), tuple(notes), checked.sizes)


def find_archives(root: str | Path) -> list[Path]:
    """The roots of the data sets in a folder: itself, or those below it, each for `read_archive`.

    A list of pairs is a data set, too.

    Raises:
        ManasError: if there is no such folder.
    """
    path = Path(root)
    return [path] if _is_list(path) else _roots(Folder(path), DEEPEST, set())


def _roots(folder: Folder, depth: int, seen: set[Path]) -> list[Path]:
    """`seen` are the folders that were looked at: links may lead to one again."""
    real = folder.path.resolve()
    if real in seen:
        return []
    seen.add(real)
    if recognised(folder) is not None:
        return [folder.path]
    below = folder.folders.values() if depth else ()
    return [root for each in below for root in _roots(each, depth - 1, seen)]


def _found(root: Root, layout: str | None, side: Half | None) -> _Found:
    if isinstance(root, Mapping):
        return _read_mapping({level: Path(folder) for level, folder in root.items()}, layout, side)
    path = Path(root)
    if _is_list(path):
        _refuse(where=path, layout=None if layout == "list" else layout, side=side)
        return _Found("list", path, read_list(path))
    folder = Folder(path)
    row = layout_named(layout) if layout else recognised(folder)
    if row is None:
        _require_one(folder)
        row = layout_named("folders")  # says what is missing
    if side is not None and not row.halved:
        raise ManasError(f"{path}: side is for files of two halves, and this is {row.name}; leave it out")
    return _Found(row.name, path, row.read(folder, side))


def _is_list(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".txt"


def _read_mapping(folders: Mapping[str, Path], layout: str | None, side: Half | None) -> _Found:
    """Folders that stand anywhere, each a level but for ``clean``."""
    where = Path(os.path.commonpath([folder.absolute() for folder in folders.values()])) if folders else Path()
    _refuse(layout=layout, side=side, where=where)
    if "clean" not in folders or len(folders) < 2:
        raise ManasError(
            f"pairs has the folders {', '.join(folders) or 'none'}; give one called clean and one a level"
        )
    parts = [
        part
        for level, folder in folders.items()
        for part in (
            parts_in(Folder(folder), "clean")
            if level == "clean"
            else parts_in(Folder(folder), "degraded", level)
        )
    ]
    return _Found("mapping", where, Reading(parts))


def _refuse(*, where: Path, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ManasError(f"{where}: {name} is for a folder that holds a published set; leave it out")


def _require_one(folder: Folder) -> None:
    """Says which sets there are, where a root holds several."""
    roots = [str(root) for root in _roots(folder, DEEPEST, set())]
    if roots:
        more = f" and {len(roots) - NAMED} more" if len(roots) > NAMED else ""
        raise ManasError(
            f"{folder.path}: is no set itself, but holds {len(roots)}; give one of them: "
            f"{', '.join(roots[:NAMED])}{more}"
        )


def _unmasked(scenes: Collection[Scene]) -> list[str]:
    without = sum(not scene.masks for scene in scenes)
    return [f"{without} of {len(scenes)} scenes have no mask"] if 0 < without < len(scenes) else []
