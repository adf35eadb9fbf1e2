"""How each layout is recognised and read: from a folder to the parts that its files play."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from manas.data.archives.folder import File, Folder
from manas.data.archives.halves import are_halves, degraded_side, halves_of
from manas.data.archives.index import Half, Picture, Problem
from manas.data.archives.names import CLEAN, DEGRADED, MASKS, Role, pairing_key, role_of
from manas.data.archives.pairing import Part, Reading
from manas.errors import ManasError

RAIN_LEVELS = ("light", "medium", "heavy")
LOOKED_AT = 20

# What the names of a background's versions end in.
DDN, OUTDOOR = r"_(\d{1,2})$", r"_(s\d{2,3}_a\d\d)$"


def has_rain_levels(folder: Folder) -> bool:
    """Rain_Heavy/ and its like."""
    return any(f"rain_{level}" in folder.folders for level in RAIN_LEVELS)


def read_did_mdn(folder: Folder, side: Half | None) -> Reading:
    """Halves, degraded left; a level's images begin where its folders end (`train2018new`)."""
    if not has_rain_levels(folder):
        return Reading(list(halves_of(folder.files(), side or "left", "rain")))
    parts: list[Part] = []
    for level in RAIN_LEVELS:
        if f"rain_{level}" in folder.folders:
            files = folder.folders[f"rain_{level}"].core.files()
            parts += halves_of(files, side or "left", level, clean_level=level)
    return Reading(parts)


def is_one_folder(folder: Folder) -> bool:
    """Clean and degraded names beside each other."""
    roles = {role_of(file.stem) for file in folder.images}
    return "clean" in roles and ("degraded" in roles or "rainy" in folder.folders)


def read_one_folder(folder: Folder, side: Half | None) -> Reading:
    """Roles are told by names, ``norain-1`` or ``1_gt``; degraded images may stand in ``rainy`` below."""
    beside = folder.folders["rainy"].images if "rainy" in folder.folders else []
    parts = [Part("degraded", pairing_key(stem), Picture(path), "rainy") for path, _, stem in beside]
    problems = []
    for path, _, stem in folder.images:
        role = role_of(stem)
        if role:
            level = "rainy" if role == "degraded" else ""
            parts.append(Part(role, pairing_key(stem), Picture(path), level))
        elif not stem.lower().startswith(("rainstreak", "rainregion")):
            message = "its name says neither 'clean' (norain-1, 1_gt) nor 'degraded' (rain-1, 1_in); rename it"
            problems.append(Problem("unmatched", path, message))
    return Reading(parts, problems)


def is_rain200(folder: Folder) -> bool:
    """norain/, and rain/X2/."""
    return {"norain", "rain"} <= folder.folders.keys() and "x2" in folder.folders["rain"].folders


def read_rain200(folder: Folder, side: Half | None) -> Reading:
    """Degraded images in rain/X2/, or in rain/."""
    degraded = folder.child("rain")
    degraded = degraded.folders.get("x2", degraded)
    return Reading([*parts_in(folder.child("norain"), "clean"), *parts_in(degraded, "degraded", "rain")])


def is_repacked_rain100(folder: Folder) -> bool:
    """gt/norain-1.png and rainy/."""
    named = {"rainy", "gt"} <= folder.folders.keys()
    return named and any(file.stem.lower().startswith("norain-") for file in folder.folders["gt"].images)


def several_to_one(mark: str) -> Callable[[Folder], bool]:
    """Recognises a degraded folder whose names are clean names and a mark."""

    def recognise(folder: Folder) -> bool:
        clean, degraded = _clean_names(folder), _degraded_names(folder)
        if len(clean) != 1 or len(degraded) != 1:
            return False
        stems = [file.stem.lower() for file in folder.folders[degraded[0]].tree[:LOOKED_AT]]
        marked = [found for stem in stems if (found := re.search(mark, stem))]
        if not stems or 2 * len(marked) <= len(stems):
            return False
        keys = {pairing_key(file.stem) for file in folder.folders[clean[0]].tree}
        named = [pairing_key(found.string[: found.start()]) in keys for found in marked]
        return 2 * sum(named) > len(named)

    return recognise


def read_several_to_one(mark: str) -> Callable[[Folder, Half | None], Reading]:
    """Reads a folder whose degraded names are clean names and a mark, which is the level."""

    def read(folder: Folder, side: Half | None) -> Reading:
        clean, degraded = _sides(folder)
        parts, problems = list(parts_in(folder.folders[clean], "clean")), []
        for path, place, stem in folder.folders[degraded[0]].files():
            found = re.search(mark, stem.lower())
            if found is None:
                message = "its name does not end in the mark of a version, such as _3 or _s80_a04; rename it"
                problems.append(Problem("unmatched", path, message))
                continue
            level = str(int(found[1])) if found[1].isdigit() else found[1]
            key = place + pairing_key(stem[: found.start()])
            parts.append(Part("degraded", key, Picture(path), level))
        return Reading(parts, problems)

    return read


def has_folders(*names: str) -> Callable[[Folder], bool]:
    """Recognises a folder by those in it."""
    return lambda folder: folder.folders.keys() >= set(names)


def has_clean_and_levels(folder: Folder) -> bool:
    """One clean folder, and at least one degraded one beside it."""
    return len(_clean_names(folder)) == 1 and bool(_degraded_names(folder))


def read_folders(folder: Folder, side: Half | None) -> Reading:
    """A folder a level, and masks where there are any."""
    clean, degraded = _sides(folder)
    parts = list(parts_in(folder.folders[clean], "clean"))
    for name in degraded:
        parts += parts_in(folder.folders[name], "degraded", name)
    masks = next((folder.folders[name] for name in MASKS if name in folder.folders), None)
    if masks is not None:  # one for all levels, or a folder each
        parts += [part for name in degraded for part in parts_in(masks.folders.get(name, masks), "mask", name)]
    return Reading(parts)


def has_halves(folder: Folder) -> bool:
    """Files alone, of two halves that show one scene."""
    return not folder.folders and bool(folder.images) and are_halves(folder.images)


def read_halves(folder: Folder, side: Half | None) -> Reading:
    """The degraded side is the one that is given, or that a vote decides."""
    files = folder.files()
    if side is not None:
        return Reading(list(halves_of(files, side, "rainy")))
    half, note = degraded_side(files, folder.path)
    return Reading(list(halves_of(files, half, "rainy")), notes=[note])


def parts_in(folder: Folder, role: Role, level: str = "") -> Iterator[Part]:
    """The parts of the images in and below a folder, all of one role and level."""
    files: list[File] = folder.files()
    return (Part(role, place + pairing_key(stem), Picture(path), level) for path, place, stem in files)


def _clean_names(folder: Folder) -> list[str]:
    return [name for name in folder.folders if name in CLEAN]


def _degraded_names(folder: Folder) -> list[str]:
    """Beside ``clean`` any folder is a level."""
    others = folder.folders.keys() - {*CLEAN, *MASKS}
    return sorted(name for name in others if "clean" in folder.folders or name in DEGRADED)


def _sides(folder: Folder) -> tuple[str, list[str]]:
    """The names of the clean folder and of the degraded ones."""
    clean, degraded = _clean_names(folder), _degraded_names(folder)
    if not clean:
        raise ManasError(
            f"{folder.path}: no folder of clean images in it; name it one of: {', '.join(CLEAN)}; or give "
            "{clean: FOLDER, LEVEL: FOLDER}; where each file has two halves, give layout: halves"
        )
    if len(clean) > 1:
        raise ManasError(
            f"{folder.path}: {' and '.join(clean)} may each be the clean images; give "
            "{clean: FOLDER, LEVEL: FOLDER}"
        )
    if not degraded:
        raise ManasError(f"{folder.path}: no degraded images beside {clean[0]!r}; add a folder such as 'input'")
    return clean[0], degraded
