"""A key of the stream -> a crop of a background with its degradations, and crops -> a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from manas.data.dataset.sources import Source
from manas.data.dataset.stream import Key
from manas.errors import ManasError

CLEAN = -1  # the task of a sample that nothing degrades


class Batch(NamedTuple):
    """K degradations of each of B backgrounds; images are RGB float32 in [0, 1]."""

    degraded: Tensor  # (B, K, 3, P, P)
    clean: Tensor  # (B, 3, P, P)
    task: Tensor  # (B,) place of the task among the network's; -1 where the degraded versions are clean

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, without waiting for the copy."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))

    def split(self, parts: int) -> list[Batch]:
        """The batch in so many parts of one size."""
        return [Batch(*tensors) for tensors in zip(*(tensor.chunk(parts) for tensor in self), strict=True)]


class Crops(Dataset):
    """Crops of chosen backgrounds, by `Key`.

    Args:
        sources: all of them.
        chosen: for each source, the places of the backgrounds to draw from.
        tasks: for each source, the place of its task.
        patch: side of the crops.
        seed: of all draws.
        augment: whether crops are augmented, each as its source is: in training, and not in validation.
        clean_share: of the samples, those that are left clean.
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

    def __getitem__(self, key: Key) -> Batch | ManasError:
        index = self.chosen[key.source][key.background]
        rng = np.random.default_rng([self.seed, key.source, key.epoch, index])  # of the whole, not of the part
        try:
            crop = self.sources[key.source].crop(index, self.patch, rng, augment=self.augment)
        except ManasError as error:  # a worker would wrap it in a traceback
            return error
        degraded = torch.from_numpy(crop.degraded).permute(0, 3, 1, 2).contiguous()  # (K, 3, P, P)
        clean = torch.from_numpy(crop.clean).permute(2, 0, 1).contiguous()  # (3, P, P)
        if self._stays_clean(key, index):
            return Batch(clean.expand_as(degraded).contiguous(), clean, torch.tensor(CLEAN))
        return Batch(degraded, clean, torch.tensor(self.tasks[key.source]))

    def _stays_clean(self, key: Key, index: int) -> bool:
        """By a draw of its own, so that the share changes nothing in the samples that are degraded."""
        return self.clean_share > np.random.default_rng([self.seed, key.source, key.epoch, index, 1]).random()


def collate(samples: list[Batch | ManasError]) -> Batch | ManasError:
    """The batch of samples; the first error among them in its place."""
    failed = next((sample for sample in samples if isinstance(sample, ManasError)), None)
    return failed or default_collate(samples)
