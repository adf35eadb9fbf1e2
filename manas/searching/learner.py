"""Steps of a network's weights, with the optimiser and schedule of a search."""

from __future__ import annotations

from torch import Tensor, nn

from manas.architecture.choice import weight_parameters
from manas.data.dataset import Batch
from manas.searching.bilevel import descend, first_order
from manas.searching.config import SearchConfig
from manas.training.distributed import Process
from manas.training.optimiser import Descent, RunningStatistics, decay_groups
from manas.training.schedule import set_rate
from manas.training.step import Objective


class Learner:
    """A network whose weights learn.

    Args:
        total: steps of the whole training.
    """

    def __init__(self, network: nn.Module, config: SearchConfig, process: Process, total: int):
        self.network, self.config, self.process, self.total = network, config, process, total
        self.weights = weight_parameters(network)
        self.statistics = RunningStatistics(network)
        optimiser = config.weights.build(decay_groups(network))
        self.descent = Descent(optimiser, self.statistics, config.weights.clip)
        self.objective = Objective(config.loss, process, config.precision)

    def set_rate(self, step: int) -> float:
        """Sets the learning rate of a step; returns the share of the training that is done."""
        set_rate(self.descent.optimiser, self.config.schedule.factor(step, self.total))
        return step / self.total

    def loss(self, batch: Batch, progress: float) -> Tensor:
        """The loss in training mode on a batch."""
        self.network.train()
        return self.objective(self.network, batch, progress)

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step of the weights; returns the terms of the loss by name."""
        progress = self.set_rate(step)
        parts = batch.split(self.config.accumulate)
        gradients = first_order(lambda part: self.loss(part, progress), parts, self.weights)
        norm = descend(gradients, self.weights, self.descent, self.process)
        return self.logged({**self.objective.terms(), "gradient": norm})

    @staticmethod
    def logged(terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms under the name that logs have for them."""
        return {f"weights/{name}": term for name, term in terms.items()}
