"""Optimisers, and the step that leaves a network alone when its gradient is broken."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from manas.architecture.choice import weight_parameters
from manas.device import widest_float
from manas.errors import ManasError
from manas.restoration.cross_stitch import StitchMatrices
from manas.training.distributed import floating_buffers
from manas.training.guard import Guard, LeftOut

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimiserConfig(BaseModel):
    """Configuration of an optimiser.

    Attributes:
        name: ``adam``, ``adamw`` or ``sgd`` (with momentum `betas[0]`).
        rate: base learning rate. The defaults that `RetrainConfig.optimiser`, `SearchConfig.weights` and
            `SearchConfig.alphas` set for it and for other keys win over those of this class.
        betas: momentum terms.
        decay: weight decay; in a network, only the weights of convolutions and linear layers decay.
        clip: largest norm of the gradient; None does not clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["adam", "adamw", "sgd"] = "adam"
    rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    clip: float | None = Field(None, gt=0)

    def build(self, groups: Sequence[dict[str, Any]]) -> Optimizer:
        """Builds the optimiser of parameter groups, which may set ``weight_decay`` and ``rate_factor``.

        The optimiser is fused, since only a fused step can be told on the device to change nothing (`Descent`).
        """
        complete = [{"weight_decay": self.decay, "rate_factor": 1.0, **group} for group in groups]
        if self.name == "sgd":
            optimiser: Optimizer = SGD(complete, self.rate, momentum=self.betas[0], fused=True)
            _start_momentum(optimiser)
        else:
            kind = Adam if self.name == "adam" else AdamW
            optimiser = kind(complete, self.rate, betas=self.betas, fused=True)
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] = self.rate * group.pop("rate_factor")
        return optimiser


def _start_momentum(optimiser: Optimizer) -> None:
    """Starts the momentum from zero; torch would leave its buffer unfilled if the first step is left out."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def after_step(
    optimiser: Optimizer, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[Tensor]:
    """The parameters as the optimiser's next step would leave them, differentiable in the gradients.

    The optimiser and its parameters are not changed. Parameters without a gradient stay as they are.

    Args:
        parameters: parameters of the optimiser, in any order.
        gradients: one for each of them, or None.
    """
    groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    # AdamW is asked for first: it is a subclass of Adam in newer versions of torch, but not in older ones.
    apart = isinstance(optimiser, AdamW)
    step = _sgd_step if isinstance(optimiser, SGD) else partial(_adam_step, apart=apart)
    return [
        p.detach() if g is None else step(p.detach(), g, groups[id(p)], optimiser.state.get(p, {}))
        for p, g in zip(parameters, gradients, strict=True)
    ]


def _sgd_step(p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> Tensor:
    g = g + group["weight_decay"] * p
    return p - group["lr"] * (group["momentum"] * state["momentum_buffer"] + g)


def _adam_step(p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any], *, apart: bool) -> Tensor:
    """The step of Adam, or of AdamW, whose decay is apart from the gradient."""
    (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
    p, g = (p * (1 - rate * decay), g) if apart else (p, g + decay * p)
    # 1 - beta^steps is a difference of nearly equal numbers in the first steps, so it takes the widest type.
    steps = 1 + (state["step"] if state else torch.zeros((), device=p.device)).to(widest_float(p.device))
    mean, square = (state["exp_avg"], state["exp_avg_sq"]) if state else (0.0, 0.0)
    mean, square = beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g.square()
    positive = square > 0  # the square root has no derivative at 0
    root = torch.where(positive, square, 1).sqrt() * positive / (1 - beta2**steps).sqrt()
    return p - rate / (1 - beta1**steps) * mean / (root + group["eps"])


def decay_groups(network: nn.Module, stitch_rate: float = 1.0) -> list[dict[str, Any]]:
    """The weights of a network in groups: weights that decay; norms and biases, and stitches, which do not.

    Args:
        stitch_rate: factor on the learning rate of the stitches.
    """
    decaying = {
        id(m.weight) for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    }
    stitches = {id(p) for m in network.modules() if isinstance(m, StitchMatrices) for p in m.parameters()}
    weights = weight_parameters(network)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if id(p) in decaying]},
        {"params": [p for p in weights if id(p) not in decaying | stitches], "weight_decay": 0.0},
        {"params": [p for p in weights if id(p) in stitches], "weight_decay": 0.0, "rate_factor": stitch_rate},
    ]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [
        {**group, "param_names": [names[id(p)] for p in group["params"]]} for group in groups if group["params"]
    ]


class RunningStatistics:
    """The running statistics of a network, which a broken step must not change."""

    def __init__(self, network: nn.Module):
        self.buffers = floating_buffers(network)
        self.good = self._flat()

    def settle(self, broken: Tensor) -> None:
        """Restores the last good statistics where `broken` is not zero, and else remembers the present ones."""
        if not self.buffers:
            return
        self.good = torch.where(broken > 0, self.good, self._flat())
        parts = self.good.split([buffer.numel() for buffer in self.buffers])
        copies = [part.view_as(buffer) for part, buffer in zip(parts, self.buffers, strict=True)]
        torch._foreach_copy_(self.buffers, copies)

    def remember(self) -> None:
        """Remembers the present statistics as good ones."""
        self.good = self._flat()

    def _flat(self) -> Tensor:
        """All statistics in one tensor, so that a step costs a few kernels and not a few for each of them."""
        return torch.cat([buffer.reshape(-1) for buffer in self.buffers]) if self.buffers else torch.empty(0)


class Descent:
    """Steps of an optimiser on clipped gradients; a broken gradient changes nothing, and nothing waits for it.

    Args:
        optimiser: a fused optimiser of parameters whose gradients are in `.grad`; its groups may name their
            parameters, as torch's ``param_names``.
        statistics: the running statistics of the network, which all descents on it share.
        clip: largest norm of the gradient; None does not clip.
        patience: the number of steps left out in a row that is an error.
    """

    def __init__(
        self, optimiser: Optimizer, statistics: RunningStatistics, clip: float | None, patience: int = 50
    ):
        self.optimiser, self.statistics, self.clip, self.patience = optimiser, statistics, clip, patience
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        device = self.parameters[0].device
        self.guard = Guard(_names(optimiser), device)
        self.in_a_row = self.left_out = self._nothing = torch.zeros((), device=device)

    def step(self) -> Tensor:
        """Takes one step of the optimiser and returns the norm of the gradient."""
        norms = self._norms()
        norm = torch.linalg.vector_norm(norms)
        broken = self.guard.judge(norms, norm)
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        self.optimiser.found_inf = broken  # type: ignore[attr-defined] # as torch's GradScaler tells it
        if norm.device.type != "mps" or not broken:  # mps does not listen to found_inf, and is asked here
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.statistics.settle(broken)
        self.in_a_row = (self.in_a_row + 1) * broken
        self.left_out = self.left_out + broken
        return norm

    def check(self) -> LeftOut:
        """Waits for the device and returns the steps left out so far.

        Raises:
            ManasError: when `patience` steps in a row were left out.
        """
        left_out = LeftOut(int(self.left_out), self.guard.counts())
        if float(self.in_a_row) >= self.patience:
            raise ManasError(
                f"the gradient was not finite, or far beyond what it was, in the last {self.patience} steps "
                f"({left_out.parameters}); lower the learning rate, or set precision=float32"
            )
        return left_out

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint keeps."""
        counts = {"in_a_row": self.in_a_row, "left_out": self.left_out, "guard": self.guard.state_dict()}
        return {"optimiser": self.optimiser.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`; the network's own state must be loaded before."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.in_a_row = state["in_a_row"].to(self.in_a_row.device)
        self.left_out = state["left_out"].to(self.left_out.device)
        if "guard" in state:  # older checkpoints have none
            self.guard.load_state_dict(state["guard"])
        self.statistics.remember()

    def _norms(self) -> Tensor:
        """(P,) the norms of the gradients, zero for parameters without a gradient."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = iter(torch._foreach_norm(gradients) if gradients else ())
        return torch.stack([self._nothing if p.grad is None else next(norms) for p in self.parameters])


def _names(optimiser: Optimizer) -> list[str]:
    """The names of an optimiser's parameters; the parameters of a group without names are numbered."""
    return [
        name
        for place, group in enumerate(optimiser.param_groups)
        for name in group.get("param_names", [f"parameter {place}.{n}" for n in range(len(group["params"]))])
    ]
