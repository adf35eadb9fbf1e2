"""The gradient watched by layer: a norm that is far beyond what it was breaks the step, also if it is finite.

Clipping alone would let such a step through, with every other gradient turned to zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

EXCESS = 1e6  # times the running mean of a gradient's norm
WEIGHT = 0.1  # of the last norm in the running mean
# Losses are means over images in [0, 1], so the norm of a gradient that was not seen yet counts as 1: the very
# first step may be the broken one.
UNSEEN = 1.0
SHOWN = 3  # names in a sentence


@dataclass(frozen=True)
class LeftOut:
    """The steps that were left out, and the parameters whose gradients broke them.

    Attributes:
        steps: how many.
        names: in how many of the steps each parameter's gradient was broken.
    """

    steps: int = 0
    names: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.steps + other.steps, Counter(self.names) + Counter(other.names))

    @property
    def parameters(self) -> str:
        """The parameters that broke most steps: ``stem.0.weight 60, head.weight 2 and 4 others``."""
        counts = Counter(self.names).most_common()
        shown = ", ".join(f"{name} {count}" for name, count in counts[:SHOWN])
        others = len(counts) - SHOWN
        return shown if others <= 0 else f"{shown} and {others} other{'s' * (others > 1)}"

    @property
    def sentence(self) -> str:
        """For those who read of the run later."""
        return said_of(self.steps, "", self.parameters)

    def __str__(self) -> str:
        """``60 steps left out so far (stem.0.weight 60)``."""
        what = f"{self.steps} step{'s' * (self.steps != 1)} left out so far"
        return f"{what} ({self.parameters})" if self.names else what


def said_of(steps: int, of: str, parameters: str) -> str:
    """``60 of 400 steps were left out: ...``, where `of` is `` of 400`` or empty."""
    were = "was" if steps == 1 and not of else "were"
    why = "the gradient was not finite or far beyond what it was before"
    what = f"{steps}{of} step{'' if were == 'was' else 's'} {were} left out, since {why}"
    return f"{what}: {parameters}" if parameters else what


def left_out_of(training: Mapping[str, Any]) -> Iterator[str]:
    """The sentence about the steps that a training left out, if it left out any.

    Args:
        training: the summary in a model file; of a file from someone else it may hold anything.
    """
    left_out, steps = training.get("steps_left_out"), training.get("steps")
    if isinstance(left_out, int) and left_out > 0:
        of = f" of {steps}" if isinstance(steps, int) else ""
        broken = training.get("broken_gradients")
        yield said_of(left_out, of, broken if isinstance(broken, str) else "")


class Guard:
    """Tells a broken gradient by the norms of its parts, all on the device.

    A part is broken whose norm is not finite, or over `EXCESS` times its own running mean and above that of the
    whole gradient: a gradient that was next to nothing may well grow, as long as it is no more than the others.
    Zeros are no evidence of how large a gradient is, and broken steps none of how large it should be.

    Args:
        names: of the parameters.
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        self.names = names
        self.means = torch.zeros(len(names) + 1, device=device)  # of the parts, then of the whole; 0 is unseen
        self.broken = torch.zeros(len(names), device=device)  # steps that each part broke

    def judge(self, norms: Tensor, norm: Tensor) -> Tensor:
        """1.0 for a step that is to be left out, else 0.0; remembers the norms.

        Args:
            norms: (P,) one a parameter, zero without a gradient.
            norm: () of the whole gradient.
        """
        found = torch.cat([norms, norm[None]])
        usual = torch.where(self.means > 0, self.means, UNSEEN)
        off = ~found.isfinite()
        off[:-1] |= (norms > EXCESS * usual[:-1]) & (norms > usual[-1])
        broken = off.any()
        moved = torch.where(self.means > 0, self.means.lerp(found, WEIGHT), found)
        self.means = torch.where((found > 0) & ~broken, moved, self.means)
        self.broken = self.broken + off[:-1]
        return broken.float()

    def counts(self) -> dict[str, int]:
        """The steps that each parameter broke, without those that broke none; waits for the device."""
        return {name: int(n) for name, n in zip(self.names, self.broken.tolist(), strict=True) if n}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"means": self.means, "broken": self.broken}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state_dict`."""
        self.means = state["means"].to(self.means.device)
        self.broken = state["broken"].to(self.broken.device)
