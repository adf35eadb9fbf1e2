"""The learning rate as a function of the step, so that there is no state to save."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.optim import Optimizer

from manas.errors import ManasError

Share = Annotated[float, Field(gt=0, lt=1)]


class ScheduleConfig(BaseModel):
    """Linear warm-up, then a cosine (Loshchilov and Hutter, ICLR 2017), or one drop after the other.

    Attributes:
        warmup: share of the steps in which the rate rises in equal parts to the base rate, the first step
            having one part.
        floor: share of the base rate at which the cosine ends.
        drops: instead of the cosine, the shares of all steps after which the rate falls at once; without any,
            it stays.
        drop: the factor on the rate at each drop; 0.5 unless given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup: float = Field(0.02, ge=0, lt=1)
    floor: float = Field(0.0, ge=0, le=1)
    drops: tuple[Share, ...] | None = None
    drop: Share | None = None

    @model_validator(mode="after")
    def _everything_has_effect(self) -> ScheduleConfig:
        if self.drops is not None and self.floor:
            raise ManasError("schedule.drops takes the place of the cosine, which ends at floor; set floor=0")
        if self.drop is not None and not self.drops:
            raise ManasError("schedule.drop has no effect without drops; say after which shares of the steps")
        return self

    def factor(self, step: int, steps: int) -> float:
        """The share of the base rate at `step` of `steps`."""
        warmup = max(1, round(self.warmup * steps))
        if step < warmup and self.warmup:
            return (step + 1) / warmup  # a first step at rate zero would be wasted
        if self.drops is not None:
            count = sum(step >= round(drop * steps) for drop in self.drops)
            return (self.drop or 0.5) ** count
        done = (step - warmup * bool(self.warmup)) / max(1, steps - warmup * bool(self.warmup))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


def set_rate(optimiser: Optimizer, factor: float) -> None:
    """Sets the rate of every group to `factor` times its base rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
