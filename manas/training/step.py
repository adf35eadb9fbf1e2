"""The loss of a step, the same in a search and in a retraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from manas.data.dataset.crops import Batch
from manas.restoration.losses import LossWeights, restoration_terms
from manas.restoration.network import Restoration
from manas.training.distributed import Precision, Process

Terms = dict[str, Tensor]  # scalars by name, whose sum is the loss


@dataclass(frozen=True)
class Objective:
    """The loss of a network on batches.

    Attributes:
        loss: weights of the terms.
        process: the process, to whose device the batches are moved.
        precision: the precision of the forward pass.
    """

    loss: LossWeights
    process: Process
    precision: Precision

    def __call__(
        self, network: Callable[..., Tensor | Restoration], batch: Batch, progress: float
    ) -> tuple[Tensor, Terms]:
        """Computes the loss on a batch; returns it with its terms, which are detached for the logs.

        Args:
            progress: share of the training that is done, in [0, 1].
        """
        batch = batch.to(self.process.device)
        images = batch.degraded.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # (B K, 3, P, P)
        with self.process.autocast(self.precision):
            restoration = Restoration.of(network(images, stages=True) if self.loss.stages else network(images))
        terms = restoration_terms(restoration, batch.clean, batch.task, self.loss, progress)
        return total(terms), {name: term.detach() for name, term in terms.items()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of scalar terms."""
    return torch.stack(list(terms.values())).sum()


def under(prefix: str, terms: Terms) -> Terms:
    """The terms by their names in the logs: ``training/l1``."""
    return {f"{prefix}/{name}": term for name, term in terms.items()}


def logged(terms: Mapping[str, Tensor], process: Process) -> dict[str, float]:
    """The terms as numbers, averaged over all processes; waits for the device."""
    if not terms:
        return {}
    # Stacked, so that all terms take one message and one wait for the device.
    values = torch.stack([term.detach().float() for term in terms.values()])
    means = (process.sum(values) / process.world_size).tolist()
    return dict(zip(terms, means, strict=True))
