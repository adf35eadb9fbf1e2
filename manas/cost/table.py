"""A table of what architectures cost: parameters, MACs or latency of every candidate, expected and exact.

    expected = fixed + sum over the outermost forks of E(fork)
    E(fork)  = sum_k p_k (own_k + sum over the forks inside candidate k of E(fork))

`counting.py` makes the table of what can be counted, `latency.py` that of what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from torch import Tensor

from manas.architecture.forks import Fork, nodes_of, zeros_of
from manas.device import widest_float
from manas.errors import ManasError, explain, nearest

Metric = Literal["parameters", "macs", "latency"]


@dataclass(frozen=True)
class ForkCost:
    """Costs of the K candidates of one fork, without the forks inside them, and the labels of those."""

    names: tuple[str, ...]
    own: Tensor  # (K,) float64, in which counts are exact
    inside: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CostTable:
    """Costs of all architectures of a space: counts, or seconds.

    Attributes:
        fixed: what every architecture costs.
        outermost: labels of the forks that every architecture reaches.
        forks: label -> costs of its candidates.
        origin: the metric, the input [3, H, W], and for a latency where and how it was measured.
        nodes: sums in the networks, each with the labels of the forks whose outputs enter it.
        zeros: label -> the candidate that is zero, of the forks that have one.
    """

    fixed: float
    outermost: tuple[str, ...]
    forks: Mapping[str, ForkCost]
    origin: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zeros: Mapping[str, str] = field(default_factory=dict)

    def to(self, device: torch.device) -> CostTable:
        """The table on a device."""
        dtype = widest_float(device)
        forks = {label: replace(fork, own=fork.own.to(device, dtype)) for label, fork in self.forks.items()}
        return replace(self, forks=forks)

    def with_nodes_of(self, forks: Sequence[Fork]) -> CostTable:
        """The table with the nodes and the zeros that the outermost forks of a space, and those inside, say."""
        return replace(self, nodes=nodes_of(forks), zeros=zeros_of(forks))

    def expected(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """The expected cost, differentiable in the (K,) probabilities by label."""

        def of(label: str) -> Tensor:
            fork, p = self.forks[label], probabilities[label]
            total = (p * fork.own).sum()
            for k, labels in enumerate(fork.inside):
                for inner in labels:
                    total = total + p[k] * of(inner)
            return total

        # The number is added as it is: as a tensor it would be one of float64, which mps does not have.
        total = sum(of(label) for label in self.outermost) + self.fixed
        return total if isinstance(total, Tensor) else torch.tensor(total, dtype=torch.float64)

    def exact(self, choices: Mapping[str, str]) -> float:
        """The cost of one architecture; forks that it does not reach are not asked for.

        Raises:
            ManasError: for a label or a candidate that the space does not have, or a choice that is missing.
        """

        def missing(label: str, _: Iterable[float]) -> float:
            raise ManasError(f"no choice for {label!r}; add one of: {', '.join(self.forks[label].names)}")

        return self._completed(choices, missing)

    def cheapest(self, given: Mapping[str, str] = {}) -> float:
        """The cost of the cheapest architecture with the `given` choices at those of their forks it reaches."""
        return self._completed(given, lambda _, costs: min(costs))

    def dearest(self, given: Mapping[str, str] = {}) -> float:
        """The cost of the dearest architecture with the `given` choices at those of their forks it reaches."""
        return self._completed(given, lambda _, costs: max(costs))

    def _completed(self, given: Mapping[str, str], complete: Callable[[str, Iterable[float]], float]) -> float:
        places = {label: self._place(label, name) for label, name in given.items()}

        def of(label: str) -> float:
            fork = self.forks[label]
            own = fork.own.tolist()

            def way(k: int) -> float:
                return own[k] + sum(of(inner) for inner in fork.inside[k])

            return way(places[label]) if label in places else complete(label, map(way, range(len(own))))

        return self.fixed + sum(of(label) for label in self.outermost)

    def _place(self, label: str, name: str) -> int:
        if label not in self.forks:
            raise ManasError(f"the space has no fork {label!r}; {nearest(label, self.forks)}")
        names = self.forks[label].names
        if name not in names:
            raise ManasError(f"{label!r} has no candidate {name!r}; {nearest(name, names)}")
        return names.index(name)

    def to_json(self) -> str:
        """The JSON text, with a final newline; floats keep every bit."""
        forks = {
            label: dict(zip(fork.names, zip(fork.own.tolist(), fork.inside, strict=True), strict=True))
            for label, fork in self.forks.items()
        }
        text = {
            "format": "manas.costs/1",
            "fixed": self.fixed,
            "outermost": self.outermost,
            "forks": forks,
            "nodes": dict(self.nodes),
            "zeros": dict(self.zeros),
            "origin": dict(self.origin),
        }
        return json.dumps(text, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "cost table") -> CostTable:
        """Reads what `to_json` wrote, onto the CPU; `where` is the file that errors name.

        Raises:
            ManasError: for text that is no cost table.
        """
        try:
            read = _Text.model_validate(json.loads(text))
        except ValidationError as error:
            raise explain(error, _Text, where) from error
        except (ValueError, RecursionError) as error:
            raise ManasError(f"{where}: not valid JSON ({error}); make the table again") from error
        forks = {label: _fork(candidates) for label, candidates in read.forks.items()}
        return cls(read.fixed, read.outermost, forks, read.origin, read.nodes, read.zeros)


OwnAndInside = tuple[FiniteFloat, tuple[str, ...]]


class _Text(BaseModel):
    """A cost table as JSON has it: a candidate is its own cost, and the labels of the forks inside it."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["manas.costs/1"]
    fixed: FiniteFloat
    outermost: tuple[str, ...]
    forks: dict[str, Annotated[dict[str, OwnAndInside], Field(min_length=1)]]
    nodes: dict[str, tuple[str, ...]] = {}  # earlier versions wrote neither nodes nor zeros
    zeros: dict[str, str] = {}
    origin: dict[str, Any]

    @model_validator(mode="after")
    def _is_a_tree(self) -> _Text:
        inside = (label for fork in self.forks.values() for _, labels in fork.values() for label in labels)
        if sorted([*self.outermost, *inside]) != sorted(self.forks):
            raise ManasError("outermost and inside together must name every fork once; make the table again")
        return self

    @model_validator(mode="after")
    def _forks_enter_one_node(self) -> _Text:
        inputs = [label for labels in self.nodes.values() for label in labels]
        if len(set(inputs)) < len(inputs) or not self.forks.keys() >= set(inputs):
            raise ManasError("nodes must name forks, and each once at most; make the table again")
        return self

    @model_validator(mode="after")
    def _zeros_are_candidates(self) -> _Text:
        if any(name not in self.forks.get(label, {}) for label, name in self.zeros.items()):
            raise ManasError("zeros must name candidates of forks; make the table again")
        return self


def _fork(candidates: Mapping[str, OwnAndInside]) -> ForkCost:
    own, inside = zip(*candidates.values(), strict=True)
    return ForkCost(tuple(candidates), torch.tensor(own, dtype=torch.float64), inside)
