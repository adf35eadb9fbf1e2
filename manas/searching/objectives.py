"""The losses of the alphas beside the restoration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manas.architecture.choice import Choice, choices_of, groups_of, probabilities_of
from manas.cost.budget import Pressure
from manas.cost.table import CostTable
from manas.relaxations.base import Relaxation, scheduled
from manas.searching.config import SearchConfig


class AlphaLosses:
    """The losses of the alphas beside the restoration: what the relaxation asks, indecision, and cost.

    They need no forward pass. The cost of a search without a budget is a share of the dearest architecture's;
    under a budget it is a pressure that lasts as long as the budget is exceeded.
    """

    def __init__(self, config: SearchConfig, network: nn.Module, table: CostTable, device: torch.device):
        self.config, self.network, self.table = config, network, table.to(device)
        self.choices = choices_of(network)
        self.dearest = self.table.dearest()
        self.pressure = Pressure(self.table, config.budget, device) if config.budget else None

    def __call__(self, relaxation: Relaxation, progress: float) -> dict[str, Tensor]:
        """Computes the losses by name.

        Args:
            relaxation: the relaxation of this step.
            progress: the share of the search that is done, in [0, 1].
        """
        config, losses = self.config, relaxation.losses(self.choices)
        if progress >= config.architecture_from:
            losses["architecture"] = config.architecture * indecision(self.network)
        if config.beta_decay:
            losses["beta_decay"] = scheduled(config.beta_decay, progress) * beta_decay(self.choices)
        return losses | {"complexity": self._cost()}

    def _cost(self) -> Tensor:
        if self.pressure:
            return self.pressure.loss(self.network)
        return self.config.complexity.weight * complexity(self.network, self.table, self.dearest)

    def adapt(self) -> dict[str, Tensor]:
        """Adapts the pressure to the alphas; returns its multiplier for the logs, if there is one."""
        if self.pressure is None:
            return {}
        self.pressure.adapt(self.network)
        return {"multiplier": self.pressure.multiplier}

    def state(self) -> Tensor | None:
        """The multiplier of the pressure, which is all that changes."""
        return self.pressure.multiplier if self.pressure else None

    def load_state(self, multiplier: Tensor | None) -> None:
        """Goes on from a state that `state` returned."""
        if self.pressure and multiplier is not None:
            self.pressure.multiplier = multiplier.to(self.pressure.multiplier.device)


def binary_entropy(choice: Choice) -> Tensor:
    """(K,) -p ln p - (1 - p) ln(1 - p) of the probabilities p (MANAS and CLEARER, with log10 there).

    It is computed from log p and log(1 - p), so that value and gradient are finite for all alphas.
    """
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    if len(choice.names) == 1:  # log(1 - p) of a certainty is no number
        return torch.zeros_like(log_p)
    return -(log_p.exp() * log_p + log_rest.exp() * log_rest)


def indecision(network: nn.Module) -> Tensor:
    """Architecture regularisation: the mean binary entropy of each group of choices, summed over groups."""
    groups = groups_of(network).values()
    means = [torch.cat([binary_entropy(choice) for choice in choices]).mean() for choices in groups]
    return torch.stack(means).sum()


def complexity(network: nn.Module, table: CostTable, dearest: float) -> Tensor:
    """The expected cost divided by `dearest`, the cost of the dearest architecture of the space; in [0, 1]."""
    return table.expected(probabilities_of(network)) / dearest


def beta_decay(choices: Sequence[Choice]) -> Tensor:
    """The mean of logsumexp(alpha) over choices (Beta-DARTS, Ye et al., CVPR 2022, eq. 12)."""
    return torch.stack([choice.alpha.logsumexp(0) for choice in choices]).mean()
