"""Pictures of the difference that restoring made to a picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from manas.data.images import to_eight_bits

GAP = 8  # pixels of white between input and output
AMPLIFICATION = 2

_ROWS = 512  # at a time, so that a large picture is never a second time in memory in a wider type


def side_by_side(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Input | restored: two pictures (H, W, 3) -> (H, 2 W + `GAP`, 3) uint8."""
    gap = np.full((len(before), GAP, 3), 255, np.uint8)
    return np.hstack([_eight_bits(before), gap, _eight_bits(after)])


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """All that was removed: `AMPLIFICATION` times input - restored about a grey of 128: (H, W, 3) uint8.

    Signed, so that it tells a streak that is taken away (light) from detail that is made up (dark), and by a
    fixed factor, so that two models can be compared.
    """
    removed = np.empty(before.shape, np.uint8)
    for start in range(0, len(before), _ROWS):
        rows = slice(start, start + _ROWS)
        signed = _eight_bits(before[rows]).astype(np.int16) - _eight_bits(after[rows])
        removed[rows] = np.clip(AMPLIFICATION * signed + 128, 0, 255)
    return removed


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return to_eight_bits(pixels) if pixels.dtype == np.uint16 else pixels


VIEWS = {"compare": side_by_side, "difference": difference}


def beside(target: Path, views: Iterable[str]) -> dict[str, Path]:
    """Where the views of a restored picture go: a.jpg -> {"compare": a.jpg.compare.png}.

    The suffix stays in the name, since a.png may lie there too.
    """
    return {view: target.with_name(f"{target.name}.{view}.png") for view in views}


def is_view(path: Path) -> bool:
    """Whether a file is called as a view of a picture that lies beside it."""
    name, _, view = path.stem.rpartition(".")
    return bool(name) and path.suffix == ".png" and view in VIEWS and path.with_name(name).is_file()
