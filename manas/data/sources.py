"""Sources: where the degraded versions of a background come from.

A source has backgrounds, known by an identity, and gives for each a clean crop and K degraded versions of it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from manas.data.archives import Scene, paired_scenes
from manas.data.images import read_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather import degrade, depth_ramp
from manas.errors import ManasError

IDENTIFYING_BYTES = 1 << 16

WeatherName = Literal["rain", "snow"]
LevelName = Literal["light", "medium", "heavy"]


class Crop(NamedTuple):
    """One background as it is trained on: float32 in [0, 1]."""

    clean: np.ndarray  # (P, P, 3)
    degraded: np.ndarray  # (K, P, P, 3)


class Source(Protocol):
    """What the data set asks of a source."""

    identities: list[str]

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        """A random crop of background `index` with its degraded versions."""


class SourceConfig(BaseModel):
    """One source: weather on clean photographs, or a folder of pairs.

    Attributes:
        task: the task that its samples belong to, a tower of the network.
        weather: generated on `photographs`.
        photographs: ``builtin``, or a folder of clean photographs.
        levels: of the generated weather.
        nested: heavier levels hold the streaks of the lighter ones; else each is drawn for itself.
        pairs: a folder of clean and degraded images, instead of generated weather.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    weather: WeatherName | None = None
    photographs: str = "builtin"
    levels: tuple[LevelName, ...] = Field(("light", "medium", "heavy"), min_length=1)
    nested: bool = True
    pairs: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if (self.weather is None) == (self.pairs is None):
            raise ManasError(f"the source for {self.task!r} needs either 'weather' or 'pairs'")
        generated = {"photographs", "levels", "nested"} & self.model_fields_set
        if self.pairs is not None and generated:
            raise ManasError(
                f"{', '.join(sorted(generated))} is for generated weather, not for pairs; leave it out"
            )
        if len(set(self.levels)) != len(self.levels):
            raise ManasError(f"a level is named twice in {', '.join(self.levels)}; name each once")
        return self

    def open(self, versions: int, cache: ImageCache) -> Source:
        """The source, for training, with `versions` degradations a background."""
        if self.weather is None:
            assert self.pairs is not None  # as the validator saw to
            return PairedSource(paired_scenes(Path(self.pairs)), versions, self.pairs, cache)
        builtin = self.photographs == "builtin"
        found = builtin_photographs("training") if builtin else photographs_in(Path(self.photographs))
        _require_levels(len(self.levels), versions, f"the generated {self.weather}")
        photographs = list(found.values())
        return GeneratedSource(photographs, self.weather, self.levels, versions, cache, nested=self.nested)


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


class GeneratedSource:
    """Weather on clean photographs. The background is augmented before it rains: rain keeps falling down."""

    def __init__(
        self,
        photographs: Sequence[Path],
        weather: str,
        levels: Sequence[str],
        versions: int,
        cache: ImageCache,
        *,
        nested: bool,
    ):
        self.photographs = photographs
        self.identities = [identity(path) for path in photographs]
        self.weather, self.levels, self.versions, self.nested = weather, levels, versions, nested
        self.cache = cache

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        path = self.photographs[index]
        image = self.cache.read(path)
        top, left = _corner(image, patch, rng, path)
        clean = _as_float(image[top : top + patch, left : left + patch])
        clean = _augmented(clean[None], rng)[0] if augment else clean
        levels = _drawn(self.levels, self.versions, rng)
        depth = depth_ramp(image.shape[0], self.weather)[top : top + patch]
        seed = int(rng.integers(1 << 63))
        fallen = degrade(clean, self.weather, levels, seed=seed, nested=self.nested, depth=depth)
        return Crop(clean, fallen.degraded)


class PairedSource:
    """Clean and degraded files of the same scenes."""

    def __init__(self, scenes: Sequence[Scene], versions: int, where: str, cache: ImageCache):
        _require_levels(min(len(scene.degraded) for scene in scenes), versions, where)
        self.scenes = scenes
        self.identities = [identity(scene.clean) for scene in scenes]
        self.versions = versions
        self.cache = cache

    def crop(self, index: int, patch: int, rng: np.random.Generator, *, augment: bool) -> Crop:
        scene = self.scenes[index]
        clean = self.cache.read(scene.clean)
        top, left = _corner(clean, patch, rng, scene.clean)
        paths = [scene.degraded[level] for level in _drawn(tuple(scene.degraded), self.versions, rng)]
        images = [clean, *(self._like(clean, path, scene) for path in paths)]
        crops = np.stack([image[top : top + patch, left : left + patch] for image in images])
        crops = _as_float(_augmented(crops, rng) if augment else crops)
        return Crop(crops[0], crops[1:])

    def _like(self, clean: np.ndarray, path: Path, scene: Scene) -> np.ndarray:
        image = self.cache.read(path)
        if image.shape != clean.shape:
            raise ManasError(
                f"{path}: {image.shape[1]}x{image.shape[0]}, but its clean image {scene.clean} is "
                f"{clean.shape[1]}x{clean.shape[0]}; pairs must have one size"
            )
        return image


def identity(path: Path) -> str:
    """What makes a background the same in two sources: the size of its file and how its bytes begin."""
    try:
        with path.open("rb") as file:
            beginning = file.read(IDENTIFYING_BYTES)
        return f"{path.stat().st_size}-{hashlib.blake2b(beginning, digest_size=16).hexdigest()}"
    except OSError as error:
        raise ManasError(f"{path}: cannot be read ({error.strerror}); replace it or leave it out") from error


def _require_levels(available: int, versions: int, where: str) -> None:
    if available < versions:
        raise ManasError(
            f"{where} has {available} degraded version(s) of a background, but data.versions is {versions}; "
            f"set data.versions={available}"
        )


def _drawn(levels: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` of the levels, in their order."""
    return [levels[place] for place in sorted(rng.permutation(len(levels))[:count])]


def _corner(image: np.ndarray, patch: int, rng: np.random.Generator, path: Path) -> tuple[int, int]:
    height, width = image.shape[:2]
    if min(height, width) < patch:
        raise ManasError(
            f"{path}: {width}x{height} is smaller than the crops of {patch}; lower data.patch or "
            "data.validation_patch"
        )
    return int(rng.integers(height - patch + 1)), int(rng.integers(width - patch + 1))


def _augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the eight symmetries of the square, the same for all of (N, P, P, 3)."""
    transpose, flip_rows, flip_columns = rng.random(3) < 0.5
    images = images.swapaxes(1, 2) if transpose else images
    images = images[:, ::-1] if flip_rows else images
    return np.ascontiguousarray(images[:, :, ::-1] if flip_columns else images)


def _as_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / np.float32(255)
