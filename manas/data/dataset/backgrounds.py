"""The batches of a training: crops of backgrounds, each with its degradations.

Every draw is a function of (seed, source, epoch, index), and the position in the endless stream of such keys is
a function of the step. So the number of workers changes nothing, N ranks together see the data of one process,
and a resumed run goes on exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from manas.data.dataset.cache import ImageCache, ImageStore
from manas.data.dataset.config import DataConfig
from manas.data.dataset.crops import Batch, Crops, collate
from manas.data.dataset.identities import fusions, identities
from manas.data.dataset.sources import Source
from manas.data.dataset.stream import CropKey, Stream, partition
from manas.errors import ManasError, nearest

Part = Literal["kept", "held"]


class Backgrounds:
    """The backgrounds of a configuration in two parts, which share no picture; `counts` says how many each has.

    Args:
        config: the data configuration.
        tasks: the tasks of the network, in order.
        seed: the seed of the partition and of all draws.
        held_share: share of the backgrounds in the part ``held``; all others are in the part ``kept``.
        multiple: the size multiple of the network, of which the sides of crops must be multiples.
        rank, world_size: the number of this process, and the number of processes that share the batches.
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
        pictures = [source.pictures for source in self.sources]
        names = identities(pictures)
        self.notes = [*self._notes(tasks), *fusions(pictures, names)]
        held = partition(names, held_share, seed)
        self.parts = {
            "held": [[i for i, name in enumerate(own) if name in held] for own in names],
            "kept": [[i for i, name in enumerate(own) if name not in held] for own in names],
        }
        self.counts = {
            "held": len(held),
            "kept": len({name for own in names for name in own} - held),
        }

    def _notes(self, tasks: Sequence[str]) -> Iterator[str]:
        for place, source in enumerate(self.sources):
            yield from (f"data.sources.{place}: {note}" for note in source.notes)
        for task in tasks:
            if task not in self.config.tasks:
                others = "its tower learns from the images of the others alone"
                yield f"data.sources: none is of the task {task!r}; {others}"

    def batches(self, part: Part, *, step: int = 0, workers: int | None = None) -> Iterator[Batch]:
        """Endless batches of this process, each of `batch / world_size` backgrounds.

        Args:
            part: the part that the backgrounds are from.
            step: the step whose batch comes first.
            workers: number of processes that load the batches; that of the configuration unless given.
        """
        ranks = self.world_size
        # Ranks take turns in one global stream, so that together they see the batch of one process.
        start = step * self.config.batch + self.rank
        lengths = [len(chosen) for chosen in self.parts[part]]
        weights = [source.weight for source in self.config.sources]
        stream = Stream(lengths, weights, seed=self.seed, start=start, step=ranks)
        crops = self._crops(
            part, self.config.patch, self.seed, augment=True, clean_share=self.config.clean_share
        )
        workers = self.config.workers if workers is None else workers
        return self._load(crops, stream, self.config.batch // ranks, workers)

    def validation(self, part: Part) -> list[Batch]:
        """This process's share of the validation crops, one background a batch, the sources taking turns."""
        # With another seed, so that no crop of the training is drawn again.
        crops = self._crops(part, self.config.validation_patch, self.seed + 1, augment=False)
        keys = [
            CropKey(source, *divmod(image, len(chosen)))
            for image in range(self.config.validation_images)
            for source, chosen in enumerate(crops.chosen)
        ]
        return list(self._load(crops, keys[self.rank :: self.world_size], 1, workers=0))

    def _crops(self, part: str, patch: int, seed: int, **options: Any) -> Crops:
        return Crops(self.sources, self.parts[part], self.tasks, patch=patch, seed=seed, **options)

    def _load(self, crops: Crops, keys: Iterable[CropKey], size: int, workers: int) -> Iterator[Batch]:
        loader = DataLoader(
            crops,
            batch_size=size,
            sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else the loader draws from the global one, which the training uses
        )
        for batch in loader:
            if isinstance(batch, ManasError):  # workers return errors, since a raised one comes as a traceback
                raise batch
            yield batch


def _check_backgrounds(source: Source, config: DataConfig) -> None:
    """Refuses backgrounds that are smaller than the crops, before the first step."""
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
    """Refuses sizes that the network or the number of processes cannot take, before any file is read."""
    for name in ("patch", "validation_patch"):
        size = getattr(config, name)
        if size % multiple:
            near = size + multiple - size % multiple
            raise ManasError(f"data.{name}={size}: the network takes multiples of {multiple}; set it to {near}")
    if config.batch % world_size:
        raise ManasError(f"data.batch={config.batch} is not divisible by {world_size} processes")
