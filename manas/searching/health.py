"""How a search is doing: how decided the alphas are, and what they choose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from manas.architecture.choice import Choice
from manas.searching.objectives import groups_of

SKIP = "skip_connect"  # the name of the candidate that passes everything on as it is


def group_name(names: tuple[str, ...]) -> str:
    """A short name of a group of choices: up to three candidates joined by +, of more the first and the last.

    ``parallel+fusion``; ``none+..+cbam_9`` for nine candidates.
    """
    return "+".join(names) if len(names) <= 3 else f"{names[0]}+..+{names[-1]}_{len(names)}"


def group_tags(network: nn.Module) -> dict[tuple[str, ...], str]:
    """Tags of a supernet's groups, for logs: short, but all names where two groups would be called alike."""
    groups = list(groups_of(network))
    uses = Counter(map(group_name, groups))
    return {names: group_name(names) if uses[group_name(names)] == 1 else "+".join(names) for names in groups}


@torch.no_grad()
def entropy_by_group(network: nn.Module) -> dict[str, float]:
    """The mean entropy of the probabilities of a group's choices over ln K, by tag.

    In [0, 1]: 1 is undecided, 0 decided. Groups of one candidate have nothing to decide and are left out.
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
    """(N, K) of the N choices of a group."""
    return torch.stack([choice.probabilities() for choice in choices])


def _entropy(probabilities: Tensor) -> float:
    """(N, K) -> mean of the N entropies over ln K."""
    entropies = torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1])
    return entropies.mean().clamp(0, 1).item()


@dataclass(frozen=True)
class Tally:
    """How often one candidate was chosen.

    Attributes:
        chosen: forks that chose it.
        offered: forks that could have.
        chance: the share of them that would have by lot.
    """

    chosen: int
    offered: int
    chance: float

    @property
    def share(self) -> float | None:
        """The share of the forks that chose it; None where none offers it."""
        return self.chosen / self.offered if self.offered else None


def tally(name: str, choices: Mapping[str, str], candidates: Mapping[str, tuple[str, ...]]) -> Tally:
    """Counts a candidate among the forks of a derived path that offer it beside another.

    Args:
        name: of the candidate.
        choices: label -> chosen candidate of the forks on the path, as in a genotype.
        candidates: label -> names of the candidates of every fork, as from `SearchSpace.choices`.
    """
    offering = [label for label in choices if name in candidates[label] and len(candidates[label]) > 1]
    chances = [1 / len(candidates[label]) for label in offering]
    chosen = sum(choices[label] == name for label in offering)
    return Tally(chosen, len(offering), sum(chances) / max(1, len(chances)))


@dataclass(frozen=True)
class Health:
    """What was measured at the end of one epoch.

    Attributes:
        epoch: counted from zero.
        psnr_relaxed, psnr_one_hot: dB, of the relaxed and of the derived network in the supernet's weights.
        entropy: of each group of choices by its tag, in [0, 1]; see `entropy_by_group`.
        skips, nones: how often the derived path took `skip_connect` and `none`.
        gradient: mean norm of the gradient of the alphas over the epoch; None before they move.
        eigenvalue: of the Hessian with respect to the alphas; None where it was not measured.
    """

    epoch: int
    psnr_relaxed: float
    psnr_one_hot: float
    entropy: Mapping[str, float]
    skips: Tally
    nones: Tally
    gradient: float | None = None
    eigenvalue: float | None = None

    @property
    def gap(self) -> float:
        """dB that the derived network is below the relaxed one: the discretisation gap."""
        return self.psnr_relaxed - self.psnr_one_hot

    @property
    def scores(self) -> dict[str, float]:
        """PSNR and gap by the names that logs and provenance have for them."""
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
    def none_share(self) -> float | None:
        """Share of the forks on the derived path that chose `none`; None where none offers it."""
        return self.nones.share

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Health:
        """From what `to_dict` returned."""
        return cls(**{**values, "skips": Tally(**values["skips"]), "nones": Tally(**values["nones"])})
