"""The evidence for what a search chose: the gradients that moved its alphas, added up step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor
from torch.nn.functional import pad

from manas.architecture.choice import Choice
from manas.errors import ManasError
from manas.files import replacing

EVIDENCE_FILE = "evidence.json"


class Pull(BaseModel):
    """What pulled at the alphas of one fork: the mean gradients over the steps of a search, downhill.

    Attributes:
        names: the candidates.
        steps: the steps in which the fork took part.
        data: (K,) -dL/dalpha of the restoration's loss.
        other: (K,) the same of all losses that need no data: architecture, cost and the relaxation's own.
        errors: (K, K) the standard error, over the batches, of the difference of `data` of two candidates.
        log_probabilities: (K,) at the end of the search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    steps: int
    data: tuple[float, ...]
    other: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    log_probabilities: tuple[float, ...]


class Evidence:
    """Adds up the gradients of the alphas, step by step, without waiting for the device.

    Only the gradients of this process are counted; its batches are a sample of all.
    """

    def __init__(self, choices: Sequence[Choice]):
        self.choices = choices
        most = max(len(choice.names) for choice in choices)
        like = choices[0].alpha.detach()
        self.steps = [0] * len(choices)
        self.data, self.other = like.new_zeros(len(choices), most), like.new_zeros(len(choices), most)
        self.products = like.new_zeros(len(choices), most, most)

    @torch.no_grad()
    def add(self, data: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> None:
        """Adds the gradients (K,) of one step by choice, of the data and of the other losses."""
        self.steps = [n + (g is not None) for n, g in zip(self.steps, data, strict=True)]
        of_data = self._rows(data)
        self.data += of_data
        self.other += self._rows(other)
        self.products += of_data[:, :, None] * of_data[:, None, :]

    def pulls(self) -> dict[str, Pull]:
        """What pulled at the alphas of every choice, by label."""
        values = (self.data.tolist(), self.other.tolist(), self.products.tolist())
        return {
            choice.label: _pull(choice, steps, *(np.array(row) for row in rows))
            for choice, steps, *rows in zip(self.choices, self.steps, *values, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        return {"steps": self.steps, "data": self.data, "other": self.other, "products": self.products}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.steps = list(state["steps"])
        for name in ("data", "other", "products"):
            getattr(self, name).copy_(state[name])

    def _rows(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """(F, most), a row a choice; zeros where it took no part or has fewer candidates, or a step broke."""
        most = self.data.shape[1]
        rows = [self.data.new_zeros(most) if g is None else pad(g, (0, most - len(g))) for g in gradients]
        return torch.stack(rows).nan_to_num(0, 0, 0)


def _pull(choice: Choice, steps: int, data: np.ndarray, other: np.ndarray, products: np.ndarray) -> Pull:
    count, n = len(choice.names), max(1, steps)
    mean = data[:count] / n
    covariance = products[:count, :count] / n - np.outer(mean, mean)
    variances = np.diag(covariance)
    of_differences = variances[:, None] + variances[None, :] - 2 * covariance
    errors = np.sqrt(np.clip(of_differences, 0, None) / max(1, n - 1))
    return Pull(
        names=choice.names,
        steps=steps,
        data=tuple((-mean).tolist()),
        other=tuple((-other[:count] / n).tolist()),
        errors=tuple(tuple(row) for row in errors.tolist()),
        log_probabilities=tuple(choice.relaxation.log_probabilities(choice)[0].tolist()),
    )


def write_evidence(pulls: Mapping[str, Pull], run: Path) -> None:
    """Writes the pulls into a run directory."""
    with replacing(run / EVIDENCE_FILE) as temporary:
        temporary.write_bytes(_PULLS.dump_json(dict(pulls), indent=1) + b"\n")


def read_evidence(run: Path) -> dict[str, Pull]:
    """Reads the pulls of the search in a run directory.

    Raises:
        ManasError: for a directory without them.
    """
    path = run / EVIDENCE_FILE
    try:
        return _PULLS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ManasError(f"{path}: cannot read the evidence of a search by gradient: {error}") from error


_PULLS = TypeAdapter(dict[str, Pull])
