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
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_serializer
from torch import Tensor

from manas.architecture.choice import Choice, Moment
from manas.architecture.registry import kind_of
from manas.architecture.weighting import Around, SoftmaxWeighting, named

RELAXATIONS = "manas.relaxations"  # the group of entry points

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scheduled = Positive | tuple[Positive, Positive]  # constant, or from the start of the search to its end
ScheduledWeight = Weight | tuple[Weight, Weight]


def scheduled(value: float | tuple[float, float], progress: float) -> float:
    """The value of a schedule at `progress` in [0, 1], linear from the first number to the second."""
    first, last = value if isinstance(value, tuple) else (value, value)
    return first + (last - first) * progress


class Relaxation(SoftmaxWeighting, BaseModel):
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

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        """The terms that the relaxation adds to the loss of the alphas, by name."""
        return {}


@dataclass(frozen=True)
class Noiseless(Around):
    """A relaxation without its noise, by which validation, health and perturbation judge a supernet."""

    of: Relaxation

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return self.of.mean_weights(choice)


def noise_of(moment: Moment, choice: Choice) -> np.random.Generator:
    """The generator of a choice's noise, the same on every device and in every process."""
    # A checksum of the label, since Python's own hash of a text differs from process to process.
    return np.random.default_rng([moment.seed, moment.draw, zlib.crc32(choice.label.encode())])
