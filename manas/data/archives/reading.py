"""Reading the index of the data set in a folder, a list or several folders."""

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

DEEPEST = 8  # folders; Snow100K's own archive has its sets below six
NAMED = 12  # the number of sets that an error names


class _Source(NamedTuple):
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
    """Reads the data set in a folder as an index of scenes.

    Args:
        root: its folder; or a list of pairs, a ``.txt`` file; or ``{"clean": folder, level: folder, ...}``.
        layout: the name of its layout (`manas.data.archives.layouts.LAYOUTS`); recognised unless given.
        side: the side of the degraded half in files of two; the layout or a vote decides unless given.
        levels: the names of the degraded versions to take; all unless given.
        allow: kinds of `Problem` that are no error; their files are left out.
        exclusions: whether to leave the backgrounds of the published test set out of a training set.

    Raises:
        ManasError: if there is no set, if there are several, or if the set has problems that are not allowed.
    """
    archive = inspect_archive(root, layout=layout, side=side, levels=levels, exclusions=exclusions)
    return archive.require(allow)


def inspect_archive(
    root: Root,
    *,
    layout: str | None = None,
    side: Half | None = None,
    levels: Collection[str] | None = None,
    exclusions: bool = True,
) -> Archive:
    """Reads a data set as `read_archive` does, but reports its problems in the archive."""
    source = _source(root, layout, side)
    reading = source.reading
    parts, complete = reading.parts, reading.complete
    if levels is not None:
        parts = of_levels(parts, levels, str(source.root), complete=complete)
    scenes, unpaired = pair(parts, complete=complete)
    notes = [*reading.notes, *warnings_about(source.layout, scenes, source.root)]
    if exclusions:
        scenes, left_out = without_test_backgrounds(source.layout, scenes)
        notes += left_out
    checked = check_sizes(scenes)
    problems = [*reading.problems, *unpaired, *checked.problems, *disagreement(checked.scenes)]
    problems.sort(key=lambda problem: (KINDS.index(problem.kind), problem.path))
    notes += _unmasked(checked.scenes)
    sound = tuple(checked.scenes)
    return Archive(source.layout, source.root, sound, tuple(problems), tuple(notes), checked.sizes)


def find_archives(root: str | Path) -> list[Path]:
    """The roots of the data sets in and below a folder, each for `read_archive`.

    A folder that is a data set itself is the only root, and so is a list of pairs.

    Raises:
        ManasError: if there is no such folder.
    """
    path = Path(root)
    return [path] if _is_list(path) else _roots(Folder(path), DEEPEST, set())


def _roots(folder: Folder, depth: int, seen: set[Path]) -> list[Path]:
    """The roots at most `depth` folders below; `seen` holds the folders that links may lead to again."""
    real = folder.path.resolve()
    if real in seen:
        return []
    seen.add(real)
    if recognised(folder) is not None:
        return [folder.path]
    below = folder.folders.values() if depth else ()
    return [root for each in below for root in _roots(each, depth - 1, seen)]


def _source(root: Root, layout: str | None, side: Half | None) -> _Source:
    if isinstance(root, Mapping):
        return _read_mapping({level: Path(folder) for level, folder in root.items()}, layout, side)
    path = Path(root)
    if _is_list(path):
        _refuse(where=path, layout=None if layout == "list" else layout, side=side)
        return _Source("list", path, read_list(path))
    folder = Folder(path)
    row = layout_named(layout) if layout else recognised(folder)
    if row is None:
        _require_one(folder)
        row = layout_named("folders")  # its reader says in an error what is missing
    if side is not None and not row.halved:
        raise ManasError(f"{path}: side is for files of two halves, and this is {row.name}; leave it out")
    return _Source(row.name, path, row.read(folder, side))


def _is_list(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".txt"


def _read_mapping(folders: Mapping[str, Path], layout: str | None, side: Half | None) -> _Source:
    """Reads folders from anywhere, each of which is a level but for ``clean``."""
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
    return _Source("mapping", where, Reading(parts))


def _refuse(*, where: Path, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ManasError(f"{where}: {name} is for a folder that holds a published set; leave it out")


def _require_one(folder: Folder) -> None:
    """Raises a ManasError that names the sets below a folder, if there are any."""
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
