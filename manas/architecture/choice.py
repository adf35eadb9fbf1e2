"""A fork in a supernet: its candidates, mixed by the weights that a relaxation makes of its alphas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from manas.architecture.recomputation import recomputed

INITIAL_ALPHA_SCALE = 1e-3  # as DARTS and the released MANAS code: almost uniform, ties broken


@dataclass(frozen=True)
class Moment:
    """Where a search stands.

    Attributes:
        progress: share of the search that is done, in [0, 1].
        seed: of the search.
        draw: number of the draw; the noise of a choice is a function of (seed, draw, label).
        alphas_learn: whether the alphas are asked for their gradient; where they are not, a relaxation may
            leave out candidates that have no share in the output.
    """

    progress: float = 0.0
    seed: int = 0
    draw: int = 0
    alphas_learn: bool = True


class Weighting(Protocol):
    """The questions that a choice asks of the relaxation that it holds."""

    def at(self, moment: Moment, choices: Sequence[Choice]) -> Weighting:
        """The weighting at a moment of a search; itself, unless it has a schedule or draws samples."""

    def weights(self, choice: Choice) -> dict[str, Tensor]:
        """Scalar weights by candidate name; a name left out is not run.

        Beside a candidate that is zero they may sum to more or less than 1; without one they sum to 1.
        """

    def probabilities(self, choice: Choice) -> Tensor:
        """(K,) probabilities in the order of `choice.names`; they sum to 1."""

    def log_probabilities(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """(K,) log p and (K,) log(1 - p), finite where the logits are, however saturated."""


class Choice(nn.Module):
    """All candidates of one fork, mixed by relaxed weights.

    A candidate may return a tensor (features, a gate, a matrix) or a list of tensors; the mixture is of the
    same kind, and shapes that differ are broadcast.

    Attributes:
        label: the identity of the decision, e.g. ``derain/cell1/column3``.
        candidates: the candidates by name.
        alpha: (K,) the architecture parameters, one a candidate.
        relaxation: turns `alpha` into weights; shared by all choices of a supernet.
        zero: the candidate whose output is zero whatever its input; None where there is none, and the mixture
            is a weighted mean.
        recompute: keep only the inputs for the backward pass, and run the candidates again there.
    """

    def __init__(
        self,
        label: str,
        candidates: Mapping[str, nn.Module],
        relaxation: Weighting,
        *,
        zero: str | None = None,
        recompute: bool = False,
    ):
        super().__init__()
        self.label = label
        self.candidates = nn.ModuleDict(candidates)
        self.alpha = nn.Parameter(INITIAL_ALPHA_SCALE * torch.randn(len(candidates)))
        self.relaxation = relaxation
        self.zero = zero
        self.recompute = recompute

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates, in the order of `alpha`; also the group of the choice."""
        return tuple(self.candidates)

    def probabilities(self) -> Tensor:
        """(K,) probabilities of the candidates, for losses, cost, selection and logs."""
        return self.relaxation.probabilities(self)

    def forward(self, *inputs: object) -> Tensor | list[Tensor]:
        weights = self.relaxation.weights(self)

        def mixed(*inputs: object) -> Tensor | list[Tensor]:
            return mixture([(weight, self.candidates[name](*inputs)) for name, weight in weights.items()])

        if self.recompute and torch.is_grad_enabled():
            return recomputed(mixed, inputs, self.candidates)
        return mixed(*inputs)


def mixture(terms: Sequence[tuple[Tensor, Tensor | list[Tensor]]]) -> Tensor | list[Tensor]:
    """sum_k w_k y_k of tensors, or of lists of tensors place by place."""
    weights, outputs = zip(*terms, strict=True)
    if isinstance(outputs[0], Tensor):
        return _weighted_sum(weights, outputs)
    return [_weighted_sum(weights, places) for places in zip(*outputs, strict=True)]


def _weighted_sum(weights: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor:
    """Equal shapes first, small ones before large: most gates are far smaller than what they gate."""
    sums: dict[torch.Size, Tensor] = {}
    for weight, output in zip(weights, outputs, strict=True):
        term = weight * output
        sums[output.shape] = sums[output.shape] + term if output.shape in sums else term
    total, *others = sorted(sums.values(), key=Tensor.numel)
    for other in others:
        total = total + other
    return total


def choices_of(network: nn.Module) -> list[Choice]:
    """The choices of a supernet, outer before inner."""
    return [module for module in network.modules() if isinstance(module, Choice)]


def groups_of(network: nn.Module) -> dict[tuple[str, ...], list[Choice]]:
    """The choices of a supernet by their tuple of candidate names."""
    groups = defaultdict(list)
    for choice in choices_of(network):
        groups[choice.names].append(choice)
    return dict(groups)


def probabilities_of(network: nn.Module) -> dict[str, Tensor]:
    """(K,) probabilities by label."""
    return {choice.label: choice.probabilities() for choice in choices_of(network)}


def architecture_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The alphas; disjoint from `weight_parameters`, complete together."""
    return [choice.alpha for choice in choices_of(network)]


def weight_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Every parameter that is not an alpha."""
    alphas = {id(alpha) for alpha in architecture_parameters(network)}
    return [parameter for parameter in network.parameters() if id(parameter) not in alphas]


def relax(network: nn.Module, relaxation: Weighting) -> None:
    """Gives every choice of a supernet this relaxation."""
    for choice in choices_of(network):
        choice.relaxation = relaxation


@contextmanager
def relaxed_by(network: nn.Module, relaxation: Weighting) -> Iterator[None]:
    """Swaps the relaxation of every choice for the time of a ``with`` block."""
    before = [(choice, choice.relaxation) for choice in choices_of(network)]
    try:
        relax(network, relaxation)
        yield
    finally:
        for choice, relaxation_before in before:
            choice.relaxation = relaxation_before
