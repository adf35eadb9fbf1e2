"""The backgrounds of a search: the weights learn from one part, the alphas and validation see the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.crops import Batch
from manas.errors import ManasError
from manas.restoration.network import size_multiple_of, tasks_of
from manas.searching.config import SearchConfig
from manas.training.distributed import Process
from manas.training.estimated_statistics import Statistics
from manas.training.validation import untouched, validate


class SearchData:
    """The data of a search.

    Attributes:
        backgrounds: all backgrounds, in two parts.
        validation: crops of the part that the alphas see.
        input: PSNR-Y in dB of these crops as they are, degraded.
        statistics: estimates normalisation statistics from batches of the weights' part.

    Raises:
        ManasError: for data that cannot be used.
    """

    def __init__(self, config: SearchConfig, process: Process):
        self.config, self.process = config, process
        self.tasks = tasks_of(config.space) or config.data.tasks
        own = config.data.batch // process.world_size
        # Equal parts, since the gradient of a batch is the mean of those of its parts.
        if own % config.accumulate:
            raise ManasError(
                f"accumulate={config.accumulate}: the {own} backgrounds of a process cannot be split into so "
                "many equal parts; change it or data.batch"
            )
        multiple = _size_multiple(config)
        self.backgrounds = Backgrounds(
            config.data,
            self.tasks,
            seed=config.seed,
            held_share=config.alpha_share,
            multiple=multiple,
            **process.share_of_data(),
        )
        self.validation = self.backgrounds.validation("held")
        self.input = untouched(self.validation, self.tasks, process)["input"]
        self.statistics = Statistics(self.backgrounds, process)

    def for_weights(self, step: int = 0) -> Iterator[Batch]:
        """Batches of the part that the weights learn from, from step number `step` on."""
        return self.backgrounds.batches("kept", step=step)

    def for_alphas(self, step: int = 0) -> Iterator[Batch]:
        """Batches of the part that the alphas see, from their step number `step` on."""
        return self.backgrounds.batches("held", step=step)

    def psnr(self, network: nn.Module, *, training: bool) -> float:
        """PSNR-Y in dB on the validation crops; with `training`, layers normalise by batch statistics."""
        precision = self.config.precision
        scores = validate(network, self.validation, self.tasks, self.process, precision, training=training)
        return scores["psnr"]

    def psnr_alone(self, network: nn.Module) -> float:
        """PSNR-Y in dB of a network that was trained alone, as a retraining judges it.

        Its running statistics are estimated anew, since those of the training belong to earlier weights. The
        statistics of each validation crop would help by 0.8 to 3.4 dB (20 trainings of `manas_tiny`, of 100
        steps) and rank otherwise, but a network that restores pictures does not have them.
        """
        self.statistics.estimate(network)
        return self.psnr(network, training=False)

    @property
    def images_of_a_step(self) -> int:
        """The number of images in a step, over all processes."""
        return self.config.data.batch * self.config.data.versions

    @property
    def images_of_validation(self) -> int:
        """The number of images in a validation, over all processes."""
        data = self.config.data
        return data.validation_images * len(data.sources) * data.versions


def _size_multiple(config: SearchConfig) -> int:
    with torch.device("meta"):
        multiple = size_multiple_of(config.space.supernet())
    if min(config.input[1:]) < 1 or any(side % multiple for side in config.input[1:]):
        raise ManasError(f"budget.size: the network takes multiples of {multiple}; change it")
    return multiple
