"""The fall of particles through one picture, and their marks on it."""

from typing import NamedTuple

from torch import Tensor


class Fall(NamedTuple):
    """The properties that all particles of one picture share.

    Attributes:
        slant: degrees from the vertical.
        density: factor on the number of particles.
        length: factor on the length of streaks and smears.
        width: factor on the width of streaks and the radius of flakes.
        scale: size of the picture, where 480 x 320 is 1; particles grow with it.
    """

    slant: float = 0
    density: float = 1
    length: float = 1
    width: float = 1
    scale: float = 1


class Marks(NamedTuple):
    """Optical depth at pixels, some of them outside the picture; three tensors that broadcast together."""

    rows: Tensor
    columns: Tensor
    depth: Tensor
