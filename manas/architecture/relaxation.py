"""How architecture parameters become the weights of candidates: one small class an idea.

A relaxation answers two questions. `weights` is for the forward pass; a candidate that it leaves out is a
structural zero and is not run. `probabilities` is for losses, cost, selection and logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

if TYPE_CHECKING:
    from manas.architecture.choice import Choice


class Relaxation(Protocol):
    """What every relaxation answers."""

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        """Scalar weights by candidate name; a name left out is not run."""

    def probabilities(self, choice: Choice) -> Tensor:
        """(K,) probabilities in the order of `choice.names`."""

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """(K,) log p and (K,) log(1 - p), finite where the logits are, however saturated."""


class Softmax(BaseModel):
    """The continuous relaxation of DARTS (Liu et al., ICLR 2019, eq. 2): w = softmax(alpha / temperature)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["softmax"] = "softmax"
    temperature: float = Field(1.0, gt=0)

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return dict(zip(choice.names, self.probabilities(choice).unbind(), strict=True))

    def probabilities(self, choice: Choice) -> Tensor:
        return torch.softmax(choice.alpha / self.temperature, 0)

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        log_p = log_softmax(choice.alpha / self.temperature, 0)  # (K,)
        itself = torch.eye(len(log_p), dtype=torch.bool, device=log_p.device)
        others = log_p.expand(len(log_p), -1).masked_fill(itself, float("-inf"))  # (K, K)
        return log_p, others.logsumexp(1)


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
