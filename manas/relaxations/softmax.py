"""The softmax of DARTS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from manas.architecture.choice import Choice, Moment
from manas.relaxations.base import Relaxation, Scheduled, scheduled


class Softmax(Relaxation):
    """The continuous relaxation of DARTS (Liu et al., ICLR 2019, eq. 2): w = softmax(alpha / temperature)."""

    is_softmax: ClassVar[bool] = True
    is_noiseless: ClassVar[bool] = True

    temperature: Scheduled = 1.0

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Softmax:
        return self.model_copy(update={"temperature": scheduled(self.temperature, moment.progress)})

    def logits(self, choice: Choice) -> Tensor:
        return choice.alpha / scheduled(self.temperature, 0)
