"""The geometric self-ensemble: eight turned and mirrored versions of an image (EDSR, CVPRW 2017)."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from torch import Tensor


class Turn(NamedTuple):
    """One of the symmetries of the square, for images (..., H, W): transposed first, then mirrored."""

    transpose: bool = False
    upside_down: bool = False
    left_right: bool = False

    def of(self, image: Tensor) -> Tensor:
        """The turned image."""
        return self._mirror(image.mT if self.transpose else image)

    def undo(self, image: Tensor) -> Tensor:
        """The image that this turn has turned into the one given."""
        mirror_image = self._mirror(image)
        return mirror_image.mT if self.transpose else mirror_image

    def part(self, rows: slice, columns: slice, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns in the turned image of a part of an image of that size."""
        if self.transpose:
            rows, columns, height, width = columns, rows, width, height
        return (
            _mirror(rows, height) if self.upside_down else rows,
            _mirror(columns, width) if self.left_right else columns,
        )

    def _mirror(self, image: Tensor) -> Tensor:
        axes = [axis for axis, wanted in ((-2, self.upside_down), (-1, self.left_right)) if wanted]
        return image.flip(axes) if axes else image


NO_TURN = Turn()
ALL_TURNS = tuple(Turn(*each) for each in product((False, True), repeat=3))


def _mirror(part: slice, side: int) -> slice:
    return slice(side - part.stop, side - part.start)
