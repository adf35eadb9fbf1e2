"""Lists of pairs: a text file with one pair a line, paths relative to the list."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from manas.data.archives.folder import Folder
from manas.data.archives.index import Problem, StoredImage
from manas.data.archives.names import CLEAN, DEGRADED, folded, pairing_key
from manas.data.archives.pairing import Part, Reading
from manas.data.images import IMAGE_SUFFIXES
from manas.errors import ManasError

_NAME = rf"\S.*?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})"
_LINE = re.compile(rf"({_NAME})(?:[\s,;]+({_NAME}))?", re.IGNORECASE)


class _Pair(NamedTuple):
    line: int
    degraded: Path
    clean: Path


def read_list(path: Path) -> Reading:
    """Reads the pairs of a list: ``degraded clean``, or ``input/1.png`` for the clean image ``gt/1.png``.

    The degraded folder may also be ``rainy``, ``synthetic`` or alike, and the clean one ``target``, ``norain``
    or alike, with other names of one pairing key (``rainy/rain-1.png``, ``gt/norain-1.png``). If a clean image
    is listed several times, its degraded versions are numbered in the order of the list.

    Raises:
        ManasError: if the list cannot be read, or for a line that is not one or two images.
    """
    pairs = list(_pairs(path))
    # Folders name the levels only where each background has one version.
    several = max(Counter(pair.clean for pair in pairs).values(), default=1) > 1
    parts: list[Part] = []
    problems: list[Problem] = []
    versions: dict[Path, list[Path]] = defaultdict(list)
    for pair in pairs:
        own = versions[pair.clean]
        problem = _problem(pair, path, own)
        if problem is not None:
            problems.append(problem)
            continue
        own.append(pair.degraded)
        key = _key(pair.clean, path.parent)
        level = str(len(own)) if several else folded(pair.degraded.parent.name)
        parts += [
            Part("degraded", key, StoredImage(pair.degraded), level),
            Part("clean", key, StoredImage(pair.clean)),
        ]
    return Reading(parts, problems, complete=False)


def _problem(pair: _Pair, path: Path, listed: Collection[Path]) -> Problem | None:
    place = f"line {pair.line} of {path}"
    if pair.degraded in listed:
        return Problem("duplicate", pair.degraded, f"{place} lists it again; keep one")
    missing = next((file for file in (pair.degraded, pair.clean) if not file.is_file()), None)
    if missing is None:
        return None
    return Problem("unmatched", missing, f"no such file, but {place} lists it or its partner")


def _key(clean: Path, folder: Path) -> str:
    inner = clean.relative_to(folder) if clean.is_relative_to(folder) else clean
    return inner.with_suffix("").as_posix().lower()


def _pairs(path: Path) -> Iterator[_Pair]:
    clean_beside = _CleanFiles()
    for number, line in enumerate(_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ManasError(f"{path}, line {number}: {line!r} is not one or two image files; correct it")
        degraded = path.parent / _relative(match[1])
        clean = path.parent / _relative(match[2]) if match[2] else clean_beside.find(degraded, path.parent)
        if clean is None:
            raise ManasError(
                f"{path}, line {number}: {line!r} is in no folder called {', '.join(DEGRADED)}; write the "
                "clean image behind it"
            )
        yield _Pair(number, degraded, clean)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ManasError(f"{path}: cannot be read as a list of images ({error}); give a text file") from error


def _relative(name: str) -> str:
    return re.sub(r"^(\./|/)+", "", name.replace("\\", "/"))


class _CleanFiles:
    """Finds the clean images of degraded ones; each folder is listed once."""

    def __init__(self) -> None:
        self.by_folder: dict[Path, tuple[Path, dict[str, Path]]] = {}

    def find(self, degraded: Path, root: Path) -> Path | None:
        """The clean image of the same name, or else of the same pairing key.

        None if no folder between `root` and the degraded image has a name for degraded images.
        """
        parts = degraded.relative_to(root).parts
        place = next((i for i in reversed(range(len(parts) - 1)) if folded(parts[i]) in DEGRADED), None)
        if place is None:
            return None
        clean, by_key = self._clean_in(root.joinpath(*parts[:place]))
        inner = Path(*parts[place + 1 :])
        key = inner.with_name(pairing_key(inner.stem)).as_posix().lower()
        same = clean / inner
        return same if same.is_file() else by_key.get(key, same)

    def _clean_in(self, folder: Path) -> tuple[Path, dict[str, Path]]:
        if folder not in self.by_folder:
            beside = Folder(folder).folders if folder.is_dir() else {}
            name = next((name for name in ("gt", *CLEAN) if name in beside), None)
            files = beside[name].files() if name else []
            by_key = {place + pairing_key(stem): path for path, place, stem in files}
            self.by_folder[folder] = beside[name].path if name else folder / "gt", by_key
        return self.by_folder[folder]
