"""SearchSpace: a program that builds a network and asks `decide` at every fork."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, model_serializer
from torch import nn

from manas.architecture.choice import Choice, Moment, Weighting, choices_of, relax
from manas.architecture.decide import Decide, Fixed, Recorded, Relaxed, Replayed
from manas.architecture.forks import Fork, check_nodes, every_fork
from manas.architecture.registry import kind_of
from manas.architecture.weighting import SoftmaxWeighting
from manas.errors import ManasError

Reading = Literal["searched", "released"]


class Architecture(Protocol):
    """One path through a space, such as a `Genotype`."""

    @property
    def space(self) -> SearchSpace:
        """The space that the path leads through."""

    @property
    def choices(self) -> Mapping[str, str]:
        """Label -> name of the candidate, for every fork that is reached."""


class SearchSpace(BaseModel):
    """Base class of every space; its fields are the configuration, `build` is the one method to write.

    `build` must construct the same program for every `decide`: it never reads a tensor's value, nor an
    attribute of what `decide` returned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def build(self, decide: Decide) -> nn.Module:
        """The network, with `decide(label, candidates)` asked at every fork; see `decide.Decide`."""
        raise NotImplementedError(f"{type(self).__name__} does not define build(decide)")

    def by_hand(self) -> Mapping[str, Mapping[str, str]]:
        """Architectures that people made, by name, as large as the space allows; a search may begin there."""
        return {}

    def forks(self) -> list[Fork]:
        """The outermost forks, with those inside their candidates; nothing is allocated."""
        recorded = Recorded()
        with torch.device("meta"):
            self.build(recorded)
        check_nodes(recorded.forks)
        return recorded.forks

    def choices(self) -> dict[str, tuple[str, ...]]:
        """Every label with the names of its candidates, in the order in which the program asks."""
        return {fork.label: fork.names for fork in every_fork(self.forks())}

    def size(self) -> int:
        """Number of architectures; forks that stand inside a candidate count only with it."""
        return _size(self.forks())

    def supernet(self, relaxation: Weighting | None = None, *, recompute: bool = False) -> nn.Module:
        """The network with a `Choice` at every fork.

        Args:
            relaxation: of all choices, at the beginning of its schedule; the softmax of alpha unless given.
            recompute: the choices keep only their inputs for the backward pass.
        """
        self.forks()  # labels and names are checked before anything is allocated
        relaxation = relaxation or SoftmaxWeighting()
        supernet = self.build(Relaxed(relaxation, recompute=recompute))
        choices = choices_of(supernet)
        if choices:
            relax(supernet, relaxation.at(Moment(), choices))
        return supernet

    def network(self, genotype: Architecture | Mapping[str, str] | None = None) -> nn.Module:
        """The derived network, a plain module; a space without forks needs no genotype.

        Raises:
            ManasError: for a genotype of another space, a missing or unknown label, an unknown candidate.
        """
        choices = self._choices_in(genotype)
        fixed = Fixed(choices)
        network = self.build(fixed)
        fixed.require_all_used()
        return network

    def walk(self, decide: Replayed) -> dict[str, str]:
        """The choices along the one path that `decide` picks; nothing is allocated."""
        with torch.device("meta"):
            self.build(decide)
        return decide.choices

    def check(self, choices: Mapping[str, str]) -> None:
        """Raises a `ManasError` unless `choices` is exactly one path through the space."""
        fixed = Fixed(choices)
        self.walk(fixed)
        fixed.require_all_used()

    @classmethod
    def fields_from(cls, description: Mapping[str, Any], *, trusted: bool) -> Mapping[str, Any]:
        """The fields for which a description without its kind stands: itself, unless a space overrides this.

        Args:
            trusted: whether the description may name files and code; not in a received file.
        """
        return description

    def imported(self, checkpoint: Mapping[str, Any], reading: Reading) -> dict[str, dict[str, float]]:
        """Probabilities, label -> candidate -> p, that another program's search of this space left.

        Args:
            checkpoint: the content of its file.
            reading: ``searched``: every fork has its own; ``released``: those that the other program derived
                its network from, where that is not the same.

        Raises:
            ManasError: for a checkpoint that does not fit the space; for any unless a space overrides this.
        """
        raise ManasError(f"no importer for the space {kind_of(type(self))!r}; give a space that has one")

    def renamed(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A state dict with the names of this space's network, where it has those of another program's.

        As it is, unless a space overrides this.
        """
        return dict(state)

    def inherit(self, supernet: nn.Module, genotype: Architecture | Mapping[str, str]) -> nn.Module:
        """The derived network with the supernet's weights and buffers, of its type and on its device."""
        choices = self._choices_in(genotype)
        like = next(supernet.parameters(), torch.empty(0))
        network = self.network(choices).to(like.device, like.dtype)
        network.load_state_dict(_inherited(supernet, choices), strict=True)
        return network

    def _choices_in(self, genotype: Architecture | Mapping[str, str] | None) -> Mapping[str, str]:
        if genotype is None or isinstance(genotype, Mapping):
            return genotype or {}
        if genotype.space != self:
            raise ManasError(f"the genotype is of another space: {genotype.space!r}, not {self!r}")
        return genotype.choices

    @model_serializer(mode="wrap")
    def _describe(self, handler: Any) -> dict[str, Any]:
        return {"kind": kind_of(type(self)), **handler(self)}


def _size(forks: Iterable[Fork]) -> int:
    return math.prod(sum(_size(inside) for inside in fork.inside.values()) for fork in forks)


def _inherited(supernet: nn.Module, choices: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """`p.candidates.c.X` becomes `p.X` where c is chosen; the rest under a choice's path p is dropped."""
    state = dict(supernet.state_dict())
    paths = [(path, module) for path, module in supernet.named_modules() if isinstance(module, Choice)]
    for path, choice in sorted(paths, key=lambda item: -item[0].count(".")):
        prefix = f"{path}." if path else ""
        chosen = f"{prefix}candidates.{choices.get(choice.label)}."
        under = {key: state.pop(key) for key in list(state) if key.startswith(prefix)}
        state |= {prefix + key.removeprefix(chosen): v for key, v in under.items() if key.startswith(chosen)}
    return state
