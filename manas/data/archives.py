"""The layouts of data sets on disk, read into one index: scenes with a clean file and degraded ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manas.data.photographs import photographs_in
from manas.errors import ManasError

CLEAN = ("clean", "target", "gt", "norain", "ground_truth", "ground truth", "sharp")
DEGRADED = ("input", "lq", "rain", "rainy", "snow", "synthetic", "degraded", "in", "rainy_image", "rainy image")


@dataclass(frozen=True)
class Scene:
    """One background: its clean file and its degraded files by level."""

    name: str
    clean: Path
    degraded: Mapping[str, Path]


def paired_scenes(root: Path) -> list[Scene]:
    """The scenes of a folder that holds a folder of clean images and one folder a level beside it.

    The clean folder is called ``clean``, ``target``, ``gt``, ``norain`` or alike; the degraded ones either
    ``input``, ``rain``, ``snow`` or alike, or anything (``light``, ``medium``, ``heavy``) where the clean one
    is ``clean``. Files are paired by name, without suffix, case, and the prefixes and marks that published
    sets add (``norain-001`` is ``rain-1x2``).

    Raises:
        ManasError: for a missing folder, a folder without pairs, or images without a partner.
    """
    if not root.is_dir():
        raise ManasError(f"{root}: no such folder; give a folder with clean and degraded images")
    folders = {
        path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."
    }
    clean_name = next((name for name in CLEAN if name in folders), None)
    if clean_name is None:
        raise ManasError(f"{root}: no folder of clean images in it; name it one of: {', '.join(CLEAN)}")
    others = {name: path for name, path in folders.items() if name != clean_name}
    levels = {name: path for name, path in others.items() if clean_name == "clean" or name in DEGRADED}
    if not levels:
        raise ManasError(f"{root}: no degraded images beside {clean_name!r}; add a folder such as 'input'")
    clean = _by_key(folders[clean_name])
    degraded = {level: _by_key(path) for level, path in levels.items()}
    for level, files in degraded.items():
        _require_partners(clean, files, levels[level], folders[clean_name])
    return [
        Scene(key, path, {level: files[key] for level, files in degraded.items()})
        for key, path in clean.items()
    ]


def pairing_key(stem: str) -> str:
    """What is left of a file's name to pair by: ``norain-001``, ``rain-1x2``, ``0001_s80_a04`` -> ``1``."""
    key = re.sub(r"^(no-?rain-|norain|rain-)", "", stem.lower())
    key = re.sub(r"(x2|_s\d\d_a\d\d)$", "", key)
    return str(int(key)) if key.isdigit() else key


def _by_key(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in photographs_in(folder).items():
        inner = PurePosixPath(name)
        key = str(inner.with_name(pairing_key(inner.name)))
        if key in found:
            raise ManasError(f"{path}: has the same name as {found[key]} but for its number format; keep one")
        found[key] = path
    return found


def _require_partners(
    clean: Mapping[str, Path], degraded: Mapping[str, Path], folder: Path, clean_folder: Path
) -> None:
    for files, partners, beside in ((degraded, clean, clean_folder), (clean, degraded, folder)):
        alone = [str(path) for key, path in files.items() if key not in partners]
        if alone:
            raise ManasError(
                f"{alone[0]}: no partner in {beside} ({len(alone)} such files); pairs share a name"
            )
