"""How the candidates of a choice are weighted; `manas.relaxations` has the ways that a search learns by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot

if TYPE_CHECKING:
    from manas.architecture.choice import Choice

NONE = "none"  # the name of the candidate that is identically zero


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

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Weighting:
        """The weighting at a moment of a search; itself, unless it has a schedule or draws samples."""

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        """Scalar weights by candidate name; a name left out is not run."""

    def probabilities(self, choice: Choice) -> Tensor:
        """(K,) probabilities in the order of `choice.names`; they sum to 1."""

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """(K,) log p and (K,) log(1 - p), finite where the logits are, however saturated."""


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
