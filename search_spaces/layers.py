"""Convolution and normalisation as the spaces use them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

Norm = Literal["batch", "layer", "none"]

FEWEST_CHANNELS_TO_NORMALISE = 4  # over one or two channels a layer norm leaves no information


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel: no batch statistics, no spatial ones."""

    def __init__(self, channels: int, affine: bool):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)  # (B, H, W, C): a view in channels_last memory
        return layer_norm(last, (self.channels,), self.weight, self.bias, 1e-5).permute(0, 3, 1, 2)


class Affine(nn.Module):
    """A learned scale and shift a channel: what a normalisation leaves when it does not normalise."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.to(x.dtype) + self.bias.to(x.dtype)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Both (C,): by them it can be folded into a convolution (`manas.inference.optimised`)."""
        return self.weight.flatten(), self.bias.flatten()


def normalisation(norm: Norm, channels: int, *, affine: bool = True) -> nn.Module:
    """The layer that `norm` names; `affine` adds a learned scale and shift a channel."""
    if norm == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    if norm == "layer" and channels >= FEWEST_CHANNELS_TO_NORMALISE:
        return ChannelLayerNorm(channels, affine)
    return Affine(channels) if affine else nn.Identity()


def convolution(norm: Norm, inputs: int, outputs: int, size: int, *, stride: int = 1, relu: bool = True):
    """Bias-free convolution of odd `size`, normalisation, and a ReLU unless told otherwise."""
    layers = [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), normalisation(norm, outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
