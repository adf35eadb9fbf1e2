"""Parameters and MACs, of a network and of every candidate of a space.

A table comes from one forward pass of the supernet on the meta device, read by module path, so nothing is
allocated and no layer has a formula of its own.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from manas.architecture.choice import Choice, architecture_parameters, choices_of
from manas.architecture.space import SearchSpace
from manas.cost.table import CostTable, ForkCost
from manas.errors import ManasError

Countable = Literal["parameters", "macs"]  # the same on every machine
InputShape = tuple[int, int, int]  # channels, height, width


def cost_table(space: SearchSpace, metric: Countable, shape: InputShape = (3, 64, 64)) -> CostTable:
    """The table of a space for one image of `shape` (channels, height, width)."""
    with torch.device("meta"):
        supernet = space.supernet()
    table = _Reading(supernet, _by_path(supernet, metric, shape)).table()
    return replace(table, origin={"metric": metric, "input": list(shape)}).with_nodes_of(space.forks())


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
