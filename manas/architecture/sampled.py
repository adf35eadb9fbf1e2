"""Relaxations that draw: their weights are samples, reproducible from (seed, draw, label) alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence
from torch.nn.functional import elu, log_softmax, relu

from manas.architecture.relaxation import NONE, Moment, Relaxation, Scheduled, Weight, named, scheduled

if TYPE_CHECKING:
    from manas.architecture.choice import Choice

LOWEST_CONCENTRATION = 1e-3


class Gumbel(Relaxation):
    """GDAS (Dong and Yang, CVPR 2019, eqs. 3-5): one candidate is sampled, with a straight-through gradient.

    s = softmax((log softmax(alpha) + g) / temperature) with Gumbel noise g; w = onehot(argmax s) + s - sg(s).
    Candidates that are not sampled cost nothing. In a choice that holds `none` all are run nevertheless: an
    identically zero output has no gradient, so `none`, once sampled, could be left by luck alone.
    """

    kind: Literal["gumbel"] = "gumbel"
    temperature: Scheduled = (10.0, 0.1)
    _noise: dict[str, Tensor] = PrivateAttr(default_factory=dict)  # (K,) by label
    _sampled: dict[str, str] = PrivateAttr(default_factory=dict)

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Gumbel:
        drawn = self.model_copy(update={"temperature": scheduled(self.temperature, moment.progress)})
        sizes = [len(choice.names) for choice in choices]
        noise = np.concatenate([noise_of(moment, choice).gumbel(size=len(choice.names)) for choice in choices])
        flat = torch.from_numpy(noise).to(choices[0].alpha)
        drawn._noise = {c.label: part for c, part in zip(choices, flat.split(sizes), strict=True)}
        # Which modules run is decided on the host: the device is waited for once, for all choices together.
        places = torch.stack([drawn._soft(choice).argmax() for choice in choices]).tolist()
        drawn._sampled = {c.label: c.names[place] for c, place in zip(choices, places, strict=True)}
        return drawn

    def logits(self, choice: Choice) -> Tensor:
        return choice.alpha

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        soft = self._soft(choice)
        sampled = choice.names.index(self._sampled[choice.label])
        hard = torch.zeros_like(soft)
        hard[sampled] = 1
        weights = named(choice, hard + (soft - soft.detach()))  # exactly 0 and 1
        return weights if NONE in weights else {choice.names[sampled]: weights[choice.names[sampled]]}

    def _soft(self, choice: Choice) -> Tensor:
        noisy = log_softmax(choice.alpha, 0) + self._noise[choice.label]
        return torch.softmax(noisy / scheduled(self.temperature, 0), 0)


class Dirichlet(Relaxation):
    """DrNAS (Chen et al., ICLR 2021, eqs. 3-6): w ~ Dirichlet(elu(alpha) + 1), with its pathwise gradient.

    Attributes:
        anchor: weight of the distance of the concentrations from 1, those of the uniform distribution.
        distance: ``l2``, half the squared distance, or ``kl``, the divergence of the distributions.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    anchor: Weight = 1e-3
    distance: Literal["l2", "kl"] = "l2"
    _moment: Moment = PrivateAttr(default=Moment())

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Dirichlet:
        drawn = self.model_copy()
        drawn._moment = moment
        return drawn

    def logits(self, choice: Choice) -> Tensor:
        alpha = choice.alpha
        return torch.where(alpha > 0, relu(alpha).log1p(), alpha)  # log(elu(alpha) + 1), without underflow

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        seed = int(noise_of(self._moment, choice).integers(2**63))
        with _seeded(choice.alpha.device, seed):  # rsample takes no generator
            return named(choice, _dirichlet(_concentration(choice)).rsample())

    def losses(self, choices: Sequence[Choice]) -> dict[str, Tensor]:
        distance = {"l2": _squared_distance, "kl": _divergence}[self.distance]
        return {"anchor": self.anchor * torch.stack([distance(_concentration(c)) for c in choices]).sum()}


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """The default generator of one device begins at a seed, and is as before afterwards.

    `torch.manual_seed` would seed those of all devices, and takes far longer.
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
    """(K,) elu(alpha) + 1, with a floor below which a sample and its gradient would not be finite."""
    return elu(choice.alpha) + 1 + LOWEST_CONCENTRATION


def _squared_distance(concentration: Tensor) -> Tensor:
    return (concentration - 1).square().sum() / 2


def _divergence(concentration: Tensor) -> Tensor:
    return kl_divergence(_dirichlet(concentration), _dirichlet(torch.ones_like(concentration)))


def _dirichlet(concentration: Tensor) -> DirichletDistribution:
    """Unchecked: the check waits for the device, once a choice and step."""
    return DirichletDistribution(concentration, validate_args=False)


def noise_of(moment: Moment, choice: Choice) -> np.random.Generator:
    """The source of the noise of a choice: on every device and every process the same."""
    return np.random.default_rng([moment.seed, moment.draw, zlib.crc32(choice.label.encode())])
