"""SmoothDARTS (Chen and Hsieh, ICML 2020): the weights are trained under perturbed weights of the candidates.

The alphas then settle where the loss is low in a whole neighbourhood, so that less is lost when the network is
derived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from manas.architecture.choice import Choice, Moment, choices_of, relax
from manas.architecture.recomputation import RestingBuffers
from manas.architecture.weighting import Around, named
from manas.errors import ManasError
from manas.relaxations.base import Relaxation, ScheduledWeight, noise_of, scheduled

Gradients = Sequence[Tensor | None]


class SmoothingConfig(BaseModel):
    """Configuration of the perturbation of the candidates' weights in the weight step.

    Attributes:
        kind: ``random`` (uniform), or ``adversarial`` (projected gradient ascent on the loss).
        radius: largest change of a weight, from the start of the search to its end.
        ascents: steps of the adversary, each of 2 radius / ascents.
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
    """A relaxation whose weights are moved by (K,) offsets, clipped to [0, 1] and normalised again."""

    offsets: Mapping[str, Tensor]

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        weights = torch.stack(list(self.of.weights(choice).values())) + self.offsets[choice.label]
        weights = weights.clamp(1e-6, 1)  # above zero, so that there is a sum to divide by
        return named(choice, weights / weights.sum())


def perturb(
    network: nn.Module,
    relaxation: Relaxation,
    config: SmoothingConfig,
    moment: Moment,
    loss: Callable[[], Tensor],
    average: Callable[[Gradients, Sequence[Tensor]], Gradients],
) -> None:
    """Gives a supernet the perturbed relaxation of a moment.

    Args:
        loss: computes the loss on the batch of the weight step, which the adversary makes larger.
        average: averages gradients, given with their parameters, over all processes.
    """
    choices, radius = choices_of(network), scheduled(config.radius, moment.progress)
    perturbed = Perturbed(relaxation, {c.label: _uniform(moment, c, radius) for c in choices})
    relax(network, perturbed)
    if config.kind == "random" or not radius:
        return
    with RestingBuffers(network):  # the passes of the adversary are no training
        for _ in range(config.ascents):
            perturbed = _ascend(perturbed, loss, 2 * radius / config.ascents, radius, average)
            relax(network, perturbed)


def _ascend(
    perturbed: Perturbed,
    loss: Callable[[], Tensor],
    step: float,
    radius: float,
    average: Callable[[Gradients, Sequence[Tensor]], Gradients],
) -> Perturbed:
    """Moves the offsets one step along the sign of the gradient, within the ball of the maximum norm."""
    offsets = list(perturbed.offsets.values())
    for offset in offsets:
        offset.requires_grad_()
    gradients = average(torch.autograd.grad(loss(), offsets, allow_unused=True), offsets)
    further = [_move(o.detach(), g, step, radius) for o, g in zip(offsets, gradients, strict=True)]
    return replace(perturbed, offsets=dict(zip(perturbed.offsets, further, strict=True)))


def _move(offset: Tensor, gradient: Tensor | None, step: float, radius: float) -> Tensor:
    return offset if gradient is None else (offset + step * gradient.sign()).clamp(-radius, radius)


def _uniform(moment: Moment, choice: Choice, radius: float) -> Tensor:
    """(K,) uniform numbers in [-radius, radius]."""
    noise = noise_of(moment, choice).uniform(-radius, radius, len(choice.names))
    return torch.from_numpy(noise).to(choice.alpha)
