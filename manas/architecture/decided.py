"""A space whose forks are decided: a genotype where a space is expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from torch import nn

from manas.architecture.decide import Decide, Fixed
from manas.architecture.finding import AnySpace
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError


class Decided(SearchSpace):
    """One architecture of a space, without forks: so one tower of a network is searched, and another is given.

    In a configuration, the path of a genotype file stands for it, and so does ``genotype: path``.

    Attributes:
        space: the space that was searched.
        chosen: one path through it.
    """

    space: AnySpace
    chosen: dict[str, str]

    @classmethod
    def fields_from(cls, description: Mapping[str, Any], *, trusted: bool) -> Mapping[str, Any]:
        """Reads a genotype file that stands for both fields, where the description may name files."""
        match description:
            case {"genotype": str(path), **others} if not others:
                if not trusted:
                    raise ManasError(
                        f"a received file may not name another to read ({path!r}); give its space and choices"
                    )
                genotype = Genotype.read(path)
                return {"space": genotype.space, "chosen": dict(genotype.choices)}
        return description

    @model_validator(mode="after")
    def _one_path(self) -> Decided:
        self.space.check(self.chosen)
        return self

    def build(self, decide: Decide) -> nn.Module:
        """The network of the architecture; nothing is asked."""
        return self.space.build(Fixed(self.chosen))
