"""Rain and snow of three levels on a clean photograph.

Streaks and flakes are drawn as **optical depth**: what covers a pixel twice adds up, and 1 - exp(-depth) is
the union 1 - prod(1 - a) of their opacities. So a heavier level is the lighter one plus more: one addition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from manas.data.rain import Streaks
from manas.data.snow import Flakes
from manas.errors import ManasError


@dataclass(frozen=True)
class Level:
    """One level: the strength of its veil, and what it adds to the particles of the lighter levels."""

    veil: float
    added: tuple[Streaks | Flakes, ...]


@dataclass(frozen=True)
class Climate:
    """The levels of one weather, and the ranges from which each scene draws."""

    levels: dict[str, Level]
    brightness: tuple[float, float]  # factor on the opacity of the particles
    colour: tuple[float, float]  # of the particles, sRGB
    tint: float  # largest departure of one channel from that colour
    airlight: tuple[float, float]
    nearest: float  # relative depth of the lowest row; that of the highest is 1


_TINY = Flakes(5000, (0.6, 1.3), (0.6, 0.97), 2)

# Calibrated on photographs of 480 x 320. Mean PSNR of the luma, light, medium, heavy:
# rain 31.4, 27.2, 16.5 dB; snow 26.6, 23.2, 19.1 dB.
CLIMATES = {
    "rain": Climate(
        levels={
            "light": Level(0.0, (Streaks(6500, 16, 1.0, (0.1, 0.4)), Streaks(450, 30, 1.5, (0.2, 0.6)))),
            "medium": Level(0.07, (Streaks(4000, 22, 1.0, (0.1, 0.4)), Streaks(300, 36, 1.5, (0.2, 0.6)))),
            "heavy": Level(0.4, (Streaks(12000, 28, 1.0, (0.12, 0.4)), Streaks(6000, 44, 1.7, (0.2, 0.6)))),
        },
        brightness=(0.72, 0.97),
        colour=(1.0, 1.0),
        tint=0.0,
        airlight=(0.65, 0.92),
        nearest=0.35,
    ),
    "snow": Climate(
        levels={
            "light": Level(0.03, (_TINY, Flakes(600, (1.2, 2.5), (0.5, 0.95), 3))),
            "medium": Level(0.07, (_TINY, Flakes(350, (1.4, 3.5), (0.5, 0.95), 4))),
            "heavy": Level(
                0.23, (_TINY, Flakes(750, (1.6, 4), (0.5, 0.95), 4), Flakes(70, (4, 9), (0.3, 0.8), 7))
            ),
        },
        brightness=(1.0, 1.0),
        colour=(0.88, 0.98),
        tint=0.015,
        airlight=(0.72, 0.96),
        nearest=0.4,
    ),
}
WEATHERS = tuple(CLIMATES)
LEVELS = ("light", "medium", "heavy")


class Weather(NamedTuple):
    """What one background received; K levels in the order that was asked for."""

    degraded: np.ndarray  # (K, H, W, 3) float32 in [0, 1]
    opacity: np.ndarray  # (K, H, W) float32 in [0, 1]: the streak layer S, or the snow mask Z
    transmission: np.ndarray  # (K, H, W) float32 in (0, 1]: 1 where there is no veil


class _Scene(NamedTuple):
    slant: float  # of the fall, degrees from the vertical
    density: float  # factor on the number of particles
    scale: float  # factor on the length of streaks and smears
    haze: float  # factor on the strength of the veil
    brightness: float
    colour: np.ndarray  # (3,)
    airlight: float


def degrade(
    clean: np.ndarray,
    weather: str,
    levels: Sequence[str] = LEVELS,
    *,
    seed: int | Sequence[int],
    nested: bool = True,
    depth: np.ndarray | None = None,
) -> Weather:
    """Let it rain or snow on one clean photograph, once for every level.

    Composed in display-referred sRGB, as the published data sets are. Snow is I = J (1 - Z) + C Z with the
    mask Z and the snow's colour C (DesnowNet, Liu et al. 2018); rain is the screen blend
    I = 1 - (1 - J) (1 - S) of the streak layer S (ResDerainNet's recipe for Rain1400), which is the same
    formula with white. Then comes the veil I T + A (1 - T), T = exp(-beta d), with airlight A (Koschmieder).

    Args:
        clean: (H, W, 3) float32 in [0, 1], of any size.
        weather: one of `WEATHERS`.
        levels: some of `LEVELS`, in any order.
        seed: as of `numpy.random.default_rng`, for which zeros at the end do not count: (1, 0) is 1. The
            result depends on it and on the other arguments alone.
        nested: the levels share wind, colours, airlight and particles: medium is light plus more, heavy is
            medium plus more. Otherwise every level is a draw of its own. In both cases a level looks the same
            whichever other levels are asked for, and in whichever order.
        depth: relative depth d for the veil, float in [0, 1], (H,) or (H, W); by default `depth_ramp`. A crop
            takes the slice of its photograph's ramp.

    Raises:
        ManasError: unknown weather or level; wrong type, shape or range of `clean`, `seed` or `depth`.
    """
    climate = _climate(weather)
    _check_levels(levels)
    _check_image(clean)
    shape = clean.shape[:2]
    relative = _relative_depth(depth, shape, climate)
    draws = _draw(climate, shape, _seed_sequence(seed), nested, levels)
    scenes, particles = zip(*(draws[level] for level in levels), strict=True)
    opacity = _column(scene.brightness for scene in scenes) * (1 - np.exp(-np.stack(particles)))
    veils = (scene.haze * climate.levels[level].veil for scene, level in zip(scenes, levels, strict=True))
    transmission = np.exp(-_column(veils) * relative)
    return Weather(_compose(clean, scenes, opacity, transmission), opacity, transmission)


def depth_ramp(height: int, weather: str) -> np.ndarray:
    """Relative depth of the rows of a photograph, (height,) float32: 1 at the top, nearer towards the ground.

    Raises:
        ManasError: unknown weather, or a height below 1.
    """
    climate = _climate(weather)
    if height < 1:
        raise ManasError(f"height is {height}; give the number of rows of the photograph, at least 1")
    return np.linspace(1, climate.nearest, height, dtype=np.float32)


def _draw(climate, shape, seeds, nested, levels) -> dict[str, tuple[_Scene, np.ndarray]]:
    """Scene and optical depth (H, W) of every level that is wanted, and perhaps of others."""
    upto = {level: LEVELS[: LEVELS.index(level) + 1] for level in levels}
    if nested:
        return _accumulate(climate, shape, np.random.default_rng(seeds), max(upto.values(), key=len))
    streams = dict(zip(LEVELS, map(np.random.default_rng, seeds.spawn(len(LEVELS))), strict=True))
    return {level: _accumulate(climate, shape, streams[level], upto[level])[level] for level in upto}


def _accumulate(climate, shape, rng, levels) -> dict[str, tuple[_Scene, np.ndarray]]:
    """The levels of one scene, each of which adds its particles to those of the ones before."""
    scene = _scene(climate, rng)
    # One more pixel on each side takes the marks that fall outside of the image.
    canvas = np.zeros((shape[0] + 2, shape[1] + 2), np.float32)
    draws = {}
    for level in levels:
        for layer in climate.levels[level].added:
            for rows, columns, depth in layer.marks(shape, scene.slant, scene.density, scene.scale, rng):
                _stamp(canvas, rows, columns, depth)
        draws[level] = scene, canvas[1:-1, 1:-1].copy()
    return draws


def _stamp(canvas: np.ndarray, rows: np.ndarray, columns: np.ndarray, depth: np.ndarray) -> None:
    height, width = canvas.shape
    rows = np.clip(rows + 1, 0, height - 1).astype(np.intp)
    columns = np.clip(columns + 1, 0, width - 1).astype(np.intp)
    np.add.at(canvas.reshape(-1), (rows * width + columns).reshape(-1), depth.reshape(-1))


def _compose(clean, scenes, opacity, transmission) -> np.ndarray:
    """Blend all levels at once, as (K, H, 3 W): long rows are several times faster than rows of three."""
    height, width, _ = clean.shape
    clean = clean.reshape(height, 3 * width)
    colour = np.tile(np.stack([scene.colour for scene in scenes]), width)[:, None]  # (K, 1, 3 W)
    airlight = _column(scene.airlight for scene in scenes)
    # Written as clean + change, so that a pixel that nothing covers keeps its exact value.
    degraded = clean + (colour - clean) * np.repeat(opacity, 3, axis=2)
    degraded += (airlight - degraded) * np.repeat(1 - transmission, 3, axis=2)
    return np.clip(degraded, 0, 1, out=degraded).reshape(-1, height, width, 3)


def _column(values) -> np.ndarray:
    return np.array(list(values), np.float32)[:, None, None]  # (K, 1, 1)


def _scene(climate: Climate, rng: np.random.Generator) -> _Scene:
    colour = rng.uniform(*climate.colour) + climate.tint * rng.uniform(-1, 1, 3)
    return _Scene(
        slant=rng.uniform(-30, 30),
        density=rng.uniform(0.75, 1.25),
        scale=rng.uniform(0.8, 1.2),
        haze=rng.uniform(0.75, 1.25),
        brightness=rng.uniform(*climate.brightness),
        colour=colour.astype(np.float32),
        airlight=rng.uniform(*climate.airlight),
    )


def _climate(weather: str) -> Climate:
    if weather not in WEATHERS:
        raise ManasError(f"weather is {weather!r}; choose one of {', '.join(WEATHERS)}")
    return CLIMATES[weather]


def _check_levels(levels: Sequence[str]) -> None:
    names = levels if isinstance(levels, Sequence) and not isinstance(levels, str) else ()
    if not names or any(name not in LEVELS for name in names):
        raise ManasError(f"levels is {levels!r}; give a sequence of one or more of {', '.join(LEVELS)}")


def _check_image(clean: np.ndarray) -> None:
    if not isinstance(clean, np.ndarray) or clean.dtype != np.float32:
        found = getattr(clean, "dtype", type(clean).__name__)
        raise ManasError(f"clean is {found}; give a float32 array, 8-bit values divided by 255")
    if clean.ndim != 3 or clean.shape[2] != 3 or clean.size == 0:
        raise ManasError(f"clean has shape {clean.shape}; give (height, width, 3), at least 1 x 1")
    if not (clean.min() >= 0 and clean.max() <= 1):
        raise ManasError(f"clean ranges from {clean.min()} to {clean.max()}; scale it to [0, 1]")


def _relative_depth(depth: np.ndarray | None, shape: tuple[int, int], climate: Climate) -> np.ndarray:
    """Depth as (H, W)."""
    if depth is None:
        depth = np.linspace(1, climate.nearest, shape[0], dtype=np.float32)
    elif not isinstance(depth, np.ndarray) or depth.dtype.kind != "f" or depth.shape not in (shape, shape[:1]):
        found = f"{getattr(depth, 'dtype', type(depth).__name__)} of shape {np.shape(depth)}"
        raise ManasError(f"depth is {found}; give a float array of shape {shape[:1]} or {shape}")
    elif not (depth.min() >= 0 and depth.max() <= 1):
        raise ManasError(f"depth ranges from {depth.min()} to {depth.max()}; scale it to [0, 1]")
    return np.broadcast_to(depth.astype(np.float32).reshape(shape[0], -1), shape)


def _seed_sequence(seed: int | Sequence[int]) -> np.random.SeedSequence:
    values = [seed] if isinstance(seed, int | np.integer) else seed
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        values = []
    if len(values) == 0 or not all(isinstance(value, int | np.integer) and value >= 0 for value in values):
        raise ManasError(f"seed is {seed!r}; give a non-negative integer, or a sequence of them")
    return np.random.SeedSequence(seed)
