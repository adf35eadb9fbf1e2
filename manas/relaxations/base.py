"""The base class of relaxations, which turn architecture parameters into the weights of candidates.

A relaxation answers two questions. `weights` is for the forward pass; a candidate that it leaves out is a
structural zero and is not run. `probabilities` is for losses, cost, selection and logs.

A relaxation never changes. The values of its schedules and its random draws are functions of a `Moment`: `at`
returns the relaxation of that moment, so that ranks, recomputation and resumption all see the same draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_serializer
from torch import Tensor
from torch.nn.functional import log_softmax

from manas.architecture.registry import kind_of
from manas.architecture.weighting import Around, Moment

if TYPE_CHECKING:
    from typing import Self

    from manas.architecture.choice import Choice

RELAXATIONS = "manas.relaxations"  # the group of entry points

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scheduled = Positive | tuple[Positive, Positive]  # constant, or from the start of the search to its end
ScheduledWeight = Weight | tuple[Weight, Weight]


def scheduled(value: float | tuple[float, float], progress: float) -> float:
    """The value of a schedule at `progress` in [0, 1], linear from the first number to the second."""
    first, last = value if isinstance(value, tuple) else (value, value)
    return first + (last - first) * progress


class Relaxation(BaseModel):
    """Base class of the relaxations that a search is configured with; its fields are the configuration.

    Attributes:
        is_softmax: whether candidates compete for weights by a softmax of alpha, which Beta-DARTS bounds.
        is_noiseless: whether the weights are a function of alpha alone and sum to 1; only such weights can be
            perturbed by SmoothDARTS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_softmax: ClassVar[bool] = False
    is_noiseless: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The name by which a configuration asks for this class."""
        return kind_of(type(self), group=RELAXATIONS)

    @model_serializer(mode="wrap")
    def _describe(self, handler: Any) -> dict[str, Any]:
        return {"kind": self.kind, **handler(self)}

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Self:
        """The relaxation at a moment, with the values of its schedules and the samples of `choices`."""
        return self

    def logits(self, choice: Choice) -> Tensor:
        """(K,) the log-probabilities of the candidates, up to a constant."""
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
        # log(1 - p) as a sum over the others: computed from p itself, it would be -inf where p rounds to 1.
        others = log_p.expand(len(log_p), -1).masked_fill(itself, float("-inf"))  # (K, K)
        return log_p, others.logsumexp(1)

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        """The terms that the relaxation adds to the loss of the alphas, by name."""
        return {}


def named(choice: Choice, weights: Tensor) -> dict[str, Tensor]:
    """The weights (K,) by the names of the candidates."""
    return dict(zip(choice.names, weights.unbind(), strict=True))


@dataclass(frozen=True)
class Mean(Around):
    """A relaxation without its noise, by which validation, health and perturbation judge a supernet."""

    of: Relaxation

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.of.mean_weights(choice)


def noise_of(moment: Moment, choice: Choice) -> np.random.Generator:
    """The generator of a choice's noise, the same on every device and in every process."""
    # A checksum of the label, since Python's own hash of a text differs from process to process.
    return np.random.default_rng([moment.seed, moment.draw, zlib.crc32(choice.label.encode())])
