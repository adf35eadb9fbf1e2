"""The stitches of a network in numbers: the share that each tower takes of every tower's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
from torch import nn

from manas.restoration.cross_stitch import StitchMatrices
from manas.restoration.network import RestorationNetwork
from manas.restoration.tower import Tower

SHARED = "shared"  # the place of matrices that several stages have in common


class Stitches(NamedTuple):
    """The values of the stitch matrices at one time.

    Attributes:
        tasks: the tasks of the towers, in the order of rows and columns.
        matrices: by the place of the stitch, ``stage0`` or ``shared``, a list with one (T, T) float64 a scale.
            Row i holds the shares that tower i takes of each tower; if every channel has a matrix, it is their
            mean.
        channelwise: whether a matrix is such a mean.
        shuffle: the factor by which the features of scale 0 are smaller than the image.
    """

    tasks: tuple[str, ...]
    matrices: Mapping[str, list[np.ndarray]]
    channelwise: bool
    shuffle: int = 1

    @property
    def values(self) -> dict[str, float]:
        """All entries by name, such as ``stitch/stage0/scale0/derain<-desnow``."""
        return {
            f"stitch/{place}/scale{scale}/{to}<-{of}": float(matrix[i, j])
            for place, by_scale in self.matrices.items()
            for scale, matrix in enumerate(by_scale)
            for i, to in enumerate(self.tasks)
            for j, of in enumerate(self.tasks)
        }


def stitches_of(network: nn.Module) -> Stitches | None:
    """The stitches of a derived network that training changes; None if it has none."""
    if not isinstance(network, RestorationNetwork):
        return None
    stitches = [cast(StitchMatrices, stitch) for stitch in network.stitches]
    places = {index: f"stage{place}" for place, index in network.stitch_after.items()}
    if len(network.stitch_after) > len(stitches):
        places = dict.fromkeys(places, SHARED)
    learned = {places[index]: list(stitch.matrices) for index, stitch in enumerate(stitches) if stitch.matrices}
    if not learned:
        return None
    means = {
        place: [matrix.detach().double().mean(-1).cpu().numpy() for matrix in by_scale]
        for place, by_scale in learned.items()
    }
    channelwise = any(matrix.shape[-1] > 1 for by_scale in learned.values() for matrix in by_scale)
    shuffle = max(cast(Tower, tower).shuffle for tower in network.towers.values())
    return Stitches(tuple(network.towers), means, channelwise, shuffle)
