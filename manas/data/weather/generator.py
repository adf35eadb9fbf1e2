"""Weather on clean photographs, as arrays or as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from manas.data.weather.canvas import rasterise
from manas.data.weather.climates import LEVELS
from manas.data.weather.scene import Look, Seed, climates_of, depth_ramp, drawn, scale_of
from manas.errors import ManasError


class Weather(NamedTuple):
    """The weather on one background, at K levels in the order asked for.

    Attributes:
        degraded: (K, H, W, 3) float32 in [0, 1], the degraded pictures.
        opacity: (K, H, W) float32 in [0, 1], the streak layer S, or the snow mask Z.
        transmission: (K, H, W) float32 in (0, 1], which is 1 without a veil.
    """

    degraded: np.ndarray
    opacity: np.ndarray
    transmission: np.ndarray


class WeatherBatch(NamedTuple):
    """The weather on B backgrounds, on their device; the values are those of `Weather`."""

    degraded: Tensor  # (B, K, 3, H, W)
    opacity: Tensor  # (B, K, H, W)
    transmission: Tensor  # (B, K, H, W)


def degrade(
    clean: np.ndarray,
    weather: str,
    levels: Sequence[str] = LEVELS,
    *,
    seed: Seed,
    family: str | None = None,
    nested: bool = True,
    depth: np.ndarray | None = None,
    scale: float | None = None,
) -> Weather:
    """Lets it rain or snow on one clean photograph J, once for every level.

    The picture I is composed in display-referred sRGB, as in the published data sets: I = J + S C (1 - k J) for
    rain and I = J (1 - S) + C S for snow, with the layer S of streaks or flakes and their colour C. Rain with
    k = 1 is the screen blend (ResDerainNet's recipe for Rain1400), and with k = 0 the addition of Rain100L and
    Rain100H, clipped at white; snow is the formula of DesnowNet (Liu et al. 2018). Then comes the veil
    I T + A (1 - T), T = exp(-beta d), with airlight A (Koschmieder). The "weather" noise adds white Gaussian
    noise instead, clipped at black and white.

    Args:
        clean: (H, W, 3) float32 in [0, 1], of any size.
        weather: one of `WEATHERS`.
        levels: some of `LEVELS`, in any order.
        seed: a seed of `numpy.random.default_rng`, which ignores zeros at the end: (1, 0) is 1. The result
            depends on the seed and the other arguments alone.
        family: of rain, ``falling`` has streaks of about one direction, ``crossing`` has layers of streaks of
            several, as in Rain100H. Of snow, ``falling`` has flakes that can be counted, ``storm`` fine ones
            that cannot, and large ones out of focus, as in Snow100K. With ``mixed``, each scene draws one of
            the weather's families. The first, ``falling``, unless given.
        nested: whether the levels share wind, colours, airlight and particles: medium is light plus more, heavy
            is medium plus more. Otherwise every level is drawn anew. In both cases a level does not depend on
            which other levels are asked for, nor on their order.
        depth: relative depth d for the veil, float in [0, 1], (H,) or (H, W); by default `depth_ramp`. A crop
            takes the slice of its photograph's ramp.
        scale: size of the particles, which is 1 on a picture of 480 x 320; by default `scale_of` the size of
            `clean`. A crop takes the scale of its photograph.

    Raises:
        ManasError: for an unknown weather, family or level, or a wrong type, shape or range of another
            argument.
    """
    _check_array(clean, depth)
    batch = degrade_batch(
        torch.from_numpy(clean.transpose(2, 0, 1).copy())[None],
        weather,
        levels,
        seeds=[seed],
        family=family,
        nested=nested,
        depth=None if depth is None else torch.from_numpy(depth.astype(np.float32))[None],
        scale=scale,
    )
    degraded = batch.degraded[0].permute(0, 2, 3, 1).contiguous()
    return Weather(degraded.numpy(), batch.opacity[0].numpy(), batch.transmission[0].numpy())


def degrade_batch(
    clean: Tensor,
    weather: str,
    levels: Sequence[str] = LEVELS,
    *,
    seeds: Sequence[Seed],
    family: str | None = None,
    nested: bool = True,
    depth: Tensor | None = None,
    scale: float | None = None,
) -> WeatherBatch:
    """Lets it rain or snow on B photographs of one size at once, on their device; see `degrade`.

    Args:
        clean: (B, 3, H, W) float32 in [0, 1].
        seeds: one a photograph, whose weather is that of `degrade` with the same seed, but for rounding.
        depth: (B, H) or (B, H, W) in [0, 1].

    Raises:
        ManasError: as `degrade` does, or if the number of seeds is not that of the photographs.
    """
    climates = climates_of(weather, family)
    _check_levels(levels)
    _check_planes(clean, seeds, depth, scale)
    shape = (clean.shape[2], clean.shape[3])
    scale = scale_of(*shape) if scale is None else scale
    draws = [drawn(climates, levels, seed=seed, nested=nested, shape=shape, scale=scale) for seed in seeds]
    particles = rasterise([layers for _, layers in draws], shape, clean.device)
    particles = particles.cumsum(1) if nested else particles  # (B, all levels, H, W)
    if depth is None:
        depth = torch.from_numpy(depth_ramp(shape[0], weather)).to(clean.device)[None]
    relative = depth.reshape(*depth.shape[:2], -1)[:, None]  # (B or 1, 1, H, W or 1)
    places = [LEVELS.index(level) for level in levels]
    return _compose(clean, [scenes for scenes, _ in draws], levels, particles[:, places], relative)


def _compose(
    clean: Tensor, scenes: list[list[Look]], levels: Sequence[str], particles: Tensor, relative: Tensor
) -> WeatherBatch:
    """Composes layers over backgrounds (B, 3, H, W); `scenes` are B lists of K, `particles` (B, K, H, W)."""

    def each(value: Callable[[Look, str], float | np.ndarray]) -> Tensor:
        rows = [[value(scene, level) for scene, level in zip(row, levels, strict=True)] for row in scenes]
        return torch.tensor(np.array(rows, np.float32), device=clean.device)  # (B, K) or (B, K, 3)

    opacity = each(lambda scene, _: scene.brightness)[..., None, None] * -torch.expm1(-particles)
    transmission = torch.exp(-each(lambda scene, level: scene.veil(level))[..., None, None] * relative)
    transmission = transmission.expand_as(opacity).contiguous()
    colour, held = each(lambda scene, _: scene.colour), each(lambda scene, _: scene.held)  # (B, K, 3)
    airlight = each(lambda scene, _: scene.airlight)[..., None, None, None]
    background = clean[:, None]  # (B, 1, 3, H, W)
    # Written as background + change, so that a pixel that nothing covers keeps its exact value.
    change = colour[..., None, None] - held[..., None, None] * background
    degraded = change.mul_(opacity[:, :, None]).add_(background)
    degraded += (airlight - degraded).mul_(1 - transmission[:, :, None])
    for of_background, row in zip(degraded, scenes, strict=True):
        for image, scene, level in zip(of_background, row, levels, strict=True):
            if scene.grain is not None:
                image += scene.noise(level) * torch.from_numpy(scene.grain).to(clean.device)
    return WeatherBatch(degraded.clamp_(0, 1), opacity, transmission)


def _check_levels(levels: Sequence[str]) -> None:
    names = levels if isinstance(levels, Sequence) and not isinstance(levels, str) else ()
    if not names or any(name not in LEVELS for name in names):
        raise ManasError(f"levels is {levels!r}; give a sequence of one or more of {', '.join(LEVELS)}")


def _check_array(clean: np.ndarray, depth: np.ndarray | None) -> None:
    if not isinstance(clean, np.ndarray) or clean.dtype != np.float32:
        kind = getattr(clean, "dtype", type(clean).__name__)
        raise ManasError(f"clean is {kind}; give a float32 array, 8-bit values divided by 255")
    if clean.ndim != 3 or clean.shape[2] != 3 or clean.size == 0:
        raise ManasError(f"clean has shape {clean.shape}; give (height, width, 3), at least 1 x 1")
    shapes = clean.shape[:1], clean.shape[:2]
    if depth is None or isinstance(depth, np.ndarray) and depth.dtype.kind == "f" and depth.shape in shapes:
        return
    description = f"{getattr(depth, 'dtype', type(depth).__name__)} of shape {np.shape(depth)}"
    raise ManasError(f"depth is {description}; give a float array of shape {shapes[0]} or {shapes[1]}")


def _check_planes(clean: Tensor, seeds: Sequence[Seed], depth: Tensor | None, scale: float | None) -> None:
    if clean.dtype != torch.float32 or clean.ndim != 4 or clean.shape[1] != 3 or clean.numel() == 0:
        description = f"{clean.dtype} of shape {tuple(clean.shape)}"
        raise ManasError(f"clean is {description}; give float32 of (photographs, 3, height, width)")
    if len(seeds) != len(clean):
        raise ManasError(f"{len(seeds)} seeds for {len(clean)} photographs; give one for each")
    _check_range("clean", clean)
    if depth is not None:
        if depth.shape not in (clean[:, 0, :, 0].shape, clean[:, 0].shape):
            raise ManasError(f"depth has shape {tuple(depth.shape)}; give (photographs, height[, width])")
        _check_range("depth", depth)
    if scale is not None and not 0 < scale < float("inf"):
        raise ManasError(f"scale is {scale}; give a positive number, 1 for a picture of 480 x 320")


def _check_range(name: str, values: Tensor) -> None:
    low, high = (float(value) for value in values.aminmax())
    if not (low >= 0 and high <= 1):
        raise ManasError(f"{name} ranges from {low} to {high}; scale it to [0, 1]")
