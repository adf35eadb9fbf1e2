"""SmoothDARTS (Chen and Hsieh, ICML 2020): the weights are trained under perturbed weights of the candidates.

The alphas then settle where the loss is low in a whole neighbourhood, so that less is lost when the network is
derived. Perturbed weights are clipped to [0, 1] and divided by their sum.

The adversary is that of the authors' code. It steps on the weights themselves, in evaluation mode; after each
step they are put back into the ball, clipped and divided, which may take them a little out of the ball again.
Where the loss is lower at the end than it was without any perturbation, there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import one_hot

from manas.architecture.choice import Choice, Moment, choices_of, relax
from manas.architecture.recomputation import RestingBuffers
from manas.architecture.weighting import Around
from manas.errors import ManasError
from manas.relaxations.base import ScheduledWeight, noise_of, scheduled

Weights = Sequence[Tensor]  # (n,) for each choice
Gradients = Sequence[Tensor | None]
Average = Callable[[Gradients, Sequence[Tensor]], Gradients]


class SmoothingConfig(BaseModel):
    """Configuration of the perturbation of the candidates' weights in the weight step.

    Attributes:
        kind: ``random`` (uniform), or ``adversarial`` (projected gradient ascent on the loss).
        radius: largest change of a weight before the division by the sum, from the start of the search to its
            end.
        ascents: steps of the adversary, each of 2 radius / ascents; it takes two more forward passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "adversarial"] = "random"
    radius: ScheduledWeight = (0.03, 0.3)
    ascents: int = Field(7, ge=1)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> SmoothingConfig:
        if self.kind == "random" and self.ascents != type(self).model_fields["ascents"].default:
            raise ManasError("random smoothing does not ascend, so ascents would have no effect; leave it out")
        return self


@dataclass(frozen=True)
class Perturbed(Around):
    """A relaxation whose weights are replaced by others, which depend on no alpha.

    Attributes:
        others: (n,) by label, in the order of the weights that they replace.
    """

    others: Mapping[str, Tensor]

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        return dict(zip(self.of.weights(choice), self.others[choice.label].unbind(), strict=True))


def perturb(
    network: nn.Module,
    config: SmoothingConfig,
    moment: Moment,
    loss: Callable[[], Tensor],
    average: Average,
) -> None:
    """Perturbs the relaxation that a supernet has.

    Args:
        loss: computes the loss on the batch of the weight step, in evaluation mode as in the authors' code; the
            adversary makes it larger.
        average: averages gradients, given with their parameters, over all processes.
    """
    choices, radius = choices_of(network), scheduled(config.radius, moment.progress)
    relaxation = choices[0].relaxation  # that of all
    plain = [torch.stack(list(relaxation.weights(choice).values())).detach() for choice in choices]
    start: Weights = [
        on_simplex(w + _uniform(moment, c, w, radius)) for c, w in zip(choices, plain, strict=True)
    ]

    def give(weights: Weights) -> None:
        others = {choice.label: each for choice, each in zip(choices, weights, strict=True)}
        relax(network, Perturbed(relaxation, others))

    def value(weights: Weights) -> Tensor:
        give(weights)
        return loss()

    if config.kind == "adversarial" and radius:
        with RestingBuffers(network):  # the passes of the adversary are no training
            start = _adversary(value, plain, start, radius, config.ascents, average)
    give(start)


def on_simplex(weights: Tensor) -> Tensor:
    """(n,) weights clipped to [0, 1] and divided by their sum; if none is above 0, the largest alone is 1."""
    clipped, largest = weights.clamp(0, 1), one_hot(weights.argmax(), len(weights)).to(weights)
    return torch.where(clipped.sum() > 0, clipped / clipped.sum(), largest)


def _adversary(
    value: Callable[[Weights], Tensor],
    plain: Weights,
    start: Weights,
    radius: float,
    ascents: int,
    average: Average,
) -> Weights:
    """The weights after the last ascent; the plain ones, if theirs is the larger loss."""
    with torch.no_grad():
        before = value(plain)
    weights, step = start, 2 * radius / ascents
    for _ in range(ascents):
        leaves = [each.clone().requires_grad_() for each in weights]
        gradients = average(torch.autograd.grad(value(leaves), leaves, allow_unused=True), leaves)
        triples = zip(weights, gradients, plain, strict=True)
        weights = [w if g is None else _ascended(w, step * g.sign(), p, radius) for w, g, p in triples]
    with torch.no_grad():
        (rise,) = average([value(weights) - before], [before])
    assert rise is not None  # every process has a loss
    return [torch.where(rise < 0, p, w) for w, p in zip(weights, plain, strict=True)]


def _ascended(weights: Tensor, step: Tensor, plain: Tensor, radius: float) -> Tensor:
    """(n,) the weights after a step, first within the ball of the maximum norm, then on the simplex."""
    return on_simplex((weights + step).clamp(plain - radius, plain + radius))


def _uniform(moment: Moment, choice: Choice, weights: Tensor, radius: float) -> Tensor:
    """(n,) uniform numbers in [-radius, radius], one for each weight of a choice."""
    noise = noise_of(moment, choice).uniform(-radius, radius, len(weights))
    return torch.from_numpy(noise).to(weights)
