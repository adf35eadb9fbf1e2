"""Exponential moving average of a network; the averaged network is the one evaluated and saved."""

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
        ours, theirs = self.network.state_dict(), network.state_dict()
        floating = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        counting = [name for name in ours if name not in floating]  # a mean of step counters means nothing
        # The tensors are collected once, so that an update is one kernel over all and not one for each.
        self._floating = [ours[n] for n in floating], [theirs[n].detach() for n in floating]
        self._counting = [ours[n] for n in counting], [theirs[n] for n in counting]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the network after its step number `step`, counted from zero."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._floating, weight)
        if self._counting[0]:
            torch._foreach_copy_(*self._counting)
