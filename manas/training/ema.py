"""Exponential moving average of a network: what is evaluated and saved."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """A copy of a network whose weights and running statistics follow it slowly.

    The decay rises to its value as min(decay, (1 + n) / (10 + n)) after n steps, so that the average forgets
    the random weights of the start, also in short trainings.

    Attributes:
        network: the averaged copy, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves towards `network` after its step number `step`, counted from zero."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averaged, current = self.network.state_dict(), network.state_dict()
        floating = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([averaged[n] for n in floating], [current[n] for n in floating], weight)
        for name in averaged.keys() - set(floating):
            averaged[name].copy_(current[name])
