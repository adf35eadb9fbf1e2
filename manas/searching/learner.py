"""Steps of a network's weights, with the optimiser and schedule of a search."""

from __future__ import annotations

from torch import nn

from manas.architecture.choice import weight_parameters
from manas.data.dataset.backgrounds import Batch
from manas.searching.bilevel import Gradients, descend, first_order
from manas.searching.config import SearchConfig
from manas.training.distributed import Process
from manas.training.optimiser import Descent, RunningStatistics, decay_groups
from manas.training.schedule import set_rate
from manas.training.step import Objective, Terms


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

    def step(self, batch: Batch, step: int) -> Terms:
        """One step of the weights; returns the terms of the loss by the names of the logs."""
        progress = self.set_rate(step)
        self.network.train()
        parts = batch.split(self.config.accumulate)
        gradients, terms = first_order(
            lambda part: self.objective(self.network, part, progress), parts, self.weights
        )
        return self.descend(gradients, terms)

    def descend(self, gradients: Gradients, terms: Terms) -> Terms:
        """One step of the weights along given gradients; returns the terms by the names of the logs."""
        norm = descend(gradients, self.weights, self.descent, self.process)
        return {f"weights/{name}": term for name, term in (terms | {"gradient": norm}).items()}
