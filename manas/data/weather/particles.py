"""How particles fall through one picture, and what they leave on it."""

from typing import NamedTuple

from torch import Tensor


class Fall(NamedTuple):
    """What the particles of one picture share."""

    slant: float = 0  # degrees from the vertical
    density: float = 1  # factor on the number of particles
    length: float = 1  # factor on the length of streaks and smears
    width: float = 1  # factor on the width of streaks and the radius of flakes
    scale: float = 1  # size of the picture, where 480 x 320 is 1; particles grow with it


class Marks(NamedTuple):
    """Optical depth at pixels, some of them outside of the picture; three tensors that broadcast together."""

    rows: Tensor
    columns: Tensor
    depth: Tensor
