"""A fork in a network, and what `decide` may answer when a space asks at one.

A space builds its network by calling ``decide(label, candidates)`` at every fork, where `candidates` maps the
name of each candidate to a function without arguments that builds it. The answer makes the same program a
supernet (`Relaxed`), a derived network (`Fixed`), a walk over one path (`Replayed`), or a list of what can be
chosen (`Recorded`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from manas.architecture.forks import Fork
from manas.architecture.recomputation import recomputed
from manas.architecture.weighting import Weighting
from manas.errors import ManasError, nearest

Candidates = Mapping[str, Callable[[], nn.Module]]
Decide = Callable[[str, Candidates], nn.Module]

INITIAL_ALPHA_SCALE = 1e-3  # as DARTS and the released MANAS code: almost uniform, ties broken


class Choice(nn.Module):
    """All candidates of one fork, mixed by relaxed weights.

    A candidate may return a tensor (features, a gate, a matrix) or a list of tensors; the mixture is of the
    same kind, and shapes that differ are broadcast.

    Attributes:
        label: the identity of the decision, e.g. ``derain/cell1/column3``.
        candidates: the candidates by name.
        alpha: (K,) the architecture parameters, one a candidate.
        relaxation: turns `alpha` into weights; shared by all choices of a supernet.
        recompute: keep only the inputs for the backward pass, and run the candidates again there.
    """

    def __init__(
        self,
        label: str,
        candidates: Mapping[str, nn.Module],
        relaxation: Weighting,
        *,
        recompute: bool = False,
    ):
        super().__init__()
        self.label = label
        self.candidates = nn.ModuleDict(candidates)
        self.alpha = nn.Parameter(INITIAL_ALPHA_SCALE * torch.randn(len(candidates)))
        self.relaxation = relaxation
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


NAME = re.compile(r"[a-z0-9_]+")
RESERVED = frozenset(dir(nn.ModuleDict()))


def is_name(name: str) -> bool:
    """Whether candidates and tasks may be called so: lower case, digits and _, no attribute of ModuleDict."""
    return bool(NAME.fullmatch(name)) and name not in RESERVED


class Relaxed:
    """Answers every fork with a `Choice`: the supernet."""

    def __init__(self, relaxation: Weighting, *, recompute: bool = False):
        self.relaxation, self.recompute = relaxation, recompute

    def __call__(self, label: str, candidates: Candidates) -> nn.Module:
        built = {name: build() for name, build in candidates.items()}
        return Choice(label, built, self.relaxation, recompute=self.recompute)


class Replayed:
    """Answers every fork with the candidate that `pick(label, names)` names, and remembers the path.

    Attributes:
        choices: label -> name of every fork that was reached.
    """

    def __init__(self, pick: Callable[[str, tuple[str, ...]], str]):
        self.pick = pick
        self.choices: dict[str, str] = {}

    def __call__(self, label: str, candidates: Candidates) -> nn.Module:
        if label in self.choices:
            raise ManasError(f"the space asks for the label {label!r} twice; a label is one decision")
        name = self.pick(label, tuple(candidates))
        self.choices[label] = name
        return candidates[name]()


class Fixed(Replayed):
    """Answers every fork with the one chosen candidate: the derived network.

    Raises:
        ManasError: at a fork without a choice, or whose choice is not among its candidates.
    """

    def __init__(self, choices: Mapping[str, str]):
        def pick(label: str, names: tuple[str, ...]) -> str:
            if label not in choices:
                raise ManasError(f"no choice for {label!r}; add one of: {', '.join(names)}")
            if choices[label] not in names:
                hint = nearest(str(choices[label]), names)
                raise ManasError(f"{label!r} has no candidate {choices[label]!r}; {hint}")
            return choices[label]

        super().__init__(pick)
        self._given = choices

    def require_all_used(self) -> None:
        """Raises a `ManasError` that names a choice which no fork asked for."""
        for label in self._given:
            if label not in self.choices:
                raise ManasError(f"no fork {label!r} is reached in this space; {nearest(label, self.choices)}")


@dataclass
class Recorded:
    """Builds every candidate only to find the forks inside it; remembers them as a tree.

    Attributes:
        forks: the outermost forks in the order in which they were asked for.
    """

    forks: list[Fork] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def __call__(self, label: str, candidates: Candidates) -> nn.Module:
        if label in self._seen:
            raise ManasError(f"the space asks for the label {label!r} twice; a label is one decision")
        if not candidates:
            raise ManasError(f"the fork {label!r} has no candidates; give it at least one")
        for name in candidates:
            if not is_name(name):
                raise ManasError(
                    f"the fork {label!r} has a candidate {name!r}; use lower-case letters, digits and _, and "
                    "no name of an attribute of torch's ModuleDict"
                )
        self._seen.add(label)
        self.forks.append(Fork(label, {name: self._inside(build) for name, build in candidates.items()}))
        return nn.Module()

    def _inside(self, build: Callable[[], nn.Module]) -> list[Fork]:
        outer, self.forks = self.forks, []
        build()
        inner, self.forks = self.forks, outer
        return inner


def prefixed(decide: Decide, prefix: str) -> Decide:
    """The same answers for a space inside a space: its labels begin with ``prefix/``."""
    return lambda label, candidates: decide(f"{prefix}/{label}", candidates)


def choices_of(network: nn.Module) -> list[Choice]:
    """The choices of a supernet, outer before inner."""
    return [module for module in network.modules() if isinstance(module, Choice)]


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
