"""Sources of backgrounds and their degraded versions.

Each background of a source has a clean picture; the source gives crops of it with K degraded versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from manas.data.archives import Archive, Scene, StoredImage
from manas.data.archives.checks import Size, size_of, sizes_in_headers
from manas.data.dataset.augmentation import AUGMENTATIONS, Augment
from manas.data.dataset.cache import Cache
from manas.data.images import as_floats
from manas.data.weather import LEVELS, Capture, degrade, depth_ramp, scale_of
from manas.errors import ManasError


class Crop(NamedTuple):
    """A crop of one background, as a network is trained on it; float32 in [0, 1]."""

    clean: np.ndarray  # (P, P, 3)
    degraded: np.ndarray  # (K, P, P, 3)


class Source(Protocol):
    """The interface of a source.

    Attributes:
        pictures: the clean picture of each background.
        notes: sentences about decisions on its files.
        sizes: (width, height) of each background, by the name of its file.
    """

    pictures: Sequence[StoredImage]
    notes: tuple[str, ...]
    sizes: Mapping[str, Size]

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        """A random crop of background `index` with its degraded versions, augmented or not."""


@dataclass(frozen=True)
class Generation:
    """The weather that is generated on photographs; see `manas.data.weather.degrade`."""

    weather: str
    levels: tuple[str, ...] = LEVELS
    family: str = "falling"
    nested: bool = True
    capture: Capture = Capture()


class GeneratedSource:
    """A source of generated weather on photographs, which are augmented before, so that rain falls down.

    Args:
        photographs: the files.
        generation: the weather.
        versions: number of degradations of a background.
        cache: what reads the files.
        notes: sentences about decisions on the files.
        augment: see `manas.data.dataset.config.SourceConfig`.
        shrink: see there.
    """

    def __init__(
        self,
        photographs: Sequence[Path],
        generation: Generation,
        versions: int,
        cache: Cache,
        notes: tuple[str, ...] = (),
        *,
        augment: Augment = "eightfold",
        shrink: float = 1,
    ):
        _require_levels(len(generation.levels), versions, f"the generated {generation.weather}")
        self.photographs, self.notes = photographs, notes
        sizes, problems = sizes_in_headers(photographs)
        if problems:
            raise ManasError(str(problems[0]))
        self.sizes: Mapping[str, Size] = {str(path): size for path, size in sizes.items()}
        self.pictures: Sequence[StoredImage] = [StoredImage(path) for path in photographs]
        self.generation, self.versions, self.cache = generation, versions, cache
        self.augmentation = AUGMENTATIONS[augment]
        self.shrink = shrink

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        path = self.photographs[index]
        image = self.cache.read(path)
        side = self._side(image, patch, rng)
        top, left = _corner(image, side, rng)
        clean = as_floats(_scaled(image[top : top + side, left : left + side], patch))
        clean = self.augmentation(clean[None], rng)[0] if augment else clean
        fall, rows = self.generation, np.linspace(top, top + side - 1, patch).round().astype(int)
        weather = degrade(
            clean,
            fall.weather,
            _draw(fall.levels, self.versions, rng),
            seed=int(rng.integers(1 << 63)),
            family=fall.family,
            nested=fall.nested,
            depth=depth_ramp(image.shape[0], fall.weather)[rows],
            # The particles of a crop are between those of a small picture and those of the whole photograph,
            # since a crop of a large photograph stands for both.
            scale=max(1.0, scale_of(*image.shape[:2]) * (patch / side)) ** rng.random(),
        )
        return Crop(clean, fall.capture.of(weather.degraded, rng))

    def _side(self, image: np.ndarray, patch: int, rng: np.random.Generator) -> int:
        """The side of the part of a photograph that is scaled down to a crop."""
        if self.shrink == 1:
            return patch
        largest = min(self.shrink, min(image.shape[:2]) / patch)
        return round(patch * largest ** rng.random())


class PairedSource:
    """A source of clean and degraded pictures of the same scenes, which are augmented together."""

    def __init__(self, archive: Archive, versions: int, cache: Cache, *, augment: Augment = "mirror"):
        fewest = min(archive.scenes, key=lambda scene: len(scene.degraded))
        _require_levels(len(fewest.degraded), versions, str(fewest.clean))
        self.scenes, self.notes = archive.scenes, archive.notes
        self.sizes: Mapping[str, Size] = {
            str(scene.clean): size_of(scene.clean, archive.sizes)
            for scene in self.scenes
            if scene.clean.path in archive.sizes
        }
        self.pictures: Sequence[StoredImage] = [scene.clean for scene in self.scenes]
        self.versions, self.cache = versions, cache
        self.augmentation = AUGMENTATIONS[augment]

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        scene = self.scenes[index]
        clean = scene.clean.read(self.cache.read)
        top, left = _corner(clean, patch, rng)
        pictures = [scene.degraded[level] for level in _draw(tuple(scene.degraded), self.versions, rng)]
        images = [clean, *(self._like(clean, picture, scene) for picture in pictures)]
        crops = np.stack([image[top : top + patch, left : left + patch] for image in images])
        crops = as_floats(self.augmentation(crops, rng) if augment else crops)
        return Crop(crops[0], crops[1:])

    def _like(self, clean: np.ndarray, picture: StoredImage, scene: Scene) -> np.ndarray:
        image = picture.read(self.cache.read)
        if image.shape != clean.shape:
            raise ManasError(
                f"{picture}: {image.shape[1]}x{image.shape[0]}, but its clean image {scene.clean} is "
                f"{clean.shape[1]}x{clean.shape[0]}; pairs must have one size"
            )
        return image


def _require_levels(available: int, versions: int, where: str) -> None:
    if available < versions:
        raise ManasError(
            f"{where} has {available} degraded version(s) of a background, but data.versions is {versions}; "
            f"set data.versions={available}"
        )


def _draw(levels: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Draws `count` of the levels, in their order."""
    return [levels[place] for place in sorted(rng.permutation(len(levels))[:count])]


def _scaled(image: np.ndarray, side: int) -> np.ndarray:
    """A square picture (S, S, 3), uint8, scaled to a side."""
    if len(image) == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def _corner(image: np.ndarray, patch: int, rng: np.random.Generator) -> tuple[int, int]:
    height, width = image.shape[:2]
    return int(rng.integers(height - patch + 1)), int(rng.integers(width - patch + 1))
