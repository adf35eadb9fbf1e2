"""The answers that a space may get when it asks `decide` at a fork.

A space builds its network by calling ``decide(label, candidates)`` at every fork, where `candidates` maps the
name of each candidate to a function without arguments that builds it. `decide` is a handler in the sense of
Pyro and NumPyro: the space is a program with named sites, and each handler below is another way to run it.

- `Relaxed` keeps all candidates of every site, mixed by weights that are learned: the supernet.
- `Fixed` runs the program with a given value at every site, as ``substitute`` does: the derived network.
- `Replayed` asks a function for the value of each site and remembers the path, as ``replay`` and ``seed`` do.
- `Recorded` remembers the sites and builds nothing that is kept, as ``trace`` does: what can be chosen. Since
  it has no values to follow, it enters every candidate, and its trace is a tree.
- `prefixed` gives the sites of a program inside a program names of their own, as ``scope`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from manas.architecture.choice import Choice, Weighting
from manas.architecture.forks import Fork
from manas.errors import ManasError, nearest

Candidates = Mapping[str, Callable[[], nn.Module]]


class Decide(Protocol):
    """The question that a space asks at every fork."""

    def __call__(
        self, label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        """The module that stands at the fork.

        Args:
            label: the identity of the decision, which is asked for once.
            candidates: what may stand there, by name; called only by an answer that wants it built.
            node: the label of the sum that the output of the fork enters, if it enters one. Forks of one node
                are its inputs, and no network is derived in which all of them are zero.
            zero: the candidate whose output is zero whatever its input, if there is one. A name says nothing:
                the mixture at a fork that says no zero is a weighted mean.
        """


NAME = re.compile(r"[a-z0-9_]+")
RESERVED = frozenset(dir(nn.ModuleDict()))


def is_name(name: str) -> bool:
    """Whether candidates and tasks may be called so: lower case, digits and _, no attribute of ModuleDict."""
    return bool(NAME.fullmatch(name)) and name not in RESERVED


class Relaxed:
    """Answers every fork with a `Choice`: the supernet."""

    def __init__(self, relaxation: Weighting, *, recompute: bool = False):
        self.relaxation, self.recompute = relaxation, recompute

    def __call__(
        self, label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        built = {name: build() for name, build in candidates.items()}
        return Choice(label, built, self.relaxation, zero=zero, recompute=self.recompute)


class Replayed:
    """Answers every fork with the candidate that `pick(label, names)` names, and remembers the path.

    Attributes:
        choices: label -> name of every fork that was reached.
    """

    def __init__(self, pick: Callable[[str, tuple[str, ...]], str]):
        self.pick = pick
        self.choices: dict[str, str] = {}

    def __call__(
        self, label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        if label in self.choices:
            raise ManasError(f"the space asks for the label {label!r} twice; a label is one decision")
        name = self.pick(label, tuple(candidates))
        self.choices[label] = name
        return candidates[name]()


class Fixed(Replayed):
    """Answers every fork with the one chosen candidate: the derived network.

    Raises:
        ManasError: at a fork without a choice, or whose choice is not among its candidates.
    """

    def __init__(self, choices: Mapping[str, str]):
        def pick(label: str, names: tuple[str, ...]) -> str:
            if label not in choices:
                raise ManasError(f"no choice for {label!r}; add one of: {', '.join(names)}")
            if choices[label] not in names:
                hint = nearest(str(choices[label]), names)
                raise ManasError(f"{label!r} has no candidate {choices[label]!r}; {hint}")
            return choices[label]

        super().__init__(pick)
        self._given = choices

    def require_all_used(self) -> None:
        """Raises a `ManasError` that names a choice which no fork asked for."""
        for label in self._given:
            if label not in self.choices:
                raise ManasError(f"no fork {label!r} is reached in this space; {nearest(label, self.choices)}")


@dataclass
class Recorded:
    """Builds every candidate only to find the forks inside it; remembers them as a tree.

    Attributes:
        forks: the outermost forks in the order in which they were asked for.
    """

    forks: list[Fork] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def __call__(
        self, label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        if label in self._seen:
            raise ManasError(f"the space asks for the label {label!r} twice; a label is one decision")
        if not candidates:
            raise ManasError(f"the fork {label!r} has no candidates; give it at least one")
        for name in candidates:
            if not is_name(name):
                raise ManasError(
                    f"the fork {label!r} has a candidate {name!r}; use lower-case letters, digits and _, and "
                    "no name of an attribute of torch's ModuleDict"
                )
        if zero is not None and zero not in candidates:
            raise ManasError(
                f"the fork {label!r} has no candidate {zero!r} to be its zero; {nearest(zero, candidates)}"
            )
        self._seen.add(label)
        inside = {name: self._inside(build) for name, build in candidates.items()}
        self.forks.append(Fork(label, inside, node, zero))
        return nn.Module()

    def _inside(self, build: Callable[[], nn.Module]) -> list[Fork]:
        outer, self.forks = self.forks, []
        build()
        inner, self.forks = self.forks, outer
        return inner


def prefixed(decide: Decide, prefix: str) -> Decide:
    """The same answers for a space inside a space: its labels and nodes begin with ``prefix/``."""

    def answer(
        label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        return decide(f"{prefix}/{label}", candidates, node and f"{prefix}/{node}", zero)

    return answer
