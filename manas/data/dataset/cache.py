"""Caches of decoded images, so that each file is decoded once and not for every crop."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from manas.data.images import read_image
from manas.errors import ManasError
from manas.files import replacing, stamp

_HEADER = 128  # bytes of a .npy file before its pixels
# After each such part of the budget that this process has filled, it counts the files of the others, too.
_PARTS = 64


class Cache(Protocol):
    """Reads image files, each as (H, W, 3) uint8."""

    def read(self, path: Path) -> np.ndarray:
        """Reads the image in a file."""


class ImageCache:
    """Decoded images by path; beyond a budget of bytes, the least recently used image is dropped.

    The cache is pickled empty, so a process to which it is sent decodes for itself.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self.images: OrderedDict[Path, np.ndarray] = OrderedDict()
        self.used = 0

    def read(self, path: Path) -> np.ndarray:
        """Returns the image in a file, (H, W, 3) uint8."""
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
    """Decoded images in files of a folder, mapped into memory: a crop reads only the rows that it needs.

    A part of a PNG or JPEG file cannot be decoded alone. Each is therefore decoded once, as a whole, into a
    file of pixels, from which a crop can be read alone.

    All processes, ranks and later runs share the folder, and the operating system keeps the pages in use in
    memory. An image is known by the path, size and time of its file, so that a changed file is decoded again.
    Images that do not fit into the budget are decoded each time; no file is ever removed. Several processes
    that write at once may exceed the budget, each by the 64th part that it writes before it counts again.

    Args:
        folder: the folder, which is made when the first image is stored.
        budget: the most bytes of all files in the folder.
    """

    def __init__(self, folder: Path, budget: int):
        self.folder, self.budget = folder, budget
        self.used: int | None = None
        self.written = 0

    def read(self, path: Path) -> np.ndarray:
        """Returns the image in a file, (H, W, 3) uint8; if it is mapped, it cannot be written to.

        Raises:
            ManasError: if the file cannot be decoded, or the folder cannot be written to.
        """
        place = self._place(path)
        with suppress(OSError, ValueError, EOFError):  # the file is missing, or was cut off by a full disk
            return np.load(place, mmap_mode="r")
        image = read_image(path)
        if self._used() + image.nbytes + _HEADER <= self.budget:
            self._store(place, image)
        return image

    def _place(self, path: Path) -> Path:
        try:
            key = stamp(path)
        except OSError:
            return self.folder / "missing"  # `read_image` will raise the right error
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
    with suppress(FileNotFoundError):  # the process that wrote it has renamed it since it was listed
        return file.stat().st_size
    return 0
