"""How the candidates of a choice are weighted; `manas.relaxations` has the ways that a search learns by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from manas.architecture.choice import Choice, Moment, Weighting


class SoftmaxWeighting:
    """The weights are the softmax of the logits, and the logits are the alphas; a subclass has others."""

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Weighting:
        return self

    def logits(self, choice: Choice) -> Tensor:
        """(K,) log p, up to a constant."""
        return choice.alpha

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return named(choice, self.probabilities(choice))

    def probabilities(self, choice: Choice) -> Tensor:
        return torch.softmax(self.logits(choice), 0)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        log_p = log_softmax(self.logits(choice), 0)  # (K,)
        itself = torch.eye(len(log_p), dtype=torch.bool, device=log_p.device)
        others = log_p.expand(len(log_p), -1).masked_fill(itself, float("-inf"))  # (K, K)
        return log_p, others.logsumexp(1)


def named(choice: Choice, weights: Tensor) -> dict[str, Tensor]:
    """(K,) weights by the names of the candidates."""
    return dict(zip(choice.names, weights.unbind(), strict=True))


@dataclass(frozen=True)
class OneHot:
    """The weights of one derived network: evaluates it inside the supernet.

    Attributes:
        choices: label -> candidate, as in a genotype; forks that it does not name are not reached.
    """

    choices: Mapping[str, str]

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Weighting:
        return self

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

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Weighting:
        return self

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.of.weights(choice)

    def probabilities(self, choice: Choice) -> Tensor:
        return self.of.probabilities(choice)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        return self.of.log_probabilities(choice)
