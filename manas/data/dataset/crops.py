"""Crops of backgrounds with their degradations, drawn by keys of the stream, and batches of crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from manas.data.dataset.sources import Source
from manas.data.dataset.stream import CropKey
from manas.errors import ManasError

CLEAN = -1  # the task of a sample without degradation


class Batch(NamedTuple):
    """K degradations of each of B backgrounds; images are RGB float32 in [0, 1].

    Attributes:
        degraded: (B, K, 3, P, P), the degraded crops.
        clean: (B, 3, P, P), the clean crops.
        task: (B,) number of the task among the network's; -1 if the "degraded" versions are clean.
    """

    degraded: Tensor
    clean: Tensor
    task: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copies the batch to a device, without waiting for the copy."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))

    def dealt(self, parts: int) -> list[Batch]:
        """Deals the backgrounds of the batch in turn to so many parts of one size."""
        return [Batch(*(tensor[part::parts] for tensor in self)) for part in range(parts)]

    def split(self, parts: int) -> list[Batch]:
        """Splits the batch into so many parts of one size."""
        return [Batch(*tensors) for tensors in zip(*(tensor.chunk(parts) for tensor in self), strict=True)]


class Crops(Dataset):
    """Crops of chosen backgrounds, by `CropKey`.

    Args:
        sources: all sources.
        chosen: for each source, the numbers of the backgrounds to draw from.
        tasks: for each source, the number of its task.
        patch: side of the crops in pixels.
        seed: the seed of all draws.
        augment: whether crops are augmented, each in the way of its source: in training, and not in validation.
        clean_share: share of the samples that are left clean.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        chosen: Sequence[Sequence[int]],
        tasks: Sequence[int],
        *,
        patch: int,
        seed: int,
        augment: bool,
        clean_share: float = 0,
    ):
        self.sources, self.chosen, self.tasks = sources, chosen, tasks
        self.patch, self.seed, self.augment, self.clean_share = patch, seed, augment, clean_share

    def __getitem__(self, key: CropKey) -> Batch | ManasError:
        index = self.chosen[key.source][key.background]
        # By the number of the background among all, so that a crop does not depend on the partition.
        rng = np.random.default_rng([self.seed, key.source, key.epoch, index])
        try:
            crop = self.sources[key.source].crop(index, self.patch, rng, augment=self.augment)
        except ManasError as error:  # a worker would wrap it in a traceback
            return error
        degraded = torch.from_numpy(crop.degraded).permute(0, 3, 1, 2).contiguous()  # (K, 3, P, P)
        clean = torch.from_numpy(crop.clean).permute(2, 0, 1).contiguous()  # (3, P, P)
        if self._stays_clean(key, index):
            return Batch(clean.expand_as(degraded).contiguous(), clean, torch.tensor(CLEAN))
        return Batch(degraded, clean, torch.tensor(self.tasks[key.source]))

    def _stays_clean(self, key: CropKey, index: int) -> bool:
        """Draws whether a sample stays clean, by a seed of its own, so that the others do not change."""
        return self.clean_share > np.random.default_rng([self.seed, key.source, key.epoch, index, 1]).random()


def collate(samples: list[Batch | ManasError]) -> Batch | ManasError:
    """The batch of samples, or the first error among them."""
    error = next((sample for sample in samples if isinstance(sample, ManasError)), None)
    return error or default_collate(samples)
