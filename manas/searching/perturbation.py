"""Selection by perturbation (DARTS-PT; Wang et al., ICLR 2021), which trusts the supernet and not the alphas.

Forks are decided one by one, in random order: the supernet restores held-out crops without each candidate in
turn, and the candidate without which it restores worst is kept. Then the supernet is trained a little with it.

At a fork without a zero the mixture is a mean of features, images or stitches, and candidates learn to make up
for each other in it: the worst of them by itself may be the one that is missed most. There, and this is ours,
each candidate restores in turn without the others, and the best is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from manas.architecture.choice import Choice
from manas.architecture.forks import Fork
from manas.architecture.weighting import Around
from manas.cost.knapsack import within
from manas.cost.selection import Allowance, comparable, unlimited
from manas.errors import ManasError
from manas.training.schedule import ScheduleConfig

Score = Callable[[Mapping[str, str], tuple[str, str] | None], float]


class PerturbationConfig(BaseModel):
    """Configuration of the selection by perturbation.

    Attributes:
        tune_steps: steps after each decision.
        alphas: whether the alphas of the forks that are still open ``learn`` in these steps, as published, or
            ``rest``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["perturbation"] = "perturbation"
    tune_steps: int = Field(10, ge=0)
    alphas: Literal["learn", "rest"] = "learn"

    @model_validator(mode="after")
    def _nothing_ignored(self) -> PerturbationConfig:
        if self.alphas == "rest" and not self.tune_steps:
            raise ManasError("without tune_steps no alpha can move, so alphas=rest has no effect; leave it out")
        return self


def tuning_factor(step: int, steps: int, floor: float) -> float:
    """The share of the base rate of the weights at a step of all tuning: a cosine from a tenth, as published.

    Args:
        floor: the share at which the search has ended, and the tuning ends; a tenth at most.
    """
    return ScheduleConfig(warmup=0, floor=min(1.0, 10 * floor)).factor(step, steps) / 10


@dataclass(frozen=True)
class Projected(Around):
    """A relaxation in which some choices are decided, and one candidate beside a zero may be missing.

    The weights of the other candidates are not raised when one is missing.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, str] | None = None

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        weights = self.of.weights(choice) if choice.label not in self.kept else {}
        if not weights:
            return {self.kept[choice.label]: choice.alpha.new_ones(())}
        return {name: weight for name, weight in weights.items() if (choice.label, name) != self.missing}


def select_by_perturbation(
    forks: Sequence[Fork],
    score: Score,
    tune: Callable[[Mapping[str, str]], None],
    *,
    seed: int,
    allowance: Allowance | None = None,
    decided: Callable[[str, str], None] = lambda label, name: None,
) -> dict[str, str]:
    """The choices without which the supernet restores worst, and at forks without a zero best by themselves.

    Args:
        forks: the outermost forks of the space.
        score: rates the restorations of the supernet (higher is better) with some choices made, and without one
            candidate (label, name) of another fork or with all.
        tune: trains the supernet with the choices kept so far.
        seed: seed of the order of the forks.
        allowance: limits on the cost of the architecture, if there are any.
        decided: called with the label and the name of every decision.
    """
    kept: dict[str, str] = {}
    order, allowance = random.Random(seed), allowance or unlimited(forks)
    pending = list(forks)
    while pending:
        fork = pending.pop(order.randrange(len(pending)))
        allowed = _allowed(fork, kept, allowance)
        kept[fork.label] = _best(fork, allowed, kept, score) if len(allowed) > 1 else allowed[0]
        pending += fork.inside[kept[fork.label]]  # forks inside a candidate stand open once it is chosen
        decided(fork.label, kept[fork.label])
        tune(kept)
    return kept


def _best(fork: Fork, allowed: Sequence[str], kept: Mapping[str, str], score: Score) -> str:
    """The candidate that is missed most beside a zero; without a zero the best by itself."""
    if fork.zero is None:
        alone = {name: comparable(score({**kept, fork.label: name}, None)) for name in allowed}
        return max(allowed, key=alone.__getitem__)
    without = {name: comparable(score(kept, (fork.label, name))) for name in allowed}
    return min(allowed, key=without.__getitem__)


def _allowed(fork: Fork, kept: Mapping[str, str], allowance: Allowance) -> list[str]:
    """The candidates of a fork with which some architecture feeds its nodes and is within the allowance.

    All candidates, where no architecture can feed a node.
    """
    table, limit, spend = allowance
    uniform = {label: dict.fromkeys(of.names, 1.0) for label, of in table.forks.items()}
    completions = {name: within(*allowance, uniform, {**kept, fork.label: name}) for name in fork.names}
    costs = {name: table.exact(choices) for name, choices in completions.items() if choices}
    return [name for name, cost in costs.items() if cost >= spend * limit] or list(costs) or list(fork.names)
