"""What a step of the search and a step of the retraining have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from manas.data.dataset import Batch
from manas.restoration.losses import LossWeights, restoration_terms
from manas.restoration.network import Restoration
from manas.training.distributed import Precision, Process


def forward_terms(
    network: nn.Module,
    batch: Batch,
    loss: LossWeights,
    progress: float,
    process: Process,
    precision: Precision,
) -> dict[str, Tensor]:
    """The terms of the loss of a network on a batch, by name; their sum is the loss.

    Args:
        progress: share of the training that is done, in [0, 1].
    """
    batch = batch.to(process.device)
    images = batch.degraded.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (B K, 3, P, P)
    with process.autocast(precision):
        restoration = Restoration.of(network(images))
    return restoration_terms(restoration, batch.clean, batch.task, loss.active(progress), local=loss.local)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalar terms."""
    return torch.stack(list(terms.values())).sum()


def logged(terms: Mapping[str, Tensor], process: Process) -> dict[str, float]:
    """The terms as numbers, averaged over all processes; waits for the device."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    means = (process.sum(values) / process.world_size).tolist()
    return dict(zip(terms, means, strict=True))
