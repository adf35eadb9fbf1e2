"""What architectures cost: parameters, MACs or latency of every candidate, expected and exact.

    expected = fixed + sum over the outermost forks of E(fork)
    E(fork)  = sum_k p_k (own_k + sum over the forks inside candidate k of E(fork))

What can be counted comes from one forward pass of the supernet on the meta device, read by module path, so
nothing is allocated and no layer has a formula of its own; `latency.py` measures.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from manas.architecture.choice import Choice, architecture_parameters, choices_of
from manas.architecture.space import SearchSpace
from manas.device import widest_float
from manas.errors import ManasError, explain, nearest

Metric = Literal["parameters", "macs", "latency"]
Countable = Literal["parameters", "macs"]  # the same on every machine
InputShape = tuple[int, int, int]


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
    """

    fixed: float
    outermost: tuple[str, ...]
    forks: Mapping[str, ForkCost]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> CostTable:
        """The table on a device."""
        dtype = widest_float(device)
        forks = {label: replace(fork, own=fork.own.to(device, dtype)) for label, fork in self.forks.items()}
        return replace(self, forks=forks)

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
        text = {"fixed": self.fixed, "outermost": self.outermost, "forks": forks, "origin": dict(self.origin)}
        return json.dumps({"format": "manas.costs/1", **text}, indent=2) + "\n"

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
        return cls(read.fixed, read.outermost, {k: _fork(of) for k, of in read.forks.items()}, read.origin)


OwnAndInside = tuple[FiniteFloat, tuple[str, ...]]


class _Text(BaseModel):
    """A cost table as JSON has it: a candidate is its own cost, and the labels of the forks inside it."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["manas.costs/1"]
    fixed: FiniteFloat
    outermost: tuple[str, ...]
    forks: dict[str, Annotated[dict[str, OwnAndInside], Field(min_length=1)]]
    origin: dict[str, Any]

    @model_validator(mode="after")
    def _is_a_tree(self) -> _Text:
        inside = (label for fork in self.forks.values() for _, labels in fork.values() for label in labels)
        if sorted([*self.outermost, *inside]) != sorted(self.forks):
            raise ManasError("outermost and inside together must name every fork once; make the table again")
        return self


def _fork(candidates: Mapping[str, OwnAndInside]) -> ForkCost:
    own, inside = zip(*candidates.values(), strict=True)
    return ForkCost(tuple(candidates), torch.tensor(own, dtype=torch.float64), inside)


def cost_table(space: SearchSpace, metric: Countable, shape: InputShape = (3, 64, 64)) -> CostTable:
    """The table of a space for one image of `shape` (channels, height, width)."""
    with torch.device("meta"):
        supernet = space.supernet()
    table = _Reading(supernet, _by_path(supernet, metric, shape)).table()
    return replace(table, origin={"metric": metric, "input": list(shape)})


def measure(network: nn.Module, metric: Countable, shape: InputShape = (3, 64, 64)) -> float:
    """The cost of a network as it stands; of a supernet, of all its candidates together.

    MACs are those of convolutions and matrix products, for one image of `shape`; parameters leave alphas out.
    """
    return _by_path(copy.deepcopy(network).to("meta"), metric, shape)("")


def costs(network: nn.Module, shape: InputShape) -> dict[str, Any]:
    """Parameters, MACs (by thop) and the input that they are for, as provenances have them."""
    parameters = int(measure(network, "parameters"))
    return {"parameters": parameters, "macs": thop_macs(network, shape), "input": list(shape)}


def thop_macs(network: nn.Module, shape: InputShape = (3, 64, 64)) -> int:
    """MACs as thop counts them, with every rule but those of convolutions and linear layers silenced.

    An independent count of what `measure` reports, and what users compare with other papers' tables. Works
    on a deep copy, since thop leaves buffers behind.
    """
    with warnings.catch_warnings():  # it imports distutils
        warnings.simplefilter("ignore", DeprecationWarning)
        from thop import profile
        from thop.profile import register_hooks
    counted = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    silenced = {kind: _counts_nothing for kind in register_hooks if kind not in counted}
    # thop looks a layer up by its very class
    derived = {type(m): register_hooks[nn.Conv2d] for m in network.modules() if isinstance(m, nn.Conv2d)}
    image = torch.zeros(1, *shape)
    macs, _ = profile(copy.deepcopy(network).cpu(), (image,), custom_ops=silenced | derived, verbose=False)
    return int(macs)


def _counts_nothing(*_: object) -> None:
    """A thop rule for layers that hold no multiply-accumulate."""


def _by_path(network: nn.Module, metric: Countable, shape: InputShape) -> Callable[[str], float]:
    """The cost of everything under a module path; the network must be on the meta device."""
    if metric not in get_args(Countable):
        raise ManasError(f"{metric} cannot be counted; measure it with manas.cost.latency")
    if metric == "parameters":
        alphas = {id(alpha) for alpha in architecture_parameters(network)}

        def parameters(path: str) -> float:
            under = network.get_submodule(path).parameters()
            return float(sum(p.numel() for p in under if id(p) not in alphas))

        return parameters

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, *shape, device="meta"))
    counts = counter.get_flop_counts()
    root = type(network).__name__

    def macs(path: str) -> float:
        return sum(counts.get(f"{root}.{path}" if path else root, {}).values()) / 2

    return macs


class _Reading:
    """Turns inclusive costs by module path into a table of what each candidate adds by itself."""

    def __init__(self, supernet: nn.Module, inclusive: Callable[[str], float]):
        self.supernet = supernet
        self.inclusive = inclusive
        self.paths = {m.label: path for path, m in supernet.named_modules() if isinstance(m, Choice)}

    def table(self) -> CostTable:
        forks = {choice.label: self._fork(choice) for choice in choices_of(self.supernet)}
        outermost, fixed = self._alone("")
        return CostTable(fixed, outermost, forks)

    def _fork(self, choice: Choice) -> ForkCost:
        path = self.paths[choice.label]
        prefix = f"{path}.candidates" if path else "candidates"
        inside, own = zip(*(self._alone(f"{prefix}.{name}") for name in choice.names), strict=True)
        return ForkCost(choice.names, torch.tensor(own, dtype=torch.float64), inside)

    def _alone(self, path: str) -> tuple[tuple[str, ...], float]:
        """The outermost forks under a path, and the cost of the path without them."""
        labels = tuple(_outermost(self.supernet.get_submodule(path)))
        return labels, self.inclusive(path) - sum(self.inclusive(self.paths[label]) for label in labels)


def _outermost(module: nn.Module) -> list[str]:
    if isinstance(module, Choice):
        return [module.label]
    return [label for child in module.children() for label in _outermost(child)]
