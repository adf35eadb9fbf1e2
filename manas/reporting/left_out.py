"""The sentence about steps that a training left out, for the report and for the model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manas.training.guard import said_of


def left_out_of(training: Mapping[str, Any]) -> Iterator[str]:
    """The sentence, if steps were left out.

    Args:
        training: the summary in a model file; of a file from someone else it may hold anything.
    """
    left_out, steps = training.get("steps_left_out"), training.get("steps")
    if isinstance(left_out, int) and left_out > 0:
        of = f" of {steps}" if isinstance(steps, int) else ""
        broken = training.get("broken_gradients")
        yield said_of(left_out, of, broken if isinstance(broken, str) else "")
