"""Signatures of picture files, remembered in the user's cache folder: no start reads all files once more."""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL

from manas.data import images
from manas.data.archives.index import StoredImage
from manas.data.checking import matching, overlap, signature
from manas.data.checking.signature import Signature
from manas.files import replacing, stamp

Arrays = Mapping[str, np.ndarray]

# A part of every key, so that nothing is remembered of a program or a decoder that has since been changed.
_RECIPE = hashlib.blake2b(
    "".join([PIL.__version__, *map(inspect.getsource, (images, signature, overlap, matching))]).encode()
).hexdigest()


def signatures(pictures: Iterable[StoredImage]) -> dict[StoredImage, Signature]:
    """The signature of each picture; a picture is read only if its file is new or was changed since.

    Raises:
        ManasError: for a file that cannot be decoded.
    """
    distinct = list(dict.fromkeys(pictures))
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Each reader of a file silences warnings and restores the filters, but the threads share these filters.
        warnings.simplefilter("ignore")
        return dict(zip(distinct, pool.map(_signature, distinct), strict=True))


def _signature(picture: StoredImage) -> Signature:
    with images.reading(picture.path):
        file = stamp(picture.path)
    return Signature(**remembered((file, picture.half), lambda: vars(signature.signature(picture.read()))))


def remembered(key: Iterable[object], compute: Callable[[], Arrays]) -> Arrays:
    """Arrays that were computed before under the same key, or else are computed now and kept.

    They lie in ``manas`` in ``$XDG_CACHE_HOME``, ``~/.cache`` by default, and may be deleted at any time. Where
    nothing can be written, they are computed each time.
    """
    digest = hashlib.blake2b(repr((_RECIPE, *key)).encode(), digest_size=16).hexdigest()
    with suppress(OSError, ValueError, EOFError, BadZipFile, RuntimeError), _place(digest).open("rb") as file:
        return dict(np.load(file))  # from an open file, since np.load leaves one that is damaged open
    arrays = compute()
    with suppress(OSError, RuntimeError), replacing(_place(digest)) as unfinished:
        np.savez(unfinished, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return arrays


def _place(digest: str) -> Path:
    """The file of a key; RuntimeError for a user without a home."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "manas" / digest[:2] / f"{digest}.npz"
