"""Backgrounds x degradations -> batches.

Every draw is a function of (seed, source, epoch, index), and the position in the endless stream of such keys
is a function of the step. So the number of workers changes nothing, N ranks see what one process would see,
and a resumed run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from manas.data.sources import Source, SourceConfig
from manas.errors import ManasError, nearest


class Batch(NamedTuple):
    """K degradations of each of B backgrounds; images are RGB float32 in [0, 1]."""

    degraded: Tensor  # (B, K, 3, P, P)
    clean: Tensor  # (B, 3, P, P)
    task: Tensor  # (B,) place of the task among the network's

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, without waiting for the copy."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class DataConfig(BaseModel):
    """What a search or a retraining sees.

    Attributes:
        sources: mixed evenly.
        versions: K, the degradations of one background in a batch.
        patch: side of the crops in pixels.
        batch: backgrounds a step, over all processes.
        workers: loader processes of each process; 0 loads in the process itself.
        validation_patch: side of the validation crops.
        validation_crops: crops of each validation background and source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceConfig, ...] = Field((SourceConfig(task="derain", weather="rain"),), min_length=1)
    versions: int = Field(3, ge=1)
    patch: int = Field(64, ge=8)
    batch: int = Field(4, ge=1)
    workers: int = Field(1, ge=0)
    validation_patch: int = Field(128, ge=11)
    validation_crops: int = Field(2, ge=1)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the sources, each once, in order."""
        return tuple(dict.fromkeys(source.task for source in self.sources))


class Key(NamedTuple):
    """One draw: a background of a source, for the time `epoch`."""

    source: int
    epoch: int
    background: int


class Crops(Dataset):
    """Crops of chosen backgrounds, by `Key`.

    Args:
        sources: all of them.
        chosen: for each source, the places of the backgrounds to draw from.
        tasks: for each source, the place of its task.
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
    ):
        self.sources, self.chosen, self.tasks = sources, chosen, tasks
        self.patch, self.seed, self.augment = patch, seed, augment

    def __getitem__(self, key: Key) -> Batch | ManasError:
        rng = np.random.default_rng([self.seed, *key])
        index = self.chosen[key.source][key.background]
        try:
            crop = self.sources[key.source].crop(index, self.patch, rng, augment=self.augment)
        except ManasError as error:  # a worker would wrap it in a traceback
            return error
        degraded = torch.from_numpy(crop.degraded).permute(0, 3, 1, 2).contiguous()  # (K, 3, P, P)
        clean = torch.from_numpy(crop.clean).permute(2, 0, 1).contiguous()  # (3, P, P)
        return Batch(degraded, clean, torch.tensor(self.tasks[key.source]))


class Stream:
    """The endless global stream of keys from the position `start` on, every `step`-th of them.

    Of any `len(lengths)` consecutive positions from a multiple of it, each source has one; a source goes
    through its backgrounds in an order that changes with every epoch.
    """

    def __init__(self, lengths: Sequence[int], *, seed: int, start: int = 0, step: int = 1):
        self.lengths, self.seed, self.start, self.step = lengths, seed, start, step

    def __iter__(self) -> Iterator[Key]:
        return (self.key(position) for position in count(self.start, self.step))

    def key(self, position: int) -> Key:
        """The key at a position, a pure function of it."""
        turn, place = divmod(position, len(self.lengths))
        source = (place + turn) % len(self.lengths)  # rotated, so that every rank meets every source
        epoch, place = divmod(turn, self.lengths[source])
        return Key(source, epoch, int(_order(self.seed, source, epoch, self.lengths[source])[place]))


@lru_cache(maxsize=64)
def _order(seed: int, source: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, source, epoch]).permutation(length)


class Backgrounds:
    """The backgrounds of a configuration, parted by identity: no background is in two parts.

    Args:
        config: the data configuration.
        tasks: the tasks of the network, in order.
        seed: of the partition and of all draws.
        held_share: share of the backgrounds in the part ``held``; the rest is the part ``kept``.
    """

    def __init__(self, config: DataConfig, tasks: Sequence[str], *, seed: int, held_share: float):
        for task in config.tasks:
            if task not in tasks:
                raise ManasError(f"data.sources: no tower for the task {task!r}; {nearest(task, tasks)}")
        self.config, self.seed = config, seed
        self.tasks = [tasks.index(source.task) for source in config.sources]
        self.sources = [source.open(config.versions) for source in config.sources]
        held = partition([source.identities for source in self.sources], held_share, seed)
        self.parts = {
            "held": [[i for i, x in enumerate(s.identities) if x in held] for s in self.sources],
            "kept": [[i for i, x in enumerate(s.identities) if x not in held] for s in self.sources],
        }

    def batches(
        self, part: Literal["kept", "held"], *, step: int = 0, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Endless batches of this rank from a step on: `batch / world_size` backgrounds each."""
        if self.config.batch % world_size:
            raise ManasError(f"data.batch={self.config.batch} is not divisible by {world_size} processes")
        chosen = self.parts[part]
        start = step * self.config.batch + rank
        stream = Stream([len(c) for c in chosen], seed=self.seed, start=start, step=world_size)
        crops = self._crops(part, self.config.patch, self.seed, augment=True)
        return self._loaded(crops, stream, self.config.batch // world_size)

    def validation(
        self, part: Literal["kept", "held"], *, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """The same crops at every call, one background a batch; this rank's share of them."""
        crops = self._crops(part, self.config.validation_patch, self.seed + 1, augment=False)
        keys = [
            Key(source, epoch, index)
            for epoch in range(self.config.validation_crops)
            for source, chosen in enumerate(crops.chosen)
            for index in range(len(chosen))
        ]
        return self._loaded(crops, keys[rank::world_size], 1)

    def _crops(self, part: str, patch: int, seed: int, *, augment: bool) -> Crops:
        return Crops(self.sources, self.parts[part], self.tasks, patch=patch, seed=seed, augment=augment)

    def _loaded(self, crops: Crops, keys: Iterable[Key], size: int) -> Iterator[Batch]:
        loader = DataLoader(
            crops,
            batch_size=size,
            sampler=keys,
            num_workers=self.config.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own: the loader must not draw from the global one
        )
        for batch in loader:
            if isinstance(batch, ManasError):
                raise batch
            yield batch


def _collate(samples: list[Batch | ManasError]) -> Batch | ManasError:
    failed = next((sample for sample in samples if isinstance(sample, ManasError)), None)
    return failed or default_collate(samples)


def partition(identities: Sequence[Sequence[str]], share: float, seed: int) -> set[str]:
    """A seeded part of about `share` of each source's backgrounds, at least one, by identity.

    Sources that share backgrounds agree on them.

    Raises:
        ManasError: for a source that cannot be parted.
    """
    rng = np.random.default_rng([seed, 0x5917])
    held: set[str] = set()
    seen: set[str] = set()
    for names in identities:
        wanted = min(max(1, round(share * len(names))), len(names) - 1) - len(held.intersection(names))
        new = [name for name in names if name not in seen]
        held.update(new[place] for place in rng.permutation(len(new))[: max(wanted, 0)])
        seen.update(names)
    for place, names in enumerate(identities):
        if not 0 < len(held.intersection(names)) < len(names):
            raise ManasError(
                f"data.sources.{place}: {len(names)} background(s) cannot be parted; give at least two"
            )
    return held
