"""How a search is doing: how decided the alphas are, what they choose, and how sharp the loss is in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from manas.architecture.choice import Choice
from manas.searching.objectives import groups_of

BASIS = 10  # vectors that the Lanczos iteration keeps

SKIP = "skip_connect"  # the name of the candidate that passes everything on as it is

Product = Callable[[np.ndarray], np.ndarray]


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


def dominant_eigenvalue(
    loss: Tensor,
    alphas: Sequence[nn.Parameter],
    *,
    tolerance: float = 0.01,
    restarts: int = 10,
) -> float:
    """The largest eigenvalue of the Hessian of a loss with respect to the alphas (Zela et al., ICLR 2020).

    The largest in algebraic order, not in magnitude. A softmax does not see a constant that is added to its
    alphas, so of a supernet relaxed by one it is zero at least. The graph of the loss stays usable, `.grad` is
    not touched.

    Args:
        loss: scalar; its gradient is built with a graph of its own, about twice the memory of an alpha step.
        alphas: those that the loss does not depend on count as rows of zeros.
        tolerance: error, as a share of the size of the Hessian.
        restarts: of the Lanczos iteration at most, each of at most `BASIS` Hessian-vector products.

    Returns:
        0 where the loss does not depend on the alphas, or only linearly; NaN where the Hessian is not finite
        or nothing was found.
    """
    gradients = _gradients(loss, alphas)

    def product(vector: np.ndarray) -> np.ndarray:
        return _hessian_product(gradients, alphas, vector).cpu().double().numpy()

    return _largest_eigenvalue(product, sum(alpha.numel() for alpha in alphas), tolerance, restarts)


def _gradients(loss: Tensor, alphas: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    """With a graph of their own; None of an alpha that the loss does not depend on."""
    if not loss.requires_grad:
        return [None] * len(alphas)
    return torch.autograd.grad(loss, alphas, create_graph=True, allow_unused=True)


def _hessian_product(
    gradients: Sequence[Tensor | None], alphas: Sequence[nn.Parameter], vector: np.ndarray
) -> Tensor:
    """(n,) derivative of the gradients along a vector (n,) over all alphas."""
    along = torch.from_numpy(vector).to(alphas[0].dtype).to(alphas[0].device)
    parts = along.split([alpha.numel() for alpha in alphas])
    pairs = [
        (gradient, part.view_as(gradient))
        for gradient, part in zip(gradients, parts, strict=True)
        if gradient is not None and gradient.requires_grad
    ]
    if not pairs:
        return torch.zeros_like(along)
    used, directions = zip(*pairs, strict=True)
    rows = torch.autograd.grad(used, alphas, directions, retain_graph=True, allow_unused=True)
    filled = (torch.zeros_like(a) if r is None else r for r, a in zip(rows, alphas, strict=True))
    return torch.cat([row.reshape(-1) for row in filled])


def _largest_eigenvalue(product: Product, size: int, tolerance: float, restarts: int) -> float:
    """By ARPACK, on the matrix plus a multiple of the identity.

    The multiple is twice the length of the first product. The largest eigenvalue, which for a relaxed supernet
    is often near zero, is then found to a share of the size of the matrix and not of itself.
    """
    rng = np.random.default_rng(size)
    start = rng.standard_normal(size)  # not ones: those are in the null space of every softmax
    start /= np.linalg.norm(start)
    first = product(start)
    shift = 2 * float(np.linalg.norm(first))
    if not math.isfinite(shift):
        return math.nan
    if size == 1 or not shift:
        return float(first @ start)

    def shifted(vector: np.ndarray) -> np.ndarray:
        image = product(vector)
        if not np.isfinite(image).all():
            raise FloatingPointError
        return image + shift * vector

    operator = LinearOperator((size, size), matvec=shifted, dtype=np.float64)
    options = {"k": 1, "ncv": min(size, BASIS), "which": "LA", "v0": start, "rng": rng}
    try:
        found = eigsh(operator, tol=tolerance, maxiter=restarts, return_eigenvectors=False, **options)
    except ArpackNoConvergence as error:
        found = error.eigenvalues
    except FloatingPointError:
        found = []
    return float(found[0]) - shift if len(found) else math.nan
