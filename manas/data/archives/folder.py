"""A folder as the layouts see it: listed once, when it is first asked, with names in any case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from manas.data.archives.names import folded
from manas.data.images import IMAGE_SUFFIXES
from manas.errors import ManasError

_NOT_DATA = ("__macosx", "thumbs.db")


class File(NamedTuple):
    """An image file in or below a folder.

    Attributes:
        path: the path of the file.
        place: the folders between, in lower case, with a '/' behind each.
        stem: the name of the file without its suffix.
    """

    path: Path
    place: str
    stem: str


class Folder:
    """One folder on disk.

    Raises:
        ManasError: when it is listed, if it is missing, or if two folders in it differ only in their spelling.
    """

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def _listing(self) -> tuple[dict[str, Folder], list[str]]:
        folders: dict[str, Folder] = {}
        images: list[str] = []
        for entry in self._entries():
            if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
                continue
            if entry.is_dir():
                self._add(folders, entry.name)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                images.append(entry.name)
        return folders, images

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ManasError(
                f"{self.path}: no such folder; give a folder with clean and degraded images"
            ) from error
        except OSError as error:
            raise ManasError(f"{self.path}: cannot be listed ({error.strerror}); give another") from error

    def _add(self, folders: dict[str, Folder], name: str) -> None:
        other = folders.setdefault(folded(name), Folder(self.path / name))
        if other.path.name != name:
            raise ManasError(
                f"{self.path}: the folders {other.path.name!r} and {name!r} are one name; rename one"
            )

    @property
    def folders(self) -> dict[str, Folder]:
        """The folders in this one, by their `folded` names."""
        return self._listing[0]

    @property
    def images(self) -> list[File]:
        """The image files in this folder, but not in the folders below it."""
        return [File(self.path / name, "", name[: name.rindex(".")]) for name in self._listing[1]]

    def files(self) -> list[File]:
        """The image files in and below this folder.

        Raises:
            ManasError: if there is no image file.
        """
        if not self.tree:
            raise ManasError(
                f"{self.path}: no image ({', '.join(IMAGE_SUFFIXES)}) in it; add some, or give another folder"
            )
        return self.tree

    @cached_property
    def tree(self) -> list[File]:
        """The image files in and below this folder; it may be empty."""
        return list(self._walk("", (self.path.resolve(),)))

    def _walk(self, place: str, above: tuple[Path, ...]) -> Iterator[File]:
        yield from (File(path, place, stem) for path, _, stem in self.images)
        for folder in self.folders.values():
            real = folder.path.resolve()
            if real not in above:  # a link to a folder above would be walked for ever
                yield from folder._walk(f"{place}{folder.path.name.lower()}/", (*above, real))

    def child(self, *names: str) -> Folder:
        """The folder in this one that has one of the names.

        Raises:
            ManasError: if there is no such folder.
        """
        folder = next((self.folders[name] for name in names if name in self.folders), None)
        if folder is None:
            raise ManasError(f"{self.path}: no folder {' or '.join(map(repr, names))} in it; add it")
        return folder

    @property
    def core(self) -> Folder:
        """The first folder from this one down that holds more than one folder alone."""
        only = next(iter(self.folders.values()), None)
        return only.core if only is not None and len(self.folders) == 1 and not self.images else self
