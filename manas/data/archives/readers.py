"""The functions that recognise each layout and read the parts of a folder's files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from manas.data.archives.folder import File, Folder
from manas.data.archives.halves import are_halves, degraded_side, halves_of
from manas.data.archives.index import Half, Problem, StoredImage
from manas.data.archives.names import CLEAN, DEGRADED, MASKS, Role, pairing_key, role_of
from manas.data.archives.pairing import Part, Reading
from manas.errors import ManasError

RAIN_LEVELS = ("light", "medium", "heavy")
LOOKED_AT = 20  # files

# The endings of the names of a background's versions.
DDN, OUTDOOR = r"_(\d{1,2})$", r"_(s\d{2,3}_a\d\d)$"


def has_rain_levels(folder: Folder) -> bool:
    """Whether a folder holds Rain_Heavy/, Rain_Medium/ or Rain_Light/."""
    return any(f"rain_{level}" in folder.folders for level in RAIN_LEVELS)


def read_did_mdn(folder: Folder, side: Half | None) -> Reading:
    """Reads files of two halves, the degraded one left; the images of a level may be folders below it."""
    if not has_rain_levels(folder):
        return Reading(list(halves_of(folder.files(), side or "left", "rain")))
    parts: list[Part] = []
    for level in RAIN_LEVELS:
        if f"rain_{level}" in folder.folders:
            files = folder.folders[f"rain_{level}"].core.files()
            parts += halves_of(files, side or "left", level, clean_level=level)
    return Reading(parts)


def is_one_folder(folder: Folder) -> bool:
    """Whether a folder holds files with clean and with degraded names, or the latter in ``rainy`` below."""
    roles = {role_of(file.stem) for file in folder.images}
    return "clean" in roles and ("degraded" in roles or "rainy" in folder.folders)


def read_one_folder(folder: Folder, side: Half | None) -> Reading:
    """Reads roles from names, ``norain-1`` or ``1_gt``; degraded images may stand in ``rainy`` below."""
    beside = folder.folders["rainy"].images if "rainy" in folder.folders else []
    parts = [Part("degraded", pairing_key(stem), StoredImage(path), "rainy") for path, _, stem in beside]
    problems = []
    for path, _, stem in folder.images:
        role = role_of(stem)
        if role:
            level = "rainy" if role == "degraded" else ""
            parts.append(Part(role, pairing_key(stem), StoredImage(path), level))
        elif not stem.lower().startswith(("rainstreak", "rainregion")):
            message = "its name says neither 'clean' (norain-1, 1_gt) nor 'degraded' (rain-1, 1_in); rename it"
            problems.append(Problem("unmatched", path, message))
    return Reading(parts, problems)


def is_rain200(folder: Folder) -> bool:
    """Whether a folder holds norain/ and rain/X2/."""
    return {"norain", "rain"} <= folder.folders.keys() and "x2" in folder.folders["rain"].folders


def read_rain200(folder: Folder, side: Half | None) -> Reading:
    """Reads clean images in norain/, and degraded ones in rain/X2/ or rain/."""
    degraded = folder.child("rain")
    degraded = degraded.folders.get("x2", degraded)
    return Reading([*parts_in(folder.child("norain"), "clean"), *parts_in(degraded, "degraded", "rain")])


def is_repacked_rain100(folder: Folder) -> bool:
    """Whether a folder holds gt/norain-1.png and rainy/."""
    has_both = {"rainy", "gt"} <= folder.folders.keys()
    return has_both and any(file.stem.lower().startswith("norain-") for file in folder.folders["gt"].images)


def several_to_one(mark: str) -> Callable[[Folder], bool]:
    """Makes a function that recognises folders whose degraded names are clean names and a mark."""

    def recognise(folder: Folder) -> bool:
        clean, degraded = _clean_names(folder), _degraded_names(folder)
        if len(clean) != 1 or len(degraded) != 1:
            return False
        stems = [file.stem.lower() for file in folder.folders[degraded[0]].tree[:LOOKED_AT]]
        matches = [match for stem in stems if (match := re.search(mark, stem))]
        if not stems or 2 * len(matches) <= len(stems):
            return False
        keys = {pairing_key(file.stem) for file in folder.folders[clean[0]].tree}
        has_clean = [pairing_key(match.string[: match.start()]) in keys for match in matches]
        return 2 * sum(has_clean) > len(has_clean)  # most, since single files may be missing or misnamed

    return recognise


def read_several_to_one(mark: str) -> Callable[[Folder, Half | None], Reading]:
    """Makes a function that reads folders whose degraded names are clean names and a mark, the level."""

    def read(folder: Folder, side: Half | None) -> Reading:
        clean, degraded = _sides(folder)
        parts, problems = list(parts_in(folder.folders[clean], "clean")), []
        for path, place, stem in folder.folders[degraded[0]].files():
            match = re.search(mark, stem.lower())
            if match is None:
                message = "its name does not end in the mark of a version, such as _3 or _s80_a04; rename it"
                problems.append(Problem("unmatched", path, message))
                continue
            level = str(int(match[1])) if match[1].isdigit() else match[1]
            key = place + pairing_key(stem[: match.start()])
            parts.append(Part("degraded", key, StoredImage(path), level))
        return Reading(parts, problems)

    return read


def has_folders(*names: str) -> Callable[[Folder], bool]:
    """Makes a function that recognises folders that hold folders of all these names."""
    return lambda folder: folder.folders.keys() >= set(names)


def has_clean_and_levels(folder: Folder) -> bool:
    """Whether a folder holds one folder of clean images and at least one of degraded images."""
    return len(_clean_names(folder)) == 1 and bool(_degraded_names(folder))


def read_folders(folder: Folder, side: Half | None) -> Reading:
    """Reads a folder of clean images, a folder of degraded images a level, and masks if there are any."""
    clean, degraded = _sides(folder)
    parts = list(parts_in(folder.folders[clean], "clean"))
    for name in degraded:
        parts += parts_in(folder.folders[name], "degraded", name)
    masks = next((folder.folders[name] for name in MASKS if name in folder.folders), None)
    if masks is not None:  # masks for all levels, or a folder of masks for each
        parts += [part for name in degraded for part in parts_in(masks.folders.get(name, masks), "mask", name)]
    return Reading(parts)


def has_halves(folder: Folder) -> bool:
    """Whether a folder holds files alone, each with two halves that show one scene."""
    return not folder.folders and bool(folder.images) and are_halves(folder.images)


def read_halves(folder: Folder, side: Half | None) -> Reading:
    """Reads files of two halves; the degraded side is given, or a vote of the files decides it."""
    files = folder.files()
    if side is not None:
        return Reading(list(halves_of(files, side, "rainy")))
    half, note = degraded_side(files, folder.path)
    return Reading(list(halves_of(files, half, "rainy")), notes=[note])


def parts_in(folder: Folder, role: Role, level: str = "") -> Iterator[Part]:
    """The parts of the images in and below a folder, all of one role and level."""
    files: list[File] = folder.files()
    return (Part(role, place + pairing_key(stem), StoredImage(path), level) for path, place, stem in files)


def _clean_names(folder: Folder) -> list[str]:
    return [name for name in folder.folders if name in CLEAN]


def _degraded_names(folder: Folder) -> list[str]:
    """The names of the degraded folders; beside a folder ``clean``, any other folder is a level."""
    others = folder.folders.keys() - {*CLEAN, *MASKS}
    return sorted(name for name in others if "clean" in folder.folders or name in DEGRADED)


def _sides(folder: Folder) -> tuple[str, list[str]]:
    """The name of the clean folder and the names of the degraded ones."""
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
