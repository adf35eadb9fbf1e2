"""The Dirichlet distribution of DrNAS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import PrivateAttr
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence
from torch.nn.functional import relu

from manas.architecture.choice import Choice, Moment
from manas.architecture.weighting import named
from manas.relaxations.base import Relaxation, Weight, noise_of

LOWEST_CONCENTRATION = 1e-3


class Dirichlet(Relaxation):
    """DrNAS (Chen et al., ICLR 2021, eqs. 3-6): w ~ Dirichlet(elu(alpha) + 1), with its pathwise gradient.

    A small constant is added to the concentrations of samples, probabilities and losses alike; without it a
    sample and its gradient might not be finite.

    Attributes:
        anchor: weight of the distance of the concentrations from 1, those of the uniform distribution.
        distance: ``l2``, half the squared distance, or ``kl``, the divergence of the distributions.
    """

    anchor: Weight = 1e-3
    distance: Literal["l2", "kl"] = "l2"
    _moment: Moment = PrivateAttr(default=Moment())

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Dirichlet:
        sample = self.model_copy()
        sample._moment = moment
        return sample

    def logits(self, choice: Choice) -> Tensor:
        return _concentration(choice).log()

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        seed = int(noise_of(self._moment, choice).integers(2**63))
        with _seeded(choice.alpha.device, seed):  # rsample takes no generator
            return named(choice, _dirichlet(_concentration(choice)).rsample())

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        distance = {"l2": _squared_distance, "kl": _divergence}[self.distance]
        return {"anchor": self.anchor * torch.stack([distance(_concentration(c)) for c in choices]).sum()}


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seeds the default generator of one device for the time of the block, and restores its state afterwards.

    `torch.manual_seed` would seed the generators of all devices, and takes far longer.
    """
    generator = torch.default_generator
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
    elif device.type == "mps":
        generator = torch.mps._get_default_mps_generator()
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def _concentration(choice: Choice) -> Tensor:
    """(K,) elu(alpha) + 1, raised by `LOWEST_CONCENTRATION`."""
    positive, negative = relu(choice.alpha), choice.alpha.clamp(max=0)
    return positive + negative.exp() + LOWEST_CONCENTRATION  # without the cancellation of elu's exp - 1 + 1


def _squared_distance(concentration: Tensor) -> Tensor:
    return (concentration - 1).square().sum() / 2


def _divergence(concentration: Tensor) -> Tensor:
    return kl_divergence(_dirichlet(concentration), _dirichlet(torch.ones_like(concentration)))


def _dirichlet(concentration: Tensor) -> DirichletDistribution:
    """The distribution, without a check of its arguments, which would wait for the device in every step."""
    return DirichletDistribution(concentration, validate_args=False)
