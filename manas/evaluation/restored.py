"""Pictures that were restored before, in a folder, with their originals in another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from manas.data.archives.index import natural_order
from manas.data.archives.names import pairing_key
from manas.data.images import read_image
from manas.data.photographs import photographs_in
from manas.errors import ManasError
from manas.evaluation.scenes import DegradedScene, Scenes
from manas.evaluation.scores import counted
from manas.photos.views import is_view


def pairs_by_name(restored: Path, originals: Path) -> dict[str, tuple[Path, Path]]:
    """The pictures of two folders, and of those below them, by path and name: (restored, original).

    Names are compared as in data sets: ``rain-001.png`` is the partner of ``norain-1.jpg``. Views that
    `manas restore` wrote beside its results (``rain-001.png.compare.png``) are left out.

    Raises:
        ManasError: for a picture without partner, or two of one name in a folder; it names the first.
    """
    ours, theirs = _by_name(restored), _by_name(originals)
    for has, lacks, missing in (
        (ours, restored, theirs.keys() - ours.keys()),
        (theirs, originals, ours.keys() - theirs.keys()),
    ):
        if missing:
            partner = (theirs if has is ours else ours)[min(missing)]
            raise ManasError(
                f"{partner} has no partner in {lacks} ({counted(len(missing))} in all); "
                "give two folders with the same names"
            )
    return {name: (ours[name], theirs[name]) for name in sorted(ours, key=natural_order)}


def originals_of(originals: Path, restored: Path) -> Scenes:
    """The originals of restored pictures: scenes whose degraded images are not known.

    Raises:
        ManasError: as `pairs_by_name`.
    """
    pairs, group = pairs_by_name(restored, originals), originals.resolve().name

    def read() -> Iterator[DegradedScene]:
        for name, (_, original) in pairs.items():
            yield DegradedScene(group, "", name, None, read_image(original))

    return Scenes(group, len(pairs), read)


def reader_of(restored: Path, originals: Path) -> Callable[[DegradedScene], np.ndarray]:
    """The candidate that stands for a model whose pictures are there already: it reads that of each scene.

    Raises:
        ManasError: as `pairs_by_name`.
    """
    pairs = pairs_by_name(restored, originals)
    return lambda scene: read_image(pairs[scene.name][0])


def _by_name(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for key, path in photographs_in(folder).items():
        if is_view(path):
            continue
        place, _, stem = key.rpartition("/")
        name = f"{place}/{pairing_key(stem)}" if place else pairing_key(stem)
        if name in named:
            raise ManasError(f"{folder}: {named[name].name} and {path.name} are both {name}; remove one")
        named[name] = path
    return named
