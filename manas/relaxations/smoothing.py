"""SmoothDARTS (Chen and Hsieh, ICML 2020): the weights are trained under perturbed weights of the candidates.

What the alphas then find holds in a neighbourhood, so that less is lost when the network is derived.
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
    """How the weights of the candidates are perturbed in the weight step.

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
        moved = (torch.stack(list(self.of.weights(choice).values())) + self.offsets[choice.label]).clamp(
            1e-6, 1
        )
        return named(choice, moved / moved.sum())


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
        loss: of the weights on their batch, which the adversary makes larger.
        average: takes gradients, and what they are of, to their means over all processes.
    """
    choices, radius = choices_of(network), scheduled(config.radius, moment.progress)
    perturbed = Perturbed(relaxation, {c.label: _uniform(moment, c, radius) for c in choices})
    relax(network, perturbed)
    if config.kind == "random" or not radius:
        return
    with RestingBuffers(network):
        for _ in range(config.ascents):
            perturbed = _ascended(perturbed, loss, 2 * radius / config.ascents, radius, average)
            relax(network, perturbed)


def _ascended(
    perturbed: Perturbed,
    loss: Callable[[], Tensor],
    step: float,
    radius: float,
    average: Callable[[Gradients, Sequence[Tensor]], Gradients],
) -> Perturbed:
    """The offsets after one step along the sign of the gradient, within the ball of the maximum norm."""
    offsets = list(perturbed.offsets.values())
    for offset in offsets:
        offset.requires_grad_()
    gradients = average(torch.autograd.grad(loss(), offsets, allow_unused=True), offsets)
    moved = [_moved(o.detach(), g, step, radius) for o, g in zip(offsets, gradients, strict=True)]
    return replace(perturbed, offsets=dict(zip(perturbed.offsets, moved, strict=True)))


def _moved(offset: Tensor, gradient: Tensor | None, step: float, radius: float) -> Tensor:
    return offset if gradient is None else (offset + step * gradient.sign()).clamp(-radius, radius)


def _uniform(moment: Moment, choice: Choice, radius: float) -> Tensor:
    """(K,) in [-radius, radius]"""
    drawn = noise_of(moment, choice).uniform(-radius, radius, len(choice.names))
    return torch.from_numpy(drawn).to(choice.alpha)
