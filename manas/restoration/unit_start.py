"""The start of networks without normalisation: features have mean 0 and variance 1 on training images.

Salimans and Kingma, "Weight Normalization", NeurIPS 2016, section 3. A random start without data leaves the
mean of the images in every feature, and layers of very different scale; a network without normalisation learns
slowly from there, or not at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

BRANCH = 0.1  # the standard deviation at the start of a branch that is added to features that pass by
FLAT = 1e-5  # a channel whose standard deviation is below this keeps its scale


class UnitConvolution(nn.Conv2d):
    """A convolution with bias that no normalisation follows.

    Attributes:
        gain: the standard deviation that `unit_start` gives its outputs.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, gain: float = 1.0, **options: Any):
        super().__init__(inputs, outputs, size, **options)
        self.gain = gain


@torch.no_grad()
def unit_start(network: nn.Module, images: Tensor) -> None:
    """Scales and shifts every `UnitConvolution` by the statistics of its outputs on images (B, 3, H, W).

    One pass is enough, since a layer is scaled before its outputs go on. A layer that is used several times is
    scaled at its first use, and a layer that the images do not pass stays as it is.
    """
    hooks: dict[nn.Module, RemovableHandle] = {}

    def scale(layer: UnitConvolution, inputs: tuple[Tensor, ...], y: Tensor) -> Tensor:
        hooks.pop(layer).remove()
        deviation, mean = torch.std_mean(y, (0, 2, 3), correction=0)
        factor = torch.where(deviation > FLAT, layer.gain / deviation, torch.ones_like(deviation))
        assert layer.bias is not None
        layer.weight.mul_(factor[:, None, None, None])
        layer.bias.sub_(mean).mul_(factor)
        # A hook that returns a value replaces the output, so that the next layer sees the scaled one.
        return (y - mean[:, None, None]) * factor[:, None, None]

    for module in network.modules():
        if isinstance(module, UnitConvolution):
            hooks[module] = module.register_forward_hook(scale)
    if hooks:
        network(images)
    for hook in hooks.values():
        hook.remove()
