"""Evolution over one-shot weights: a baseline without architecture parameters.

The supernet is trained on uniformly sampled paths in every step (SPOS; Guo et al., ECCV 2020); then
regularised evolution (Real et al., AAAI 2019) looks for the path that restores held-out crops best.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from manas.architecture.forks import Fork, random_choices
from manas.cost.selection import comparable
from manas.errors import ManasError


class EvolutionConfig(BaseModel):
    """Configuration of regularised evolution.

    Attributes:
        paths: the most paths in a step, each on its part of the batch; as many as divide the batch.
        evaluations: number of architectures that are evaluated in all, with the weights of the supernet.
        population: number of architectures alive at a time.
        tournament: number of living architectures that are drawn; the best of them has the next child.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["evolution"] = "evolution"
    paths: int = Field(4, ge=1)
    evaluations: int = Field(200, ge=1)
    population: int = Field(20, ge=1)
    tournament: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> EvolutionConfig:
        if not self.tournament <= self.population <= self.evaluations:
            raise ManasError("evolution: tournament <= population <= evaluations must hold")
        return self


class Individual(NamedTuple):
    """An architecture and its score, which is higher the better it restores."""

    choices: dict[str, str]
    score: float


def _fitness(individual: Individual) -> float:
    return comparable(individual.score)


def evolve(
    config: EvolutionConfig,
    sample: Callable[[random.Random], dict[str, str]],
    mutate: Callable[[Mapping[str, str], random.Random], dict[str, str]],
    score: Callable[[Mapping[str, str]], float],
    *,
    seed: int,
) -> Individual:
    """Evolves architectures and returns the best that ever lived; the oldest one alive dies for each child.

    Args:
        sample: draws an architecture at random.
        mutate: changes an architecture at random.
        score: rates an architecture; higher is better.
    """
    rng = random.Random(seed)
    alive: deque[Individual] = deque(maxlen=config.population)  # a child drives out the oldest
    best: Individual | None = None
    for _ in range(config.evaluations):
        if len(alive) < config.population:
            choices = sample(rng)
        else:
            parent = max(rng.sample(list(alive), config.tournament), key=_fitness)
            choices = mutate(parent.choices, rng)
        alive.append(Individual(choices, score(choices)))
        best = max(best or alive[-1], alive[-1], key=_fitness)
    assert best is not None  # there is one evaluation at least
    return best


def mutated(forks: Sequence[Fork], choices: Mapping[str, str], rng: random.Random) -> dict[str, str]:
    """The architecture with another candidate at one fork; at forks that are new on its path, one is drawn."""
    on_path = {fork.label: fork for fork in _on_path(forks, choices)}
    open_labels = [label for label, fork in on_path.items() if len(fork.names) > 1]
    if not open_labels:
        return dict(choices)
    label = rng.choice(open_labels)
    other = rng.choice([name for name in on_path[label].names if name != choices[label]])
    return random_choices(forks, rng, {**choices, label: other})


def _on_path(forks: Sequence[Fork], choices: Mapping[str, str]) -> list[Fork]:
    inner = [f for fork in forks for f in _on_path(fork.inside[choices[fork.label]], choices)]
    return [*forks, *inner]
