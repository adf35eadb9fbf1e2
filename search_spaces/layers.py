"""Convolution and normalisation as the spaces use them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from manas.restoration.unit_start import UnitConvolution

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


def normalised(
    norm: Norm,
    inputs: int,
    outputs: int,
    size: int,
    *,
    affine: bool = True,
    gain: float = 1.0,
    **options: Any,
) -> list[nn.Module]:
    """A convolution and the layer that `norm` names after it, or one that needs none.

    Args:
        affine: the normalisation learns a scale and shift a channel.
        gain: the standard deviation at the start where nothing normalises.
        options: of `nn.Conv2d`.
    """
    if norm == "none" or (norm == "layer" and outputs < FEWEST_CHANNELS_TO_NORMALISE):
        return [UnitConvolution(inputs, outputs, size, gain=gain, **options)]
    after = nn.BatchNorm2d(outputs, affine=affine) if norm == "batch" else ChannelLayerNorm(outputs, affine)
    return [nn.Conv2d(inputs, outputs, size, bias=False, **options), after]


def convolution(
    norm: Norm, inputs: int, outputs: int, size: int, *, stride: int = 1, relu: bool = True, gain: float = 1.0
):
    """Convolution of odd `size`, normalisation, and a ReLU unless told otherwise; `gain` as of `normalised`."""
    layers = normalised(norm, inputs, outputs, size, gain=gain, stride=stride, padding=size // 2)
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
