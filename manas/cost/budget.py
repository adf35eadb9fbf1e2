"""A budget for the derived network, and the pressure with which it enters the loss of the alphas."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu

from manas.architecture.choice import probabilities_of
from manas.cost.table import CostTable, Metric
from manas.errors import ManasError

COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def _quantity(units: dict[str, float], value: Any) -> Any:
    """Reads ``2.0G``, ``500k`` or ``40ms`` as a number; returns any other value as it is."""
    number = r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*"
    match = re.fullmatch(number, value) if isinstance(value, str) else None
    if match is None:
        return value
    if match[2] not in units:
        example = "40ms or 0.04s" if units is SECONDS else "2.0G, 1.5M or 500k"
        raise ManasError(f"{value!r} has no unit that fits; write it as {example}")
    return float(match[1]) * units[match[2]]


Positive = Field(gt=0, allow_inf_nan=False)
Count = Annotated[float, BeforeValidator(partial(_quantity, COUNTS)), Positive]
Seconds = Annotated[float, BeforeValidator(partial(_quantity, SECONDS)), Positive]


class BudgetConfig(BaseModel):
    """The largest cost of the derived network: one of `macs`, `parameters` and `latency`.

    Attributes:
        macs: multiply-accumulates for one image of `size`, as in ``2.0G``.
        parameters: number of parameters, as in ``1.5M``.
        latency: time for one image of `size` on the device of the search, as in ``40ms``.
        size: (height, width) of that image; the patch of the search unless given.
        table: a file of latencies that were measured before, maybe elsewhere: the ``cost.json`` of another
            search, or what `manas.cost.latency.latency_table` made on the device that counts.
        spend: share of the budget that is to be used at least, if the dearest architecture uses as much.
        rate: step of the multiplier with which the hinge enters the loss, for an excess of the whole budget.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    macs: Count | None = None
    parameters: Count | None = None
    latency: Seconds | None = None
    size: tuple[int, int] | None = None
    table: str | None = None
    spend: float = Field(0.9, ge=0, lt=1)
    rate: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _one_metric(self) -> BudgetConfig:
        if sum(value is not None for value in (self.macs, self.parameters, self.latency)) != 1:
            raise ManasError("a budget is of one kind; give one of macs, parameters and latency")
        if self.parameters is not None and self.size is not None:
            raise ManasError("parameters do not depend on the size of an image; leave size out")
        if self.table is not None and self.latency is None:
            raise ManasError("parameters and MACs are counted, not measured; leave table out")
        return self

    @property
    def metric(self) -> Metric:
        """The metric that the budget limits."""
        return "macs" if self.macs is not None else "parameters" if self.parameters is not None else "latency"

    @property
    def limit(self) -> float:
        """The budget as a number, in seconds for a latency."""
        return next(v for v in (self.macs, self.parameters, self.latency) if v is not None)


class FrontConfig(BaseModel):
    """The budgets of a front, of one kind: one search finds an architecture for each.

    Attributes:
        macs, parameters, latency: the largest costs, as in ``[1G, 2G, 4G]``; see `BudgetConfig`.
        size: (height, width) of the image that MACs and latency are of; the patch of the search unless given.
        table: a file of latencies measured before; see `BudgetConfig`.
        spend: share of each budget that is to be used at least, if the dearest architecture uses as much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    macs: tuple[Count, ...] = ()
    parameters: tuple[Count, ...] = ()
    latency: tuple[Seconds, ...] = ()
    size: tuple[int, int] | None = None
    table: str | None = None
    spend: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _complete(self) -> FrontConfig:
        if not self.budgets:
            raise ManasError("a front has one budget at least; give macs, parameters or latency, as [1G, 2G]")
        return self

    @property
    def budgets(self) -> tuple[BudgetConfig, ...]:
        """The budgets, from the smallest on."""
        limits = {"macs": self.macs, "parameters": self.parameters, "latency": self.latency}
        given = [(name, limit) for name, of in limits.items() for limit in sorted(set(of))]
        if len({name for name, _ in given}) > 1:
            raise ManasError("a front is of one kind; give one of macs, parameters and latency")
        common = {"size": self.size, "table": self.table, "spend": self.spend}
        return tuple(BudgetConfig(**common, **{name: limit}) for name, limit in given)


class Pressure:
    """The complexity loss under a budget: a hinge whose multiplier adapts to the derived network.

    The hinge is on the larger of the expected cost and the cost of the derived network, with the gradient of
    the expected cost, so that there is a pressure as long as the derived network is too dear.
    """

    def __init__(self, table: CostTable, budget: BudgetConfig, device: torch.device):
        self.table, self.limit, self.rate = table, budget.limit, budget.rate
        self.multiplier = torch.zeros((), device=device)

    def loss(self, network: nn.Module) -> Tensor:
        """The hinge times its multiplier."""
        return self.multiplier * relu(self._excess(network))

    @torch.no_grad()
    def adapt(self, network: nn.Module) -> None:
        """Raises the multiplier if the budget is exceeded, and lowers it if there is room."""
        excess = self._excess(network).to(self.multiplier.dtype)
        self.multiplier = (self.multiplier + self.rate * excess).clamp(min=0)

    def _excess(self, network: nn.Module) -> Tensor:
        """The excess over the budget as a share of the budget; negative if there is room."""
        probabilities = probabilities_of(network)
        expected = self.table.expected(probabilities)
        chosen = {label: one_hot(p.argmax(), len(p)).to(p) for label, p in probabilities.items()}
        derived = self.table.expected(chosen)
        return (expected + relu(derived - expected).detach()) / self.limit - 1


def amount(cost: float, metric: Metric) -> str:
    """Writes a cost with its unit: ``1.93 G MACs``, ``1.50 M parameters``, ``40.0 ms``."""
    if metric == "latency":
        return f"{cost * 1e3:.3g} ms"
    name = "MACs" if metric == "macs" else metric
    for factor, unit in ((1e9, "G "), (1e6, "M "), (1e3, "k ")):
        if cost >= factor:
            return f"{cost / factor:.4g} {unit}{name}"
    return f"{cost:.0f} {name}"
