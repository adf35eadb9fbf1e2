"""Augmentations of crops by symmetries of the square.

Weather falls. A photograph may be turned before weather is generated on it. A pair may be mirrored left to
right, but not turned on its side: its rain would fall sideways, and no picture to restore looks like that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

Augment = Literal["mirror", "eightfold", "none"]
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def mirror(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors all images (N, P, P, 3) left to right, or none of them, each half of the time."""
    return np.ascontiguousarray(images[:, :, ::-1]) if rng.random() < 0.5 else images


def eightfold(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Applies one of the eight symmetries of the square, the same to all images (N, P, P, 3)."""
    transpose, flip_rows, flip_columns = rng.random(3) < 0.5
    images = images.swapaxes(1, 2) if transpose else images
    images = images[:, ::-1] if flip_rows else images
    return np.ascontiguousarray(images[:, :, ::-1] if flip_columns else images)


def none(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the images as they are, without a random draw."""
    return images


AUGMENTATIONS: Mapping[Augment, Augmentation] = {"mirror": mirror, "eightfold": eightfold, "none": none}
