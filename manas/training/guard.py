"""The guard of a training: a gradient that is not finite, or far larger than before, breaks the step.

The gradient is watched layer by layer.
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
        steps: the number of steps that were left out.
        names: for each parameter, the number of these steps in which its gradient was broken.
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
        """The sentence that model cards and reports say about these steps."""
        return said_of(self.steps, "", self.parameters)

    def __str__(self) -> str:
        """Returns the words for the progress line: ``60 steps left out so far (stem.0.weight 60)``."""
        what = f"{self.steps} step{'s' * (self.steps != 1)} left out so far"
        return f"{what} ({self.parameters})" if self.names else what


def said_of(steps: int, of: str, parameters: str) -> str:
    """Words the sentence ``60 of 400 steps were left out: ...``, where `of` is `` of 400`` or empty."""
    were = "was" if steps == 1 and not of else "were"
    why = "the gradient was not finite or far beyond what it was before"
    what = f"{steps}{of} step{'' if were == 'was' else 's'} {were} left out, since {why}"
    return f"{what}: {parameters}" if parameters else what


def left_out_of(training: Mapping[str, Any]) -> Iterator[str]:
    """The sentence about the steps that a training left out, if it left out any.

    Args:
        training: the training summary of a model file, which may hold anything if the file is someone else's.
    """
    left_out, steps = training.get("steps_left_out"), training.get("steps")
    if isinstance(left_out, int) and left_out > 0:
        of = f" of {steps}" if isinstance(steps, int) else ""
        broken = training.get("broken_gradients")
        yield said_of(left_out, of, broken if isinstance(broken, str) else "")


class Guard:
    """Recognises a broken gradient by the norms of its parts, one part a parameter, all on the device.

    A part is broken if its norm is not finite, or if it is over `EXCESS` times its own running mean and above
    the running mean of the whole gradient: a tiny gradient may well grow, as long as it stays below the others.
    Zeros and broken steps do not enter the running means.

    Args:
        names: the names of the parameters.
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        self.names = names
        # The running means of the parts, and last that of the whole gradient; zero where none was seen yet.
        self.means = torch.zeros(len(names) + 1, device=device)
        self.broken = torch.zeros(len(names), device=device)  # the number of steps that each part broke

    def judge(self, norms: Tensor, norm: Tensor) -> Tensor:
        """Returns 1.0 for a step that is to be left out and 0.0 for any other, and remembers the norms.

        Args:
            norms: (P,) the norm of each parameter's gradient, zero where there is no gradient.
            norm: () the norm of the whole gradient.
        """
        # Nothing here asks the device for a number, which every step would have to wait for.
        latest = torch.cat([norms, norm[None]])
        usual = torch.where(self.means > 0, self.means, UNSEEN)
        off = ~latest.isfinite()
        off[:-1] |= (norms > EXCESS * usual[:-1]) & (norms > usual[-1])
        broken = off.any()
        updates = torch.where(self.means > 0, self.means.lerp(latest, WEIGHT), latest)
        self.means = torch.where((latest > 0) & ~broken, updates, self.means)
        self.broken = self.broken + off[:-1]
        return broken.float()

    def counts(self) -> dict[str, int]:
        """The number of steps that each parameter broke, if it broke any; waits for the device."""
        return {name: int(n) for name, n in zip(self.names, self.broken.tolist(), strict=True) if n}

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"means": self.means, "broken": self.broken}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from `state_dict`."""
        self.means = state["means"].to(self.means.device)
        self.broken = state["broken"].to(self.broken.device)
