"""Losses of restoration: external, internal, local and global, each term under its own name.

In multi-to-one training (MANAS), K degraded versions of one background are restored together. Terms are
computed for each background, (B,), so that a batch may mix tasks; sums over versions follow the published
formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from manas.architecture.registry import object_of
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.restoration.network import Restoration, RestorationSpace
from manas.restoration.precision import full_precision
from manas.restoration.ssim import ssim


def mean_squared_error(output: Tensor, clean: Tensor) -> Tensor:
    """sum_k MSE(output_k, clean): (B, K, 3, H, W), (B, 3, H, W) -> (B,)."""
    return (output - clean[:, None]).square().mean((2, 3, 4)).sum(1)


def mean_absolute_error(output: Tensor, clean: Tensor) -> Tensor:
    """sum_k MAE(output_k, clean): (B, K, 3, H, W), (B, 3, H, W) -> (B,)."""
    return (output - clean[:, None]).abs().mean((2, 3, 4)).sum(1)


def dissimilarity(output: Tensor, clean: Tensor) -> Tensor:
    """sum_k (1 - SSIM(output_k, clean)), zero-padded SSIM on RGB: (B, K, 3, H, W), (B, 3, H, W) -> (B,)."""
    return (1 - ssim(output, clean[:, None], mode="loss")).sum(1)


def total_variation(output: Tensor, clean: Tensor) -> Tensor:
    """2 (mean |dy|^2 + mean |dx|^2) over the K outputs of a background: (B, K, 3, H, W) -> (B,)."""
    differences = (output.diff(dim=3), output.diff(dim=4))
    means = [d.square().sum((1, 2, 3, 4)) / max(1, d[0].numel()) for d in differences]
    return 2 * (means[0] + means[1])


def internal(output: Tensor, clean: Tensor) -> Tensor:
    """sum_{k<l} MSE(output_k, output_l) = K^2 mean (output - mean_k output)^2: (B, K, 3, H, W) -> (B,)."""
    versions = output.shape[1]
    # The sum over pairs in closed form: its cost grows with K, and not with K^2.
    return versions**2 * (output - output.mean(1, keepdim=True)).square().mean((1, 2, 3, 4))


Term = Callable[[Tensor, Tensor], Tensor]

LOSSES = "manas.losses"  # the group of entry points of further terms

TERMS: dict[str, Term] = {
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
    "ssim": dissimilarity,
    "tv": total_variation,
    "internal": internal,
}


COMPARING = ("mse", "l1", "ssim")  # the terms that compare with the clean image, as all further terms do


def term_named(name: str) -> Term:
    """The function of a term: one of `TERMS`, of an entry point in `manas.losses`, or ``package.module:name``.

    Raises:
        ManasError: if there is no such term, or it is no function.
    """
    term = TERMS.get(name) or object_of(name, group=LOSSES, noun="loss", trusted=True)
    if not callable(term):
        raise ManasError(f"{name!r} is no function; a loss is called with outputs and clean images")
    return term


class LossWeights(BaseModel):
    """Weights of the terms; the defaults are those of MANAS.

    Attributes:
        mse, l1, ssim, tv: weights of the terms of the external loss (`l1` is not in the paper).
        internal: weight of the differences between the outputs of one background.
        more: weights of further terms, by the name of an entry point in `manas.losses` or as
            ``package.module:function``; each term maps outputs (B, K, 3, H, W) and clean images (B, 3, H, W),
            in float32 or wider, to its sum over the K versions, (B,).
        internal_after: the share of the training after which the internal loss sets in.
        fused: weight of the global loss, which is the loss of the fused output.
        local: weight of each tower's loss on its own samples, in a network of several towers.
        stages: weight of the restorations on the way: the one after the s-th restoring stage of a tower counts
            s times this much (DRN: 0.1), by its difference to the clean image; 0 leaves them out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mse: float = Field(1.0, ge=0)
    l1: float = Field(0.0, ge=0)
    ssim: float = Field(1.0, ge=0)
    tv: float = Field(1e-4, ge=0)
    internal: float = Field(1.0, ge=0)
    more: dict[str, Annotated[float, Field(ge=0)]] = Field({}, validate_default=True)
    internal_after: float = Field(0.025, ge=0, le=1)
    fused: float = Field(1.0, ge=0)
    local: float = Field(1.0, ge=0)
    stages: float = Field(0.0, ge=0)

    @field_validator("more")
    @classmethod
    def _check_names(cls, more: dict[str, float]) -> dict[str, float]:
        for name in more:
            if name in TERMS:
                raise ManasError(f"{name} has a key of its own; set loss.{name}")
            term_named(name)
        return more

    @model_validator(mode="after")
    def _compares(self) -> LossWeights:
        if not (self.mse or self.l1 or self.ssim or any(self.more.values())):
            raise ManasError("nothing compares with the clean image; give mse, l1 or ssim a weight")
        if not (self.fused or self.local):
            raise ManasError("neither the fused nor the local restorations have a weight; give one of them one")
        return self

    def active(self, progress: float) -> dict[str, float]:
        """The weights, by name, of the terms that count at `progress` in [0, 1] of the training."""
        weights = {name: getattr(self, name) for name in TERMS} | self.more
        if progress < self.internal_after:
            weights["internal"] = 0.0
        return {name: weight for name, weight in weights.items() if weight}


def require_effect(loss: LossWeights, space: SearchSpace, choices: Mapping[str, str] | None = None) -> None:
    """Raises a `ManasError` if a weight has no effect in this space, or a part of it gets no gradient."""
    if not isinstance(space, RestorationSpace):
        if loss.stages:
            raise ManasError("loss.stages is for a network of towers; give kind: restoration, with one tower")
        return
    fusion = (choices or {}).get("fusion", space.fusion)
    if len(space.towers) > 1 and not loss.fused and fusion != "mean":
        raise ManasError("loss.fused=0 leaves the fusion without a gradient; set fusion=mean")
    if len(space.towers) > 1 and loss.stages and not loss.local:
        raise ManasError("loss.stages counts beside the local losses, which loss.local=0 leaves out; set one")


def image_terms(output: Tensor, clean: Tensor, weights: dict[str, float]) -> dict[str, Tensor]:
    """Weighted terms, (B,) each, of outputs (B, K, 3, H, W) against clean backgrounds (B, 3, H, W)."""
    with full_precision(output.device):
        dtype = torch.promote_types(output.dtype, torch.float32)
        output, clean = output.to(dtype), clean.to(dtype)
        return {name: weight * term_named(name)(output, clean) for name, weight in weights.items()}


def restoration_terms(
    restoration: Restoration, clean: Tensor, task: Tensor, loss: LossWeights, progress: float
) -> dict[str, Tensor]:
    """The scalar terms whose sum is the loss of a network: global terms, and local and stage terms by tower.

    The local terms of a task are sums over its own samples divided by the batch size, so that the term of an
    absent task is zero and ranks agree. A network of one tower has no local terms, since the tower's output is
    the fused one.

    Args:
        restoration: the restorations of B * K images, the K versions of one background side by side.
        clean: (B, 3, H, W), the clean backgrounds.
        task: (B,) number of the task among the towers; -1 for a clean sample, which has no local loss.
        progress: share of the training that is done, in [0, 1].
    """
    backgrounds, weights = len(clean), loss.active(progress)

    def total(images: Tensor, weights: dict[str, float]) -> Tensor:
        terms = image_terms(images.unflatten(0, (backgrounds, -1)), clean, weights)
        return torch.stack(list(terms.values())).sum(0)  # (B,)

    several = len(restoration.tasks) > 1
    versions = restoration.fused.unflatten(0, (backgrounds, -1))  # (B, K, 3, H, W)
    scale = loss.fused if several else 1.0
    terms = {f"global/{k}": scale * v.mean() for k, v in image_terms(versions, clean, weights).items() if scale}
    compared = {name: weight for name, weight in weights.items() if name in (*COMPARING, *loss.more)}
    for place, (name, output) in enumerate(restoration.tasks.items()):
        share, own = (loss.local, task == place) if several else (1.0, torch.ones_like(task, dtype=torch.bool))
        each = {"local": total(output, weights)} if several else {}
        on_the_way = restoration.stages.get(name, [])
        if on_the_way:
            weighted = [s * total(image, compared) for s, image in enumerate(on_the_way, start=1)]
            each["stages"] = loss.stages * torch.stack(weighted).sum(0)
        if share:
            # Selected by `where`, so that another task's sample that is not finite leaves no NaN in the sum.
            sums = {kind: torch.where(own, value, 0.0).sum() / backgrounds for kind, value in each.items()}
            terms |= {f"{kind}/{name}": share * value for kind, value in sums.items()}
    return terms
