"""Optimisers, and the step that leaves a network alone when its gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from manas.architecture.choice import weight_parameters
from manas.errors import ManasError
from manas.training.distributed import floating_buffers


class OptimiserConfig(BaseModel):
    """An optimiser.

    Attributes:
        name: ``adam``, ``adamw`` or ``sgd`` (with momentum `betas[0]`).
        rate: base learning rate.
        betas: momentum terms.
        decay: weight decay, on the weights of convolutions and linear layers alone.
        clip: largest norm of the gradient; None does not clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = Field(0.0, ge=0)
    clip: float | None = Field(None, gt=0)

    def build(self, groups: Sequence[dict[str, Any]]) -> Optimizer:
        """The optimiser of parameter groups, each with its own ``weight_decay`` if it has one.

        Fused, since a fused step can be told on the device that it shall change nothing (`Descent`).
        """
        decayed = [{"weight_decay": self.decay, **group} for group in groups]
        if self.name == "sgd":
            optimiser: Optimizer = SGD(decayed, self.rate, momentum=self.betas[0], fused=True)
        else:
            kind = Adam if self.name == "adam" else AdamW
            optimiser = kind(decayed, self.rate, betas=self.betas, fused=True)
        for group in optimiser.param_groups:
            group["base_lr"] = self.rate
        return optimiser


def decay_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The weights of a network in two groups: what decays, and norms, biases and stitches, which do not."""
    decaying = {
        id(m.weight) for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    }
    weights = weight_parameters(network)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if id(p) in decaying]},
        {"params": [p for p in weights if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Descent:
    """Clips and steps; a gradient that is not finite changes nothing, without waiting for the device.

    Args:
        network: whose running statistics are put back when a step was left out.
        optimiser: fused, of parameters whose gradients are in `.grad`.
        clip: largest norm of the gradient, or None.
        patience: so many steps left out in a row are an error.
    """

    def __init__(self, network: nn.Module, optimiser: Optimizer, clip: float | None, patience: int = 50):
        self.network, self.optimiser, self.patience = network, optimiser, patience
        self.clip = float("inf") if clip is None else clip
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.in_a_row: Tensor | float = 0.0
        self.left_out: Tensor | float = 0.0
        self.seen = 0.0
        self.good = [buffer.clone() for buffer in floating_buffers(network)]

    def step(self) -> Tensor:
        """One step of the optimiser; returns the norm of the gradient."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        broken = (~norm.isfinite()).float()
        self.optimiser.found_inf = broken  # type: ignore[attr-defined] # as torch's GradScaler tells it
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.in_a_row = (self.in_a_row + 1) * broken
        self.left_out = self.left_out + broken
        return norm

    def check(self) -> int:
        """Waits for the device: puts back running statistics that broke, returns the steps left out so far.

        Raises:
            ManasError: when `patience` steps in a row were left out.
        """
        left_out = float(self.left_out)
        if float(self.in_a_row) >= self.patience:
            raise ManasError(
                f"the gradient was not finite in the last {self.patience} steps; lower the learning rate, or "
                "set precision=float32"
            )
        buffers = floating_buffers(self.network)
        for buffer, good in zip(buffers, self.good, strict=True):
            if left_out > self.seen:
                buffer.copy_(torch.where(buffer.isfinite(), buffer, good))
            good.copy_(buffer)
        self.seen = left_out
        return int(left_out)
