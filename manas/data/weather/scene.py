"""The random draws for one photograph: the scene of each level, and the particles that fall in it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from manas.data.weather.climates import CLIMATES, LEVELS, MIXED, WEATHERS, Climate
from manas.data.weather.particles import Fall
from manas.data.weather.rain import Streaks
from manas.data.weather.snow import Flakes
from manas.errors import ManasError

Seed = int | Sequence[int]

_REFERENCE = 480 * 320  # pixels of a picture of scale 1


class Look(NamedTuple):
    """The look of a level on one photograph, without its particles.

    Attributes:
        climate: the climate from whose ranges it was drawn.
        fall: the properties that its particles share.
        haze: factor on the strength of the veil.
        brightness: factor on the opacity of the particles.
        colour: (3,) colour of the particles.
        held: (3,) share of the light behind a particle that the particle holds back.
        airlight: brightness of the veil.
        grain: (3, H, W) white Gaussian noise of deviation 1; None in a climate without noise.
    """

    climate: Climate
    fall: Fall
    haze: float
    brightness: float
    colour: np.ndarray
    held: np.ndarray
    airlight: float
    grain: np.ndarray | None

    def veil(self, level: str) -> float:
        """The optical depth of the air at relative depth 1."""
        return self.haze * self.climate.levels[level].veil

    def noise(self, level: str) -> float:
        """The standard deviation of the noise, where white is 1."""
        return self.climate.levels[level].noise


class Layer(NamedTuple):
    """Particles of one kind, and the level on whose canvas they are drawn."""

    level: str
    kind: Streaks | Flakes
    particles: np.ndarray


def drawn(
    climates: Sequence[Climate],
    levels: Sequence[str],
    *,
    seed: Seed,
    nested: bool,
    shape: tuple[int, int],
    scale: float,
) -> tuple[list[Look], list[Layer]]:
    """Draws the scenes of the levels, in their order, and all layers of particles.

    If levels are nested, a layer belongs to the lightest level that holds it; else every level has its own.
    """
    seeds = _seed_sequence(seed)
    if nested:
        # The lighter levels are drawn first, so that they do not depend on the heaviest one asked for.
        heaviest = max(levels, key=LEVELS.index)
        scene, layers = _draw(climates, heaviest, shape, scale, np.random.default_rng(seeds))
        return [scene] * len(levels), layers
    # Each level has a seed, also if it is not asked for, so that no level depends on the others.
    streams = zip(LEVELS, seeds.spawn(len(LEVELS)), strict=True)
    draws = {
        level: _draw(climates, level, shape, scale, np.random.default_rng(stream))
        for level, stream in streams
        if level in levels
    }
    alone = [layer._replace(level=level) for level, (_, layers) in draws.items() for layer in layers]
    return [draws[level][0] for level in levels], alone


def _draw(climates, heaviest, shape, scale, rng) -> tuple[Look, list[Layer]]:
    """Draws one scene, and the layers of all levels up to the heaviest."""
    climate = climates[rng.integers(len(climates))]
    scene = _scene(climate, shape, scale, rng)
    upto = LEVELS[: LEVELS.index(heaviest) + 1]
    kinds = [(level, kind) for level in upto for kind in climate.levels[level].added]
    return scene, [Layer(level, kind, kind.draw(shape, scene.fall, rng)) for level, kind in kinds]


def _scene(climate: Climate, shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Look:
    colour = np.clip(rng.uniform(*climate.colour) + climate.tint * rng.uniform(-1, 1, 3), 0, 1)
    return Look(
        climate=climate,
        fall=Fall(
            slant=rng.uniform(-climate.slant, climate.slant),
            density=rng.uniform(*climate.density),
            length=rng.uniform(0.8, 1.2),
            width=rng.uniform(0.85, 1.15),
            scale=scale,
        ),
        haze=rng.uniform(0.75, 1.25),
        brightness=rng.uniform(*climate.brightness),
        colour=colour,
        held=colour * rng.uniform(*climate.screening) if climate.screening else np.ones(3),
        airlight=rng.uniform(*climate.airlight),
        grain=rng.standard_normal((3, *shape), dtype=np.float32) if climate.noisy else None,
    )


def seed_of(seed: int, name: str, weather: str) -> list[int]:
    """The seed of the weather on one photograph, a function of its name and not of the other photographs."""
    return [seed, zlib.crc32(name.encode()), zlib.crc32(weather.encode())]


def depth_ramp(height: int, weather: str) -> np.ndarray:
    """The relative depth of the rows of a photograph, (height,) float32: 1 at the top, less towards the ground.

    Raises:
        ManasError: for an unknown weather, or a height below 1.
    """
    if height < 1:
        raise ManasError(f"height is {height}; give the number of rows of the photograph, at least 1")
    return np.linspace(1, climates_of(weather)[0].nearest, height, dtype=np.float32)


def scale_of(height: int, width: int) -> float:
    """The size of particles on a picture of this size, relative to a picture of 480 x 320; at least 1."""
    return max(1.0, math.sqrt(height * width / _REFERENCE))


def climates_of(weather: str, family: str | None = None) -> list[Climate]:
    """The climates from which a scene is drawn; the first climate of the weather if no family is given.

    Raises:
        ManasError: for an unknown weather, or a family that it does not have.
    """
    if weather not in WEATHERS:
        raise ManasError(f"weather is {weather!r}; choose one of {', '.join(WEATHERS)}")
    families = CLIMATES[weather]
    if family is None or family == MIXED:
        return list(families.values())[: None if family else 1]
    if family not in families:
        raise ManasError(f"family is {family!r}; {weather} has {', '.join([*families, MIXED])}")
    return [families[family]]


def _seed_sequence(seed: Seed) -> np.random.SeedSequence:
    values = [seed] if isinstance(seed, int | np.integer) else seed
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        values = []
    if len(values) == 0 or not all(isinstance(value, int | np.integer) and value >= 0 for value in values):
        raise ManasError(f"seed is {seed!r}; give a non-negative integer, or a sequence of them")
    return np.random.SeedSequence(seed)
