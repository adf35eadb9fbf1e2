"""The tree of what can be decided in a space: forks, and the forks inside their candidates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fork:
    """One fork as `decide.Recorded` saw it.

    Attributes:
        label: the identity of the decision.
        inside: the names of its candidates, and the forks inside each.
        node: the label of the sum that its output enters, if it enters one.
    """

    label: str
    inside: Mapping[str, list[Fork]]
    node: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.inside)


def every_fork(forks: Iterable[Fork]) -> Iterator[Fork]:
    """The forks and those inside them, outer before inner."""
    for fork in forks:
        yield fork
        for inside in fork.inside.values():
            yield from every_fork(inside)


def nodes_of(forks: Iterable[Fork]) -> dict[str, tuple[str, ...]]:
    """Node -> the labels of its inputs, among the forks and those inside them."""
    nodes: dict[str, tuple[str, ...]] = {}
    for fork in every_fork(forks):
        if fork.node is not None:
            nodes[fork.node] = (*nodes.get(fork.node, ()), fork.label)
    return nodes


def random_choices(
    forks: Iterable[Fork], rng: random.Random, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The choices along one path: as given where they are given, drawn uniformly elsewhere."""
    choices: dict[str, str] = {}
    for fork in forks:
        name = (given or {}).get(fork.label) or rng.choice(fork.names)
        choices |= {fork.label: name} | random_choices(fork.inside[name], rng, given)
    return choices
