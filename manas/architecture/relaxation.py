"""How architecture parameters become the weights of candidates; `sampled` has the relaxations that draw.

A relaxation answers two questions. `weights` is for the forward pass; a candidate that it leaves out is a
structural zero and is not run. `probabilities` is for losses, cost, selection and logs.

A relaxation never changes. What a schedule gives, and what is drawn at random, is a function of a `Moment`:
`at` returns the relaxation of that moment, so that ranks, recomputation and resumption all see the same draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, one_hot

if TYPE_CHECKING:
    from typing import Self

    from manas.architecture.choice import Choice

NONE = "none"  # the name of the candidate that is identically zero

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scheduled = Positive | tuple[Positive, Positive]  # constant, or from the start of the search to its end
ScheduledWeight = Weight | tuple[Weight, Weight]


def scheduled(value: float | tuple[float, float], progress: float) -> float:
    """A scheduled value at `progress` in [0, 1]: linear from the first to the second."""
    first, last = value if isinstance(value, tuple) else (value, value)
    return first + (last - first) * progress


@dataclass(frozen=True)
class Moment:
    """Where a search stands.

    Attributes:
        progress: share of the search that is done, in [0, 1].
        seed: of the search.
        draw: number of the draw; the noise of a choice is a function of (seed, draw, label).
    """

    progress: float = 0.0
    seed: int = 0
    draw: int = 0


class Weighting(Protocol):
    """What a choice asks of the relaxation that it holds."""

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        """Scalar weights by candidate name; a name left out is not run."""

    def probabilities(self, choice: Choice) -> Tensor:
        """(K,) probabilities in the order of `choice.names`; they sum to 1."""

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """(K,) log p and (K,) log(1 - p), finite where the logits are, however saturated."""


class Relaxation(BaseModel):
    """Base class of the relaxations that a search is configured with; its fields are the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Self:
        """The relaxation at a moment, with its schedules settled and its samples of `choices` drawn."""
        return self

    def logits(self, choice: Choice) -> Tensor:
        """(K,) log p, up to a constant."""
        raise NotImplementedError(f"{type(self).__name__} does not define logits(choice)")

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.mean_weights(choice)

    def mean_weights(self, choice: Choice) -> dict[str, Tensor]:
        """The weights without noise, by which a relaxed network is judged."""
        return named(choice, self.probabilities(choice))

    def probabilities(self, choice: Choice) -> Tensor:
        return torch.softmax(self.logits(choice), 0)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        log_p = log_softmax(self.logits(choice), 0)  # (K,)
        itself = torch.eye(len(log_p), dtype=torch.bool, device=log_p.device)
        others = log_p.expand(len(log_p), -1).masked_fill(itself, float("-inf"))  # (K, K)
        return log_p, others.logsumexp(1)

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        """What the relaxation adds to the loss of the alphas, by name."""
        return {}


def named(choice: Choice, weights: Tensor) -> dict[str, Tensor]:
    """(K,) weights by the names of the candidates."""
    return dict(zip(choice.names, weights.unbind(), strict=True))


class Softmax(Relaxation):
    """The continuous relaxation of DARTS (Liu et al., ICLR 2019, eq. 2): w = softmax(alpha / temperature)."""

    kind: Literal["softmax"] = "softmax"
    temperature: Scheduled = 1.0

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Softmax:
        return self.model_copy(update={"temperature": scheduled(self.temperature, moment.progress)})

    def logits(self, choice: Choice) -> Tensor:
        return choice.alpha / scheduled(self.temperature, 0)


class Sigmoid(Relaxation):
    """FairDARTS (Chu et al., ECCV 2020): independent weights w = sigmoid(alpha), which do not compete.

    The probabilities of selection and cost are w / sum(w). The weight of `none`, whose output is zero whatever
    its weight, is held at 1/2: it is chosen where no other candidate exceeds that.

    Attributes:
        zero_one: weight of the zero-one loss, -mean (sigmoid(alpha) - 1/2)^2 (eq. 5 there).
    """

    kind: Literal["sigmoid"] = "sigmoid"
    zero_one: Weight = 10.0

    def logits(self, choice: Choice) -> Tensor:
        return logsigmoid(self._held(choice))

    def mean_weights(self, choice: Choice) -> dict[str, Tensor]:
        return named(choice, self._held(choice).sigmoid())

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        weights = torch.cat([self._held(choice).sigmoid() for choice in choices])
        return {"zero_one": -self.zero_one * (weights - 0.5).square().mean()}

    def _held(self, choice: Choice) -> Tensor:
        """(K,) alpha, but 0 for `none`."""
        if NONE not in choice.names:
            return choice.alpha
        alpha = choice.alpha.clone()
        alpha[choice.names.index(NONE)] = 0
        return alpha


@dataclass(frozen=True)
class OneHot:
    """The weights of one derived network: evaluates it inside the supernet.

    Attributes:
        choices: label -> candidate, as in a genotype; forks that it does not name are not reached.
    """

    choices: Mapping[str, str]

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return {self.choices[choice.label]: torch.ones_like(choice.alpha[0])}

    def probabilities(self, choice: Choice) -> Tensor:
        if choice.label not in self.choices:
            return torch.zeros_like(choice.alpha)
        place = torch.tensor(choice.names.index(self.choices[choice.label]), device=choice.alpha.device)
        return one_hot(place, len(choice.names)).to(choice.alpha.dtype)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities(choice)
        finite = torch.finfo(probabilities.dtype).min
        return probabilities.log().clamp(min=finite), (1 - probabilities).log().clamp(min=finite)


@dataclass(frozen=True)
class Around:
    """Base class of what changes the weights of a relaxation, and leaves its probabilities as they are."""

    of: Weighting

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.of.weights(choice)

    def probabilities(self, choice: Choice) -> Tensor:
        return self.of.probabilities(choice)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        return self.of.log_probabilities(choice)


@dataclass(frozen=True)
class Mean(Around):
    """A relaxation without its noise: what validation, health and perturbation look at."""

    of: Relaxation

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.of.mean_weights(choice)
