"""The training of one architecture alone, from its first weights to its score."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from manas.device import place
from manas.searching.method import Method
from manas.training.guard import LeftOut
from manas.training.initialise import start
from manas.training.schedule import set_rate
from manas.training.step import Terms


class TrainingAlone:
    """The training of one architecture by the losses, the optimiser and the schedule of a search.

    Two trainings of one seed and one first batch see the same batches in the same order.

    Attributes:
        network: the network of the architecture.
        notes: a line for each remedy of numerics.

    Args:
        method: the search, whose data, objective and meter it shares.
        steps: number of steps of the whole training.
        seed: seed of the first weights.
        first: number of the first batch in the stream of the search.
    """

    def __init__(self, method: Method, choices: Mapping[str, str], steps: int, *, seed: int, first: int = 0):
        self.method, self.steps, self.done = method, steps, 0
        torch.manual_seed(seed)
        self.network = place(method.config.space.network(choices), method.process.device)
        start(self.network, method.data.backgrounds, method.process)
        self.notes = method.sound(self.network)
        method.meter.watch(self.network)
        self.batches = method.data.for_weights(first)
        has_weights = any(True for _ in self.network.parameters())
        self.descent = method.descent(self.network) if steps and has_weights else None

    def step(self) -> Terms:
        """Takes the next step of the weights; a network that has none has nothing to learn."""
        if self.descent is None:
            return {}
        set_rate(self.descent.optimiser, self.method.config.schedule.factor(self.done, self.steps))
        terms = self.method.weight_step(self.network, self.descent, next(self.batches), self.done / self.steps)
        self.done += 1
        return terms

    def score(self) -> float:
        """PSNR-Y in dB on the validation crops, with statistics that belong to the weights as they are."""
        return self.method.data.psnr_alone(self.network)

    def left_out(self) -> LeftOut:
        """The steps so far whose gradient was broken."""
        return self.descent.check() if self.descent else LeftOut()
