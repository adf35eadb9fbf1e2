"""Scenes to evaluate on: degraded photographs with their clean originals, as 8-bit images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from manas.data.archives import read_archive
from manas.data.dataset.cache import ImageCache
from manas.data.images import as_bytes, as_floats, read_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather import LEVELS, degrade
from manas.data.weather.scene import seed_of
from manas.errors import ManasError

DEFAULT = ("rain", "snow")


class DegradedScene(NamedTuple):
    """One degraded image: (H, W, 3) uint8, as it would come from a file."""

    group: str  # what tables have a row for: the weather, or the folder of the set
    level: str
    name: str
    degraded: np.ndarray | None  # None where only the restored image is there
    clean: np.ndarray


@dataclass(frozen=True)
class Scenes:
    """Degraded images, read or made one by one, as often as they are iterated.

    Attributes:
        title: what they are, for captions.
        count: how many.
        read: the first of them to the last.
    """

    title: str
    count: int
    read: Callable[[], Iterator[DegradedScene]]

    def __iter__(self) -> Iterator[DegradedScene]:
        return self.read()

    def __len__(self) -> int:
        return self.count


def generated_scenes(
    photographs: Mapping[str, Path], weather: str, *, levels: Sequence[str] = LEVELS, seed: int = 0
) -> Iterator[DegradedScene]:
    """Generated weather of every level on every photograph, a function of seed and name alone."""
    for name, path in photographs.items():
        clean = read_image(path)
        fallen = degrade(as_floats(clean), weather, levels, seed=seed_of(seed, name, weather))
        for level, image in zip(levels, fallen.degraded, strict=True):
            yield DegradedScene(weather, level, name, as_bytes(image), clean)


def scenes_of_pairs(root: Path) -> Scenes:
    """Every pair of a data set in any layout (`manas.data.archives.read_archive`)."""
    archive = read_archive(root)
    group = archive.root.resolve().name

    def read() -> Iterator[DegradedScene]:
        cache = ImageCache(0)  # keeps the last file: both halves of one are decoded once
        for scene in archive.scenes:
            clean = scene.clean.read(cache.read)
            for level, picture in scene.degraded.items():
                yield DegradedScene(group, level, scene.name, picture.read(cache.read), clean)

    return Scenes(group, sum(len(scene.degraded) for scene in archive.scenes), read)


def scenes_for(
    pairs: str | Path | None = None,
    weathers: Sequence[str] | None = None,
    photographs: str | Path | None = None,
) -> Scenes:
    """The scenes of a folder of pairs, or of generated weather.

    Args:
        pairs: a folder of pairs; then the others must not be given.
        weathers: rain and snow unless given.
        photographs: a folder of clean photographs; the built-in, held-out ones unless given.
    """
    if pairs is not None:
        if weathers or photographs:
            raise ManasError(f"{pairs}: pairs have their own weather and photographs; leave the options out")
        return scenes_of_pairs(Path(pairs))
    clean = photographs_in(Path(photographs)) if photographs else builtin_photographs("held_out")
    weathers = weathers or DEFAULT
    origin = f"of {Path(photographs).resolve().name}" if photographs else "that ship with scikit-image"
    return Scenes(
        f"generated {' and '.join(weathers)} on {len(clean)} photographs {origin}",
        len(weathers) * len(clean) * len(LEVELS),
        lambda: chain.from_iterable(generated_scenes(clean, weather) for weather in weathers),
    )
