"""The canvas: layers of particles become the optical depth of every level, on any device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from manas.data.weather.climates import LEVELS
from manas.data.weather.particles import Marks
from manas.data.weather.scene import Layer

_AT_ONCE = 1 << 15  # particles at a time on a device without a processor's cache to stay within


def rasterise(layers_of: Sequence[Sequence[Layer]], shape: tuple[int, int], device: torch.device) -> Tensor:
    """The optical depth (B, len(LEVELS), H, W) of the layers of B photographs, one kind at a time."""
    # One more pixel on each side takes the marks outside the image, so that no mark needs a test.
    canvases = torch.zeros(len(layers_of) * len(LEVELS), shape[0] + 2, shape[1] + 2, device=device)
    by_kind = defaultdict(list)
    for index, layers in enumerate(layers_of):
        for layer in layers:
            canvas = index * len(LEVELS) + LEVELS.index(layer.level)
            by_kind[layer.level, layer.kind].append((np.full(len(layer.particles), canvas), layer.particles))
    for (_, kind), parts in by_kind.items():
        places, particles = (np.concatenate(each) for each in zip(*parts, strict=True))
        size = kind.at_once if device.type == "cpu" else _AT_ONCE
        for start in range(0, len(particles), size):
            batch = slice(start, start + size)
            marks = kind.marks(particles[batch], device)
            _stamp(canvases, torch.from_numpy(places[batch]).to(device), marks)
    return canvases[:, 1:-1, 1:-1].reshape(len(layers_of), len(LEVELS), *shape)


def _stamp(canvases: Tensor, places: Tensor, marks: Marks) -> None:
    _, height, width = canvases.shape
    rows = (marks.rows + 1).clamp_(0, height - 1).long() + (places * height)[:, None, None]
    columns = (marks.columns + 1).clamp_(0, width - 1).long()
    canvases.view(-1).scatter_add_(0, (rows * width + columns).reshape(-1), marks.depth.reshape(-1))
