"""How a space draws its architectures: the contract of what packages enter under `manas.drawings`."""

from __future__ import annotations

from typing import NamedTuple

from manas.architecture.genotype import Genotype
from manas.architecture.registry import class_of, kind_of, registered
from manas.architecture.space import SearchSpace
from manas.reporting.drawing.sheet import SIGN, Sheet, shortened
from manas.restoration.network import RestorationSpace

DRAWINGS = "manas.drawings"  # the group of entry points; a name in it is the kind of a space


class Sign(NamedTuple):
    """How a candidate is shown where there is little room: by a short name, and by a colour."""

    name: str
    colour: str


class Drawing:
    """Base class of drawings; `draw` is the one method to write.

    It draws the architectures of the space whose kind is its entry point's name, and those of restoration
    spaces whose towers all are of that kind. The title of the figure is drawn already.
    """

    def draw(self, sheet: Sheet, genotype: Genotype, top: float) -> float:
        """Draws an architecture from `top` downwards and returns where it ends, in units of the sheet."""
        raise NotImplementedError(f"{type(self).__name__} does not define draw(sheet, genotype, top)")

    def width(self, genotype: Genotype) -> float:
        """Units that it needs from left to right; a sheet is at least as wide as a column of a paper."""
        return 0

    def can_draw(self, genotype: Genotype) -> bool:
        """Whether it knows this architecture; one that it does not know is drawn as a box for every fork."""
        return True

    def sign(self, candidate: str) -> Sign:
        """How a candidate is shown in the curves of a search: its own name on grey, unless overridden."""
        return Sign(shortened(candidate, SIGN), "#eeeeee")


def drawing_of(space: SearchSpace) -> Drawing | None:
    """The drawing that is entered for a space; None where there is none.

    It is that of its kind, or of the nearest class that it extends; for a restoration space also that which
    all of its towers share.

    Raises:
        ManasError: for an entry that is no `Drawing`.
    """
    found = _entered(type(space))
    if found is None and isinstance(space, RestorationSpace):
        shared = {_entered(type(tower)) for tower in space.towers.values()}
        found = shared.pop() if len(shared) == 1 else None
    return found() if found else None


def _entered(space: type[SearchSpace]) -> type[Drawing] | None:
    known = registered(DRAWINGS)
    kinds = (kind_of(each) for each in space.__mro__ if issubclass(each, SearchSpace))
    kind = next((kind for kind in kinds if kind in known), None)
    return class_of(kind, Drawing, group=DRAWINGS, noun="drawing", trusted=False) if kind else None
