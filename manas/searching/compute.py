"""The compute of a search in multiply-accumulates (MACs), counted the same way for every method.

Every pass of an image through a network counts, whatever it is for: training, validation, an evaluation, the
tuning of a selection; only pictures for the user and the check of `correlation` do not. Counted are the MACs of
the convolutions and linear layers that are run, as in the cost of a network. A gradient counts as the passes
that it takes: the gradient in the input of a layer takes as many MACs as its forward pass, the gradient in its
weights as many again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from manas.architecture.choice import weight_parameters
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.cost.counting import InputShape
from manas.training.distributed import Process

COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Passes(NamedTuple):
    """A forward pass with its gradient, as a multiple of the forward pass, by the place of a layer.

    Attributes:
        before: of a layer whose input depends on no alpha.
        behind: of every other layer.
    """

    before: float
    behind: float


OF_WEIGHTS = Passes(3, 3)
OF_ALPHAS = {
    "first": Passes(1, 2),
    # Half of what two forward passes take: themselves (2), the gradients of both in weights and inputs (4), the
    # derivative of one of these gradients (4: torch runs all parts of it), and that of its forward pass (1).
    "second": Passes(5, 5.5),
}
OF_A_PRODUCT = 3  # with the Hessian in the alphas: back through their gradient (2) and the forward pass (1)


class Meter:
    """Counts the MACs of the passes through the networks that it watches.

    Attributes:
        training: MACs of the passes with a gradient.
        judging: MACs of the passes without one.
        complete: whether everything was counted; not in a run that an earlier version began.
    """

    def __init__(self) -> None:
        self.training = self.judging = 0
        self.complete = True
        self._passes, self._behind = OF_WEIGHTS, 0

    def watch(self, network: nn.Module, behind: Collection[str] = ()) -> None:
        """Counts all passes through a network from now on.

        Args:
            behind: the names of the layers whose input depends on an alpha; see `layers_behind_forks`.
        """
        for name, module in network.named_modules():
            if isinstance(module, COUNTED):
                module.register_forward_hook(partial(self._count, name in behind))

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Counts nothing in the block, whose passes only show or examine the search."""
        before = self.training, self.judging
        try:
            yield
        finally:
            self.training, self.judging = before

    @contextmanager
    def gradient_of_alphas(self, order: str = "first") -> Iterator[None]:
        """Counts the passes of the block with the gradient of the alphas, and not with that of the weights."""
        before, self._passes = self._passes, OF_ALPHAS[order]
        try:
            yield
        finally:
            self._passes = before

    @contextmanager
    def curvature(self) -> Iterator[Callable[[], None]]:
        """Counts a pass with the gradient of the alphas; a call of the function is a Hessian product of it."""
        before = self._behind

        def count_product() -> None:
            self.training += OF_A_PRODUCT * (self._behind - before)

        with self.gradient_of_alphas():
            yield count_product

    def state(self, process: Process) -> dict[str, Any]:
        """The counts of all processes together, for a checkpoint; every process has to ask."""
        training, judging = map(sum, zip(*process.gather((self.training, self.judging)), strict=True))
        return {"training": training, "judging": judging, "complete": self.complete}

    def load_state(self, state: Mapping[str, Any] | None, process: Process) -> None:
        """Goes on from a state that `state` returned; None stands for a run that was not counted."""
        counts = state or {"training": 0, "judging": 0, "complete": False}
        own = int(process.is_first)  # one process goes on with the counts of all
        self.training, self.judging = own * counts["training"], own * counts["judging"]
        self.complete = counts["complete"]

    def provenance(self, process: Process) -> dict[str, int]:
        """The MACs of a search as genotypes have them: of everything, and of what was no training."""
        counts = self.state(process)
        whole = {"compute": counts["training"] + counts["judging"], "compute_judging": counts["judging"]}
        return whole if self.complete else {}

    def _count(self, behind: bool, module: Any, _: tuple[Tensor, ...], output: Tensor) -> None:
        macs = output.numel() * prod(module.weight.shape[1:])
        if not torch.is_grad_enabled():
            self.judging += macs
        elif _in_backward():  # run again where its results were not kept; its gradient is counted already
            self.training += macs
        else:
            self.training += int(macs * self._passes[behind])
            self._behind += macs * behind


def compute_of_all(genotypes: Sequence[Genotype]) -> dict[str, int]:
    """The MACs of several searches together, as provenances have them; nothing if one was not counted."""
    provenances = [genotype.provenance for genotype in genotypes]
    names = [name for name in ("compute", "compute_judging") if all(name in each for each in provenances)]
    return {name: sum(each[name] for each in provenances) for name in names}


def layers_behind_forks(space: SearchSpace, shape: InputShape) -> set[str]:
    """The names of the layers of a supernet whose input depends on an alpha; images have this shape."""
    with torch.device("meta"):
        supernet = space.supernet().eval()
    for weight in weight_parameters(supernet):
        weight.requires_grad_(False)
    found = set()
    for name, module in supernet.named_modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: found.add(name) if inputs[0].requires_grad else None
            )
    supernet(torch.empty(1, *shape, device="meta"))
    return found


def _in_backward() -> bool:
    """Whether a backward pass is under way, by the question that torch's own checkpointing asks."""
    return torch._C._current_graph_task_id() >= 0
