"""What architectures cost: parameters and MACs of every candidate, expected and exact.

The table of a space comes from one forward pass of its supernet on the meta device, read by module path, so
nothing is allocated and no layer has a formula of its own:

    expected = fixed + sum over the outermost forks of E(fork)
    E(fork)  = sum_k p_k (own_k + sum over the forks inside candidate k of E(fork))
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from manas.architecture.choice import Choice, architecture_parameters, choices_of
from manas.architecture.space import SearchSpace
from manas.device import widest_float

Metric = Literal["parameters", "macs"]
InputShape = tuple[int, int, int]


@dataclass(frozen=True)
class ForkCost:
    """Costs of the K candidates of one fork, without the forks inside them, and the labels of those."""

    names: tuple[str, ...]
    own: Tensor  # (K,) float64, in which counts are exact
    inside: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CostTable:
    """Costs of all architectures of a space.

    Attributes:
        fixed: what every architecture costs.
        outermost: labels of the forks that every architecture reaches.
        forks: label -> costs of its candidates.
    """

    fixed: float
    outermost: tuple[str, ...]
    forks: Mapping[str, ForkCost]

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

        return sum((of(label) for label in self.outermost), torch.tensor(self.fixed, dtype=torch.float64))

    def exact(self, choices: Mapping[str, str]) -> float:
        """The cost of one architecture; forks that it does not reach are not asked for."""

        def chosen(label: str, costs: list[float]) -> float:
            return costs[self.forks[label].names.index(choices[label])] if label in choices else 0.0

        return self._fold(chosen)

    def cheapest(self) -> float:
        """The cost of the cheapest architecture of the space."""
        return self._fold(lambda _, costs: min(costs))

    def dearest(self) -> float:
        """The cost of the dearest architecture of the space."""
        return self._fold(lambda _, costs: max(costs))

    def _fold(self, select: Callable[[str, list[float]], float]) -> float:
        def of(label: str) -> float:
            fork = self.forks[label]
            inside = (sum(of(inner) for inner in labels) for labels in fork.inside)
            return select(label, [own + more for own, more in zip(fork.own.tolist(), inside, strict=True)])

        return self.fixed + sum(of(label) for label in self.outermost)


def cost_table(space: SearchSpace, metric: Metric, shape: InputShape = (3, 64, 64)) -> CostTable:
    """The table of a space for one image of `shape` (channels, height, width)."""
    with torch.device("meta"):
        supernet = space.supernet()
    return _Reading(supernet, _by_path(supernet, metric, shape)).table()


def measure(network: nn.Module, metric: Metric, shape: InputShape = (3, 64, 64)) -> float:
    """The cost of a network as it stands; of a supernet, of all its candidates together.

    MACs are those of convolutions and matrix products, for one image of `shape`; parameters leave alphas out.
    """
    return _by_path(copy.deepcopy(network).to("meta"), metric, shape)("")


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
    image = torch.zeros(1, *shape)
    macs, _ = profile(copy.deepcopy(network).cpu(), (image,), custom_ops=silenced, verbose=False)
    return int(macs)


def _counts_nothing(*_: object) -> None:
    """A thop rule for layers that hold no multiply-accumulate."""


def _by_path(network: nn.Module, metric: Metric, shape: InputShape) -> Callable[[str], float]:
    """The cost of everything under a module path; the network must be on the meta device."""
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
