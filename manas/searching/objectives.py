"""The losses of the alphas beside the restoration: indecision and cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manas.architecture.choice import Choice, choices_of, probabilities_of
from manas.cost.table import CostTable


def groups_of(network: nn.Module) -> dict[tuple[str, ...], list[Choice]]:
    """The choices of a supernet by their tuple of candidate names."""
    groups = defaultdict(list)
    for choice in choices_of(network):
        groups[choice.names].append(choice)
    return dict(groups)


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
