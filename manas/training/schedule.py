"""The learning rate as a function of the step, so that there is no state to save."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field
from torch.optim import Optimizer


class ScheduleConfig(BaseModel):
    """Linear warm-up, then a cosine (Loshchilov and Hutter, ICLR 2017).

    Attributes:
        warmup: share of the steps in which the rate rises from zero.
        floor: share of the base rate at which the cosine ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup: float = Field(0.02, ge=0, lt=1)
    floor: float = Field(0.0, ge=0, le=1)

    def factor(self, step: int, steps: int) -> float:
        """The share of the base rate at `step` of `steps`."""
        rising = max(1, round(self.warmup * steps))
        if step < rising and self.warmup:
            return (step + 1) / rising
        done = (step - rising * bool(self.warmup)) / max(1, steps - rising * bool(self.warmup))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


def set_rate(optimiser: Optimizer, factor: float) -> None:
    """Sets the rate of every group to `factor` times its base rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
