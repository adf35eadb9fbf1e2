"""What a step of the search and a step of the retraining have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from manas.data.dataset import Batch
from manas.restoration.losses import LossWeights, restoration_terms
from manas.restoration.network import Restoration
from manas.training.distributed import Precision, Process


def forward_terms(
    network: Callable[..., Tensor | Restoration],
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
        restoration = Restoration.of(network(images, stages=True) if loss.stages else network(images))
    return restoration_terms(restoration, batch.clean, batch.task, loss, progress)


class Objective:
    """The loss of a network on batches; remembers its terms for the logs.

    Args:
        loss: weights of the terms.
        precision: of the forward pass.
    """

    def __init__(self, loss: LossWeights, process: Process, precision: Precision):
        self.loss, self.process, self.precision = loss, process, precision
        self._seen: list[dict[str, Tensor]] = []

    def __call__(self, network: Callable[..., Tensor | Restoration], batch: Batch, progress: float) -> Tensor:
        """The scalar loss on a batch at `progress` in [0, 1] of the training."""
        terms = forward_terms(network, batch, self.loss, progress, self.process, self.precision)
        self._seen.append({name: term.detach() for name, term in terms.items()})
        return total(terms)

    def terms(self) -> dict[str, Tensor]:
        """The mean of each term over the batches since this was asked last."""
        seen, self._seen = self._seen, []
        names = seen[-1] if seen else ()
        return {name: torch.stack([terms[name] for terms in seen]).mean() for name in names}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalar terms."""
    return torch.stack(list(terms.values())).sum()


def logged(terms: Mapping[str, Tensor], process: Process) -> dict[str, float]:
    """The terms as numbers, averaged over all processes; waits for the device."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    means = (process.sum(values) / process.world_size).tolist()
    return dict(zip(terms, means, strict=True))
