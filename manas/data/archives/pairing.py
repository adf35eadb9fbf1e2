"""The pairing of pictures into scenes, and the problems of pictures without a partner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from manas.data.archives.index import Problem, Scene, StoredImage, level_order, natural_order
from manas.data.archives.names import Role
from manas.errors import ManasError, nearest


class Part(NamedTuple):
    """The part of a picture in a scene.

    Attributes:
        role: ``clean``, ``degraded`` or ``mask``.
        key: the key of the scene, which its pictures share.
        picture: the picture.
        level: the level; empty for a clean picture, unless every level has its own.
    """

    role: Role
    key: str
    picture: StoredImage
    level: str = ""


class Reading(NamedTuple):
    """The result of reading a folder by its layout.

    Attributes:
        parts: the parts of all scenes, in the order of their files.
        problems: the problems of files that have no part.
        notes: sentences about decisions.
        complete: whether every scene must have every level.
    """

    parts: Sequence[Part]
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()
    complete: bool = True


def of_levels(
    parts: Iterable[Part], levels: Collection[str], where: str, *, complete: bool = True
) -> list[Part]:
    """The parts without the degraded pictures of other levels.

    Clean pictures of all levels stay, so that the background of a scene is the same file for every choice of
    levels. If scenes need not have every level, scenes without any of these levels are left out.

    Raises:
        ManasError: for a level that no picture has.
    """
    parts = list(parts)
    known = sorted({part.level for part in parts if part.role == "degraded"}, key=level_order)
    for level in levels:
        if level not in known:
            raise ManasError(f"{where}: no degraded images of level {level!r}; {nearest(level, known)}")
    keys = {part.key for part in parts if part.level in levels}
    return [
        part
        for part in parts
        if part.level in levels or part.role == "clean" and (complete or part.key in keys)
    ]


def pair(parts: Iterable[Part], *, complete: bool = True) -> tuple[list[Scene], list[Problem]]:
    """Pairs parts into scenes, in the natural order of their names, and reports the files without a partner.

    If several levels have a clean picture of a scene, that of the lightest level is taken.
    """
    unique, problems = _without_duplicates(parts)
    by_role: dict[Role, dict[str, dict[str, StoredImage]]] = {"clean": {}, "degraded": {}, "mask": {}}
    folders: dict[tuple[Role, str], Path] = {}
    for role, key, picture, level in unique:
        by_role[role].setdefault(key, {})[level] = picture
        folders.setdefault((role, level), picture.path.parent)
    clean, degraded = by_role["clean"], by_role["degraded"]
    clean_folder = next((folder for (role, _), folder in folders.items() if role == "clean"), None)
    levels = {level: folder for (role, level), folder in folders.items() if role == "degraded"}
    for key in degraded.keys() - clean.keys():
        problems += [_alone(picture, str(clean_folder or "the set")) for picture in degraded[key].values()]
    for key, pictures in clean.items():
        own = degraded.get(key, {})
        missing = [level for level in levels if level not in own] if complete or not own else []
        if missing or not own:
            problems.append(_alone(_lightest(pictures), _describe(missing, levels)))
    scenes = [
        Scene(key, _lightest(clean[key]), _ordered(degraded[key]), _ordered(by_role["mask"].get(key, {})))
        for key in sorted(clean.keys() & degraded.keys(), key=natural_order)
    ]
    return scenes, problems


def _without_duplicates(parts: Iterable[Part]) -> tuple[list[Part], list[Problem]]:
    unique: dict[tuple[Role, str, str], Part] = {}
    problems: dict[Path, Problem] = {}
    for part in parts:
        first = unique.setdefault((part.role, part.key, part.level), part)
        if first.picture != part.picture:
            message = f"has the same name as {first.picture.path} but for its number format or suffix; keep one"
            problems[part.picture.path] = Problem("duplicate", part.picture.path, message)
    return list(unique.values()), list(problems.values())


def _alone(picture: StoredImage, where: str) -> Problem:
    return Problem("unmatched", picture.path, f"no partner in {where}; pairs share a name")


def _describe(missing: Sequence[str], levels: dict[str, Path]) -> str:
    """Names the folders of the missing levels, and the levels of a folder that holds several."""
    by_folder: dict[Path, list[str]] = defaultdict(list)
    for level in missing:
        by_folder[levels[level]].append(level)
    shared = list(levels.values())
    names = [
        f"{folder} (level {', '.join(sorted(those, key=level_order))})"
        if shared.count(folder) > 1
        else str(folder)
        for folder, those in by_folder.items()
    ]
    return " or ".join(names) or "the set"


def _lightest(pictures: dict[str, StoredImage]) -> StoredImage:
    return pictures[min(pictures, key=level_order)]


def _ordered(pictures: dict[str, StoredImage]) -> dict[str, StoredImage]:
    return {level: pictures[level] for level in sorted(pictures, key=level_order)}
