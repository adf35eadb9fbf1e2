"""The blocks that `frontier` chooses from: maps of features (B, C, H, W) to what a residual path adds to them.

Without normalisation, but for the layer norm that belongs to NAF blocks: the convolutions start by the unit
start, and the last one of a block small, so that a network of any blocks starts near the identity.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from manas.restoration.pooling import image_mean
from manas.restoration.unit_start import BRANCH, UnitConvolution
from search_spaces.layers import ChannelLayerNorm


def convolution(
    inputs: int, outputs: int, size: int, *, gain: float = 1.0, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Makes a convolution of odd `size` that keeps height and width."""
    padding = dilation * (size // 2)
    options = {"padding": padding, "dilation": dilation, "groups": groups}
    return UnitConvolution(inputs, outputs, size, gain=gain, **options)


def residual(channels: int, hidden: int) -> nn.Module:
    """Two 3x3 convolutions (EDSR, Lim et al., CVPRW 2017)."""
    first, last = convolution(channels, hidden, 3), convolution(hidden, channels, 3, gain=BRANCH)
    return nn.Sequential(first, nn.ReLU(inplace=True), last)


def dilated(channels: int, hidden: int) -> nn.Module:
    """A 3x3 convolution of dilation 2, and one of dilation 1."""
    first, last = convolution(channels, hidden, 3, dilation=2), convolution(hidden, channels, 3, gain=BRANCH)
    return nn.Sequential(first, nn.ReLU(inplace=True), last)


def large_kernel(channels: int, hidden: int) -> nn.Module:
    """A 7x7 convolution of each channel, and two pointwise ones (ConvNeXt, Liu et al., CVPR 2022)."""
    spatial = convolution(channels, channels, 7, groups=channels)
    first, last = convolution(channels, 2 * hidden, 1), convolution(2 * hidden, channels, 1, gain=BRANCH)
    return nn.Sequential(spatial, first, nn.ReLU(inplace=True), last)


def inverted(channels: int, hidden: int) -> nn.Module:
    """A 3x3 convolution of each of many channels, between pointwise ones (MobileNetV2, Sandler et al.)."""
    wide = 2 * hidden
    first, spatial = convolution(channels, wide, 1), convolution(wide, wide, 3, groups=wide)
    last = convolution(wide, channels, 1, gain=BRANCH)
    return nn.Sequential(first, nn.ReLU(inplace=True), spatial, nn.ReLU(inplace=True), last)


class SimpleGate(nn.Module):
    """(B, 2 C, H, W) -> (B, C, H, W), the product of both halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return first * second


class ChannelScale(nn.Module):
    """Every channel times a linear function of the means of all channels over the image."""

    def __init__(self, channels: int):
        super().__init__()
        self.layer = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layer(image_mean(x))[:, :, None, None]


class NafBlock(nn.Module):
    """The block of NAFNet (Chen et al., ECCV 2022): gates in the place of activations."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.spatial = nn.Sequential(
            ChannelLayerNorm(channels, affine=True),
            convolution(channels, 2 * hidden, 1),
            convolution(2 * hidden, 2 * hidden, 3, groups=2 * hidden),
            SimpleGate(),
            ChannelScale(hidden),
            convolution(hidden, channels, 1, gain=BRANCH),
        )
        self.pointwise = nn.Sequential(
            ChannelLayerNorm(channels, affine=True),
            convolution(channels, 2 * hidden, 1),
            SimpleGate(),
            convolution(hidden, channels, 1, gain=BRANCH),
        )

    def forward(self, x: Tensor) -> Tensor:
        added = self.spatial(x)
        return added + self.pointwise(x + added)


# Every block by its name: a function of the channels and of the hidden channels, which expansion multiplies.
BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {
    "residual": residual,
    "dilated": dilated,
    "large_kernel": large_kernel,
    "inverted": inverted,
    "naf": NafBlock,
}
