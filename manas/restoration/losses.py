"""Losses of restoration: external, internal, local and global, each term by its own name.

Multi-to-one (MANAS): K degraded versions of one background are restored together. Terms are computed for each
background, (B,), so that a batch may mix tasks; sums over versions follow the published formulas.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from manas.errors import ManasError
from manas.restoration.network import Restoration
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
    return versions**2 * (output - output.mean(1, keepdim=True)).square().mean((1, 2, 3, 4))


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_squared_error,
    "l1": mean_absolute_error,
    "ssim": dissimilarity,
    "tv": total_variation,
    "internal": internal,
}


class LossWeights(BaseModel):
    """Weights of the terms; the defaults are those of MANAS.

    Attributes:
        mse, l1, ssim, tv: the external loss (`l1` is not in the paper).
        internal: differences between the outputs of one background.
        internal_after: the share of the training after which the internal loss sets in.
        local: weight of each tower's loss on its own samples, beside the global loss of the fused output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mse: float = Field(1.0, ge=0)
    l1: float = Field(0.0, ge=0)
    ssim: float = Field(1.0, ge=0)
    tv: float = Field(1e-4, ge=0)
    internal: float = Field(1.0, ge=0)
    internal_after: float = Field(0.025, ge=0, le=1)
    local: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _compares(self) -> LossWeights:
        if not (self.mse or self.l1 or self.ssim):
            raise ManasError("nothing compares with the clean image; give mse, l1 or ssim a weight")
        return self

    def active(self, progress: float) -> dict[str, float]:
        """Weights by name of the terms in force at `progress` in [0, 1] of the training."""
        weights = {name: getattr(self, name) for name in TERMS}
        if progress < self.internal_after:
            weights["internal"] = 0.0
        return {name: weight for name, weight in weights.items() if weight}


def image_terms(output: Tensor, clean: Tensor, weights: dict[str, float]) -> dict[str, Tensor]:
    """Weighted terms, (B,) each, of outputs (B, K, 3, H, W) against clean backgrounds (B, 3, H, W)."""
    with full_precision(output.device):
        dtype = torch.promote_types(output.dtype, torch.float32)
        output, clean = output.to(dtype), clean.to(dtype)
        return {name: weight * TERMS[name](output, clean) for name, weight in weights.items()}


def restoration_terms(
    restoration: Restoration, clean: Tensor, task: Tensor, weights: dict[str, float], *, local: float
) -> dict[str, Tensor]:
    """The scalar terms whose sum is the loss of a network: global ones, and one local term a tower.

    The local term of a task is the sum over its own samples divided by the batch size, so that an absent task
    is zero and ranks agree.

    Args:
        restoration: of B * K images, the K versions of one background side by side.
        clean: (B, 3, H, W).
        task: (B,) place of the task among the towers; -1 for a clean sample, which has no local loss.
        weights: by name, as from `LossWeights.active`.
        local: weight of the local terms.
    """
    backgrounds = len(clean)
    versions = restoration.fused.unflatten(0, (backgrounds, -1))  # (B, K, 3, H, W)
    terms = {f"global/{k}": v.mean() for k, v in image_terms(versions, clean, weights).items()}
    if len(restoration.tasks) < 2 or not local:
        return terms
    for place, (name, output) in enumerate(restoration.tasks.items()):
        each = image_terms(output.unflatten(0, (backgrounds, -1)), clean, weights)
        total = torch.stack(list(each.values())).sum(0)  # (B,)
        terms[f"local/{name}"] = local * torch.where(task == place, total, 0.0).sum() / backgrounds
    return terms
