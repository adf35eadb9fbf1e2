"""A space whose forks are decided: a genotype where a space is expected."""

from __future__ import annotations

from pydantic import model_validator
from torch import nn

from manas.architecture.choice import Decide, Fixed
from manas.architecture.finding import AnySpace
from manas.architecture.space import SearchSpace


class Decided(SearchSpace):
    """One architecture of a space, without forks: so one tower of a network is searched, and another is given.

    In a configuration, the path of a genotype file stands for it.

    Attributes:
        space: the space that was searched.
        chosen: one path through it.
    """

    space: AnySpace
    chosen: dict[str, str]

    @model_validator(mode="after")
    def _one_path(self) -> Decided:
        self.space.check(self.chosen)
        return self

    def build(self, decide: Decide) -> nn.Module:
        """The network of the architecture; nothing is asked."""
        return self.space.build(Fixed(self.chosen))
