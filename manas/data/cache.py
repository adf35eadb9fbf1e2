"""Decoded images, kept so that each file is decoded once and not once a crop."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from manas.data.images import read_image
from manas.files import replacing

_HEADER = 128  # bytes of a .npy file before its pixels
_RECOUNT = 64  # files written by this process after which those of the others are counted, too


class Cache(Protocol):
    """Reads image files, each as (H, W, 3) uint8."""

    def read(self, path: Path) -> np.ndarray:
        """The image in a file."""


class ImageCache:
    """Decoded images by path, the least recently used dropped beyond a budget of bytes.

    A process that receives one begins with it empty.
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

    All processes, ranks and later runs share the folder; the operating system keeps what is used in memory. An
    image is known by path, size and time of its file, so that a changed file is decoded again. What does not
    fit in the budget is decoded each time. Several processes that write at once may exceed the budget by the
    64 images that each writes before it counts again.

    Args:
        folder: made when the first image is stored.
        budget: bytes of all images in it.
    """

    def __init__(self, folder: Path, budget: int):
        self.folder, self.budget = folder, budget
        self.used: int | None = None
        self.written = 0

    def read(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, not writeable where it is mapped."""
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
        if self.used is None or self.written >= _RECOUNT:
            self.used = sum(file.stat().st_size for file in self.folder.glob("*/*.npy"))
            self.written = 0
        return self.used

    def _store(self, place: Path, image: np.ndarray) -> None:
        used = self._used()
        with replacing(place) as unfinished:
            np.save(unfinished, image)
        self.used, self.written = used + image.nbytes + _HEADER, self.written + 1
