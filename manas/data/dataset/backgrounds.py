"""Backgrounds x degradations -> batches.

Every draw is a function of (seed, source, epoch, index), and the position in the endless stream of such keys
is a function of the step. So the number of workers changes nothing, N ranks see what one process would see,
and a resumed run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from manas.data.dataset.cache import ImageCache, ImageStore
from manas.data.dataset.source_config import SourceConfig
from manas.data.dataset.sources import Source
from manas.data.dataset.stream import Key, Stream, partition
from manas.errors import ManasError, nearest

Part = Literal["kept", "held"]

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


class DataConfig(BaseModel):
    """What a search or a retraining sees.

    Attributes:
        sources: mixed by their weights.
        versions: K, the degradations of one background in a batch.
        clean_share: of the training samples, those whose K "degraded" versions are the clean crop itself, so
            that the network learns to leave a clean picture alone; no tower's own, so their task is -1.
        patch: side of the crops in pixels.
        batch: backgrounds a step, over all processes.
        workers: loader processes of each process; 0 loads in the process itself.
        validation_patch: side of the validation crops.
        validation_images: validation crops of each source.
        cache_megabytes: for decoded images, shared out among the workers of a loader.
        cache_folder: keeps decoded images in files there instead, which all processes and later runs map
            into their memory; `cache_megabytes` then is for the folder. Without it, every worker has its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceConfig, ...] = Field((SourceConfig(task="derain", weather="rain"),), min_length=1)
    versions: int = Field(3, ge=1)
    clean_share: float = Field(0, ge=0, lt=1)
    patch: int = Field(64, ge=8)
    batch: int = Field(4, ge=1)
    workers: int = Field(1, ge=0)
    validation_patch: int = Field(128, ge=11)
    validation_images: int = Field(16, ge=1)
    cache_megabytes: int = Field(2048, ge=0)
    cache_folder: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the sources, each once, in order."""
        return tuple(dict.fromkeys(source.task for source in self.sources))


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


class Backgrounds:
    """The backgrounds of a configuration, parted by identity: no background is in two parts.

    Args:
        config: the data configuration.
        tasks: the tasks of the network, in order.
        seed: of the partition and of all draws.
        held_share: share of the backgrounds in the part ``held``; the rest is the part ``kept``.
        multiple: the network's; crops must be multiples of it.
        rank, world_size: this process among those that share the batches.
        pin: whether batches go to a GPU.
    """

    def __init__(
        self,
        config: DataConfig,
        tasks: Sequence[str],
        *,
        seed: int,
        held_share: float,
        multiple: int = 1,
        rank: int = 0,
        world_size: int = 1,
        pin: bool = False,
    ):
        _check_sizes(config, multiple, world_size)
        self.rank, self.world_size, self.pin = rank, world_size, pin
        _check_tasks(config, tasks)
        self.config, self.seed = config, seed
        self.tasks = [tasks.index(source.task) for source in config.sources]
        cache = _cache(config)
        self.sources = [source.open(config.versions, cache) for source in config.sources]
        for source in self.sources:
            _check_backgrounds(source, config)
        self.notes = list(self._notes(tasks))
        held = partition([source.identities for source in self.sources], held_share, seed)
        self.parts = {
            "held": [[i for i, x in enumerate(s.identities) if x in held] for s in self.sources],
            "kept": [[i for i, x in enumerate(s.identities) if x not in held] for s in self.sources],
        }

    def _notes(self, tasks: Sequence[str]) -> Iterator[str]:
        for place, source in enumerate(self.sources):
            yield from (f"data.sources.{place}: {note}" for note in source.notes)
        for task in tasks:
            if task not in self.config.tasks:
                others = "its tower learns from the images of the others alone"
                yield f"data.sources: none is of the task {task!r}; {others}"

    def batches(self, part: Part, *, step: int = 0, workers: int | None = None) -> Iterator[Batch]:
        """Endless batches of this process from a step on: `batch / world_size` backgrounds each.

        Args:
            workers: processes that load them, those of the configuration unless given.
        """
        ranks = self.world_size
        start = step * self.config.batch + self.rank
        lengths = [len(chosen) for chosen in self.parts[part]]
        weights = [source.weight for source in self.config.sources]
        stream = Stream(lengths, weights, seed=self.seed, start=start, step=ranks)
        crops = self._crops(
            part, self.config.patch, self.seed, augment=True, clean_share=self.config.clean_share
        )
        workers = self.config.workers if workers is None else workers
        return self._loaded(crops, stream, self.config.batch // ranks, workers)

    def validation(self, part: Part) -> list[Batch]:
        """This process's share of the validation crops, one background a batch, the sources in turn."""
        crops = self._crops(part, self.config.validation_patch, self.seed + 1, augment=False)
        keys = [
            Key(source, *divmod(image, len(chosen)))
            for image in range(self.config.validation_images)
            for source, chosen in enumerate(crops.chosen)
        ]
        return list(self._loaded(crops, keys[self.rank :: self.world_size], 1, workers=0))

    def _crops(self, part: str, patch: int, seed: int, **options: Any) -> Crops:
        return Crops(self.sources, self.parts[part], self.tasks, patch=patch, seed=seed, **options)

    def _loaded(self, crops: Crops, keys: Iterable[Key], size: int, workers: int) -> Iterator[Batch]:
        loader = DataLoader(
            crops,
            batch_size=size,
            sampler=keys,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=self.pin,
            generator=torch.Generator(),  # its own: the loader must not draw from the global one
        )
        for batch in loader:
            if isinstance(batch, ManasError):
                raise batch
            yield batch


def _check_backgrounds(source: Source, config: DataConfig) -> None:
    """Before the first step: a background that is smaller than the crops."""
    largest = max(config.patch, config.validation_patch)
    small = [name for name, size in source.sizes.items() if min(size) < largest]
    if small:
        width, height = source.sizes[small[0]]
        raise ManasError(
            f"{small[0]}: {width}x{height} is smaller than the crops of {largest} ({len(small)} such files); "
            "lower data.patch or data.validation_patch, or leave them out"
        )


def _cache(config: DataConfig) -> ImageCache | ImageStore:
    budget = config.cache_megabytes * 2**20
    if config.cache_folder is not None:
        return ImageStore(Path(config.cache_folder), budget)
    return ImageCache(budget // max(1, config.workers))


def _check_tasks(config: DataConfig, tasks: Sequence[str]) -> None:
    for task in config.tasks:
        if task not in tasks:
            raise ManasError(
                f"data.sources: no tower for the task {task!r}; {nearest(task, tasks)}; give the network one, "
                "or leave the source out"
            )


def _check_sizes(config: DataConfig, multiple: int, world_size: int) -> None:
    """Before anything is read: what the network or the number of processes cannot take."""
    for name in ("patch", "validation_patch"):
        size = getattr(config, name)
        if size % multiple:
            near = size + multiple - size % multiple
            raise ManasError(f"data.{name}={size}: the network takes multiples of {multiple}; set it to {near}")
    if config.batch % world_size:
        raise ManasError(f"data.batch={config.batch} is not divisible by {world_size} processes")


def _collate(samples: list[Batch | ManasError]) -> Batch | ManasError:
    failed = next((sample for sample in samples if isinstance(sample, ManasError)), None)
    return failed or default_collate(samples)
