"""The health of a search: how far the alphas are decided, and which candidates they choose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from manas.architecture.choice import Choice, groups_of

SKIP = "skip_connect"  # the name of the candidate that passes its input on unchanged


def group_name(names: tuple[str, ...]) -> str:
    """A short name of a group of choices: ``parallel+fusion``, or ``none+..+cbam_9`` for nine candidates.

    Up to three candidates are joined by +; of more, the first and the last are named, with their number.
    """
    return "+".join(names) if len(names) <= 3 else f"{names[0]}+..+{names[-1]}_{len(names)}"


def group_tags(network: nn.Module) -> dict[tuple[str, ...], str]:
    """Tags of a supernet's groups for the logs: short names, or all candidates if two short names are equal."""
    groups = list(groups_of(network))
    uses = Counter(map(group_name, groups))
    return {names: group_name(names) if uses[group_name(names)] == 1 else "+".join(names) for names in groups}


@torch.no_grad()
def entropy_by_group(network: nn.Module) -> dict[str, float]:
    """The mean entropy of the probabilities of each group's choices, divided by ln K, by tag.

    An entropy of 1 is undecided, and 0 is decided. Groups of one candidate have nothing to decide and are left
    out.
    """
    tags = group_tags(network)
    return {
        tags[names]: _entropy(_probabilities(choices))
        for names, choices in groups_of(network).items()
        if names[1:]
    }


@torch.no_grad()
def shares_by_group(network: nn.Module) -> dict[str, dict[str, float]]:
    """The mean probability of each candidate over the choices of a group, by tag and name."""
    tags = group_tags(network)
    return {
        tags[names]: dict(zip(names, _probabilities(choices).mean(0).tolist(), strict=True))
        for names, choices in groups_of(network).items()
    }


def _probabilities(choices: Sequence[Choice]) -> Tensor:
    """(N, K), the probabilities of the N choices of a group."""
    return torch.stack([choice.probabilities() for choice in choices])


def _entropy(probabilities: Tensor) -> float:
    """The mean entropy of probabilities (N, K), divided by ln K; in [0, 1]."""
    entropies = torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1])
    return entropies.mean().clamp(0, 1).item()  # rounding may leave the interval


@dataclass(frozen=True)
class Tally:
    """The number of times that one candidate was chosen.

    Attributes:
        chosen: number of forks that chose it.
        offered: number of forks that offered it.
        chance: expected share of these forks that would choose it by lot.
    """

    chosen: int
    offered: int
    chance: float

    @property
    def share(self) -> float | None:
        """The share of the offering forks that chose the candidate; None if no fork offers it."""
        return self.chosen / self.offered if self.offered else None


def tally(
    sought: Mapping[str, str], choices: Mapping[str, str], candidates: Mapping[str, tuple[str, ...]]
) -> Tally:
    """Counts candidates of one kind among the forks of a derived path that offer one beside another.

    Args:
        sought: label -> name of the candidate of that kind, of every fork that offers one.
        choices: the chosen candidate of each fork on the path by label, as in a genotype.
        candidates: the names of the candidates of every fork by label, as from `SearchSpace.choices`.
    """
    offering = [label for label in choices if label in sought and len(candidates[label]) > 1]
    chances = [1 / len(candidates[label]) for label in offering]
    chosen = sum(choices[label] == sought[label] for label in offering)
    return Tally(chosen, len(offering), sum(chances) / max(1, len(chances)))


@dataclass(frozen=True)
class Health:
    """The measurements at the end of one epoch.

    Attributes:
        epoch: number of the epoch, counted from zero.
        psnr_relaxed, psnr_one_hot: PSNR in dB of the relaxed and of the derived network, in the supernet's
            weights.
        entropy: entropy of each group of choices by its tag, in [0, 1]; see `entropy_by_group`.
        skips, zeros: the tallies of `skip_connect` and of the candidates that are zero, on the derived path.
        gradient: mean norm of the gradient of the alphas over the epoch; None before they move.
        eigenvalue: dominant eigenvalue of the Hessian in the alphas; None if it was not measured.
    """

    epoch: int
    psnr_relaxed: float
    psnr_one_hot: float
    entropy: Mapping[str, float]
    skips: Tally
    zeros: Tally
    gradient: float | None = None
    eigenvalue: float | None = None

    @property
    def gap(self) -> float:
        """The discretisation gap: the dB by which the derived network is below the relaxed one."""
        return self.psnr_relaxed - self.psnr_one_hot

    @property
    def scores(self) -> dict[str, float]:
        """PSNR and gap by their names in logs and provenance."""
        return {
            "psnr_relaxed": self.psnr_relaxed,
            "psnr_one_hot": self.psnr_one_hot,
            "discretisation_gap": self.gap,
        }

    @property
    def skip_share(self) -> float | None:
        """Share of the forks on the derived path that chose `skip_connect`; None where none offers it."""
        return self.skips.share

    @property
    def zero_share(self) -> float | None:
        """Share of the forks on the derived path that chose their zero; None where no fork offers one."""
        return self.zeros.share

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Health:
        """Makes the health from values that `to_dict` returned."""
        values = {"zeros" if key == "nones" else key: value for key, value in values.items()}  # its former name
        return cls(**{**values, "skips": Tally(**values["skips"]), "zeros": Tally(**values["zeros"])})
