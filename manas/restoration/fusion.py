"""Fusion: one blind restoration from the restorations of all towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WIDTH = 16


class Mean(nn.Module):
    """The average of the towers' restorations."""

    def forward(self, image: Tensor, restored: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(restored)).mean(0)


class Convolution(nn.Module):
    """The average, corrected by convolutions of the image and all restorations; the correction starts at 0."""

    def __init__(self, tasks: int):
        super().__init__()
        self.layers = _layers(tasks, 3)

    def forward(self, image: Tensor, restored: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(restored)).mean(0) + self.layers(torch.cat([image, *restored], 1))


class Mask(nn.Module):
    """A convex combination of the restorations, pixel by pixel; it starts as the average."""

    def __init__(self, tasks: int):
        super().__init__()
        self.layers = _layers(tasks, tasks)

    def forward(self, image: Tensor, restored: Sequence[Tensor]) -> Tensor:
        shares = self.layers(torch.cat([image, *restored], 1)).softmax(1)  # (B, T, H, W)
        return sum(share * x for share, x in zip(shares.split(1, 1), restored, strict=True))


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda _: Mean(),
    "conv": Convolution,
    "mask": Mask,
}


def _layers(tasks: int, outputs: int) -> nn.Sequential:
    last = nn.Conv2d(WIDTH, outputs, 3, padding=1)
    # With zeros every fusion starts as the average, so that the towers learn from the first step on.
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.Conv2d(3 * (tasks + 1), WIDTH, 3, padding=1), nn.ReLU(), last)
