"""The tree of what can be decided in a space: forks, and the forks inside their candidates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from manas.errors import ManasError


@dataclass(frozen=True)
class Fork:
    """One fork as `decide.Recorded` saw it.

    Attributes:
        label: the identity of the decision.
        inside: the names of its candidates, and the forks inside each.
        node: the label of the sum that its output enters, if it enters one.
        zero: the name of the candidate whose output is zero whatever its input, if there is one.
    """

    label: str
    inside: Mapping[str, list[Fork]]
    node: str | None = None
    zero: str | None = None

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


def zeros_of(forks: Iterable[Fork]) -> dict[str, str]:
    """Label -> the candidate that is zero, of the forks and those inside them that have one."""
    return {fork.label: fork.zero for fork in every_fork(forks) if fork.zero is not None}


def check_nodes(forks: Sequence[Fork]) -> None:
    """Raises a `ManasError` for a node without an input that can be zero, since nothing has to keep it fed."""
    zeros = zeros_of(forks)
    for node, inputs in nodes_of(forks).items():
        if zeros.keys().isdisjoint(inputs):
            raise ManasError(
                f"no input of the node {node!r} can be zero, so that naming the node has no effect; say "
                "decide(..., zero=...) with the candidate that is zero, whatever its name, or leave node out"
            )


def random_choices(
    forks: Iterable[Fork], rng: random.Random, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The choices along one path: as given where they are given, drawn uniformly elsewhere."""
    choices: dict[str, str] = {}
    for fork in forks:
        name = (given or {}).get(fork.label) or rng.choice(fork.names)
        choices |= {fork.label: name} | random_choices(fork.inside[name], rng, given)
    return choices
