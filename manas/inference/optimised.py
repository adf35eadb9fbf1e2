"""Networks made for inference: the same function with fewer layers."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn


def optimised(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, with normalisations folded into the convolutions before them.

    The outputs are equal up to rounding.
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
    return network.eval()


@torch.no_grad()
def _fold(layers: nn.Sequential) -> None:
    for (name, layer), (after, follower) in list(pairwise(layers.named_children())):
        if isinstance(layer, nn.Conv2d) and (constants := _scale_and_shift(follower)) is not None:
            setattr(layers, name, _scale(layer, *constants))
            setattr(layers, after, nn.Identity())  # keeps the numbers of the layers behind it


def _scale_and_shift(layer: nn.Module) -> tuple[Tensor, Tensor] | None:
    """The factors and offsets (C,) of a layer that scales and shifts channels; None for any other layer."""
    if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
        assert layer.running_var is not None
        scale = (layer.running_var + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight)
        return scale, (0 if layer.bias is None else layer.bias) - layer.running_mean * scale
    return None


def _scale(convolution: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    result = copy.deepcopy(convolution)
    result.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    before = 0 if convolution.bias is None else convolution.bias * scale
    result.bias = nn.Parameter(shift + before, requires_grad=False)
    return result
