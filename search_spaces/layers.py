"""The convolutions of the spaces, with or without normalisation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from manas.restoration.unit_start import UnitConvolution

Norm = Literal["batch", "layer", "none"]

FEWEST_CHANNELS_TO_NORMALISE = 4  # a layer norm over one or two channels leaves no information


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, without statistics over the batch or the image."""

    def __init__(self, channels: int, affine: bool):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)  # (B, H, W, C): a view in channels_last memory
        if last.dtype == torch.bfloat16:
            # As autocast does on a GPU: on the CPU the gradient of the weight is off by 5 percent in bf16.
            last = last.float()
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
    """Makes a convolution and the normalisation that `norm` names, or a `UnitConvolution` without any.

    Args:
        affine: whether the normalisation learns a scale and a shift for each channel.
        gain: the standard deviation of the outputs at the start, without normalisation.
        options: options of `nn.Conv2d`.
    """
    if norm == "none" or (norm == "layer" and outputs < FEWEST_CHANNELS_TO_NORMALISE):
        return [UnitConvolution(inputs, outputs, size, gain=gain, **options)]
    after = nn.BatchNorm2d(outputs, affine=affine) if norm == "batch" else ChannelLayerNorm(outputs, affine)
    return [nn.Conv2d(inputs, outputs, size, bias=False, **options), after]  # the mean would remove a bias


def convolution(
    norm: Norm, inputs: int, outputs: int, size: int, *, stride: int = 1, relu: bool = True, gain: float = 1.0
):
    """Makes a convolution of odd `size`, normalisation, and a ReLU if `relu`; `gain` as in `normalised`."""
    layers = normalised(norm, inputs, outputs, size, gain=gain, stride=stride, padding=size // 2)
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
