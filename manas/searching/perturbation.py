"""Selection by perturbation (DARTS-PT; Wang et al., ICLR 2021), which trusts the supernet and not the alphas.

Forks are decided one by one, in random order: the supernet restores held-out crops without each candidate in
turn, and the candidate without which it restores worst is kept. Then the supernet is trained a little with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from manas.architecture.choice import Choice
from manas.architecture.forks import Fork, nodes_of
from manas.architecture.weighting import NONE, Around
from manas.cost.knapsack import within
from manas.cost.selection import Allowance, comparable
from manas.errors import ManasError
from manas.training.schedule import ScheduleConfig


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
    """A relaxation in which some choices are decided, and one candidate may be missing.

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
    score: Callable[[Mapping[str, str], tuple[str, str]], float],
    tune: Callable[[Mapping[str, str]], None],
    *,
    seed: int,
    allowance: Allowance | None = None,
    decided: Callable[[str, str], None] = lambda label, name: None,
) -> dict[str, str]:
    """The choices without which the supernet restores worst.

    Args:
        forks: the outermost forks of the space.
        score: rates the restorations of the supernet (higher is better), with the choices kept so far and
            without one candidate (label, name).
        tune: trains the supernet with the choices kept so far.
        seed: seed of the order of the forks.
        decided: called with the label and the name of every decision.
    """
    kept: dict[str, str] = {}
    order = random.Random(seed)
    siblings = {label: inputs for inputs in nodes_of(forks).values() for label in inputs}
    pending = list(forks)
    while pending:
        fork = pending.pop(order.randrange(len(pending)))
        allowed = _allowed(fork, kept, siblings.get(fork.label, ()), allowance)
        without = {name: score(kept, (fork.label, name)) for name in allowed} if len(allowed) > 1 else {}
        kept[fork.label] = min(without, key=lambda name: comparable(without[name])) if without else allowed[0]
        pending += fork.inside[kept[fork.label]]  # forks inside a candidate stand open once it is chosen
        decided(fork.label, kept[fork.label])
        tune(kept)
    return kept


def _allowed(
    fork: Fork, kept: Mapping[str, str], siblings: Sequence[str], allowance: Allowance | None
) -> list[str]:
    """The candidates of a fork that leave its node an input and some architecture within the allowance."""
    others = [kept.get(label) for label in siblings if label != fork.label]
    last_input = bool(siblings) and all(other == NONE for other in others)
    names = [name for name in fork.names if not (last_input and name == NONE)] or list(fork.names)
    if allowance is None:
        return names
    table, limit, spend = allowance
    uniform = {label: dict.fromkeys(of.names, 1.0) for label, of in table.forks.items()}
    completions = {name: within(*allowance, uniform, {**kept, fork.label: name}) for name in names}
    costs = {name: table.exact(choices) for name, choices in completions.items() if choices}
    return [name for name, cost in costs.items() if cost >= spend * limit] or list(costs)
