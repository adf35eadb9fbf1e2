"""Normalisation statistics of the averaged network, which fit its weights.

Running statistics were collected under weights that have changed since, and their moving average fits no
network at all. So the averaged network gets statistics of its own weights, from training batches, before it is
judged and saved ("precise" statistics: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3).
"""

from __future__ import annotations

from itertools import islice

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.crops import Batch
from manas.training.distributed import Process

IMAGES = 256  # sixteen batches by default, of which only the forward passes are run


class Statistics:
    """Estimates the statistics of networks, always from the same first batches of the training part."""

    def __init__(self, backgrounds: Backgrounds, process: Process):
        self.backgrounds, self.process = backgrounds, process
        self._batches: list[Batch] = []

    def estimate(self, network: nn.Module) -> None:
        """Replaces the batch statistics of a network by new estimates; its weights stay as they are.

        Batches that are not finite are left out; if none remains, the statistics stay as they are, too. Every
        process takes its share of the crops, and all processes have the mean in the end.
        """
        if not self.images(network):
            return
        batches = self._first_batches()
        # Without a batch, `update_bn` would leave the statistics reset. The mean below needs every process.
        if batches:
            update_bn((batch.to(self.process.device).degraded.flatten(0, 1) for batch in batches), network)
        self.process.average_statistics(network)

    def images(self, network: nn.Module) -> int:
        """The number of images, over all processes, that an estimate passes through a network."""
        data = self.backgrounds.config
        has_statistics = any(isinstance(module, _BatchNorm) for module in network.modules())
        return has_statistics * self._count() * data.batch * data.versions

    def _count(self) -> int:
        data = self.backgrounds.config
        return max(1, -(-IMAGES // (data.batch * data.versions)))

    def _first_batches(self) -> list[Batch]:
        if not self._batches:
            # Without workers, which would be started for these few batches alone.
            stream = islice(self.backgrounds.batches("kept", workers=0), self._count())
            self._batches = [batch for batch in stream if batch.degraded.isfinite().all()]
        return self._batches
