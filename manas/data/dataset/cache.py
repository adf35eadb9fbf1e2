"""Decoded images, kept so that each file is decoded once and not once a crop."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from manas.data.images import read_image
from manas.errors import ManasError
from manas.files import replacing

_HEADER = 128  # bytes of a .npy file before its pixels
_PARTS = 64  # of the budget; after each that this process has filled, the files of the others are counted, too


class Cache(Protocol):
    """Reads image files, each as (H, W, 3) uint8."""

    def read(self, path: Path) -> np.ndarray:
        """The image in a file."""


class ImageCache:
    """Decoded images by path, the least recently used dropped beyond a budget of bytes.

    It is pickled empty: a process to which it is sent decodes for itself.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self.images: OrderedDict[Path, np.ndarray] = OrderedDict()
        self.used = 0

    def read(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8"""
        if path in self.images:
            self.images.move_to_end(path)
            return self.images[path]
        image = read_image(path)
        self.images[path] = image
        self.used += image.nbytes
        while self.used > self.budget and len(self.images) > 1:
            self.used -= self.images.popitem(last=False)[1].nbytes
        return image

    def __getstate__(self) -> dict[str, object]:
        return {"budget": self.budget, "images": OrderedDict(), "used": 0}


class ImageStore:
    """Decoded images in the files of a folder, mapped into memory: a crop reads the rows that it needs.

    A part of a PNG or JPEG file cannot be decoded by itself, so they are decoded once, whole, into what can be
    cut before it is read.

    All processes, ranks and later runs share the folder; the operating system keeps what is used in memory. An
    image is known by path, size and time of its file, so that a changed file is decoded again. What does not
    fit in the budget is decoded each time; nothing is ever removed. Several processes that write at once may
    exceed the budget by the 64th of it that each writes before it counts again.

    Args:
        folder: made when the first image is stored.
        budget: bytes of all images in it.
    """

    def __init__(self, folder: Path, budget: int):
        self.folder, self.budget = folder, budget
        self.used: int | None = None
        self.written = 0

    def read(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, not writeable where it is mapped.

        Raises:
            ManasError: if the file cannot be decoded, or the folder not be written.
        """
        stored = self._place(path)
        with suppress(OSError, ValueError, EOFError):  # not there, or cut off when its disk was full
            return np.load(stored, mmap_mode="r")
        image = read_image(path)
        if self._used() + image.nbytes + _HEADER <= self.budget:
            self._store(stored, image)
        return image

    def _place(self, path: Path) -> Path:
        try:
            status = path.stat()
        except OSError:
            return self.folder / "missing"  # `read_image` says what is wrong
        key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / digest[:2] / f"{digest}.npy"

    def _used(self) -> int:
        if self.used is None or self.written >= self.budget // _PARTS:
            self.used, self.written = sum(map(_size, self.folder.glob("*/*.npy"))), 0
        return self.used

    def _store(self, place: Path, image: np.ndarray) -> None:
        used, size = self._used(), image.nbytes + _HEADER
        try:
            with replacing(place) as unfinished:
                np.save(unfinished, image)
        except OSError as error:  # a worker would wrap it in a traceback
            raise ManasError(
                f"data.cache_folder: {self.folder} cannot be written ({error.strerror or error}); give a "
                "folder with room, or a smaller data.cache_megabytes"
            ) from error
        self.used, self.written = used + size, self.written + size


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):  # unfinished a moment ago, and renamed since by the process that wrote it
        return file.stat().st_size
    return 0
