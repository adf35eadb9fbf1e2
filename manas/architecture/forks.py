"""The tree of what can be decided in a space: forks, and the forks inside their candidates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fork:
    """One fork as `choice.Recorded` saw it: the names of its candidates, and the forks inside each."""

    label: str
    inside: Mapping[str, list[Fork]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.inside)


def every_fork(forks: Iterable[Fork]) -> Iterator[Fork]:
    """The forks and those inside them, outer before inner."""
    for fork in forks:
        yield fork
        for inside in fork.inside.values():
            yield from every_fork(inside)


def drawn(forks: Iterable[Fork], rng: random.Random, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The choices along one path: as given where they are given, drawn uniformly elsewhere."""
    choices: dict[str, str] = {}
    for fork in forks:
        name = (given or {}).get(fork.label) or rng.choice(fork.names)
        choices |= {fork.label: name} | drawn(fork.inside[name], rng, given)
    return choices
