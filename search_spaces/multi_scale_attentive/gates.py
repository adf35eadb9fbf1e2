"""The nine candidate gates of MANAS (Cai et al., TCSVT 2023).

Every candidate has the form x * g(x), so a candidate is its gate g, a mixture of candidates is
x * sum_k w_k g_k(x) with one multiplication, and pooled statistics of x are computed once for all.

To add a gate, write a module that takes `Pooled` features (B, C, H, W) and returns a tensor that broadcasts
against them, enter it in `GATES`, and choose it by `attention.gates` of a space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from manas.restoration.pooling import image_maximum, image_mean, local_mean
from search_spaces.layers import Norm, normalised


class Pooled:
    """Features (B, C, H, W) with their pooled statistics, each computed at most once."""

    def __init__(self, x: Tensor):
        self.x = x

    @property
    def mean(self) -> Tensor:
        """(B, C) mean over the image."""
        return self._once("_mean", image_mean)

    @property
    def maximum(self) -> Tensor:
        """(B, C) maximum over the image."""
        return self._once("_maximum", image_maximum)

    @property
    def across_channels(self) -> Tensor:
        """(B, 2, H, W) maximum and mean over the channels."""
        return self._once("_across_channels", _across_channels)

    def _once(self, name: str, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """As cached_property would, but without its lock, at which torch.compile stops."""
        found = getattr(self, name, None)
        if found is None:
            found = pool(self.x)
            setattr(self, name, found)
        return found


def _across_channels(x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # an export of what follows would guess at the order of its memory
        return torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
    last = x.permute(0, 2, 3, 1)  # (B, H, W, C): all that follows, and its gradients, stay in channels_last
    mean = last.sum(3, keepdim=True) / x.shape[1]
    return torch.cat([last.max(3, keepdim=True).values, mean], 3).permute(0, 3, 1, 2)


class Constant(nn.Module):
    """The same gate everywhere: `none` is 0, `skip_connect` is 1."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, pooled: Pooled) -> Tensor:
        return pooled.x.new_full((1, 1, 1, 1), self.value)


def _depthwise(channels: int, *, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups=channels, bias=False)


def _separable(inputs: int, outputs: int, norm: Norm, *, dilation: int = 1) -> list[nn.Module]:
    return [_depthwise(inputs, dilation=dilation), *normalised(norm, inputs, outputs, 1, affine=False)]


class ConvolutionGate(nn.Module):
    """(B, C, H, W): sigmoid of separable convolutions; one dilated, or two with a ReLU between."""

    def __init__(self, channels: int, norm: Norm, *, dilated: bool):
        super().__init__()
        first = _separable(channels, channels, norm, dilation=2 if dilated else 1)
        second = [] if dilated else [nn.ReLU(), *_separable(channels, channels, norm)]
        self.layers = nn.Sequential(*first, *second)

    def forward(self, pooled: Pooled) -> Tensor:
        return self.layers(pooled.x).sigmoid()


class SpatialGate(nn.Module):
    """(B, 1, H, W): sigmoid of convolutions on the maximum and the mean over the channels."""

    def __init__(self, norm: Norm, *, dilated: bool):
        super().__init__()
        plain = [*_separable(2, 2, norm), nn.ReLU(), *_separable(2, 1, norm)]
        wide = [nn.Conv2d(2, 1, 3, 1, 2, 2, bias=False), *normalised(norm, 1, 1, 1, affine=False)]
        self.layers = nn.Sequential(*(wide if dilated else plain))

    def forward(self, pooled: Pooled) -> Tensor:
        return self.layers(pooled.across_channels).sigmoid()


def _squeeze(channels: int, reduction: int, *, bias: bool) -> nn.Sequential:
    width = max(1, channels // reduction)
    return nn.Sequential(nn.Linear(channels, width, bias), nn.ReLU(), nn.Linear(width, channels, bias))


class ChannelGate(nn.Module):
    """(B, C, 1, 1): squeeze and excitation (Hu et al., CVPR 2018), without bias."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.layers = _squeeze(channels, reduction, bias=False)

    def forward(self, pooled: Pooled) -> Tensor:
        return self.layers(pooled.mean).sigmoid()[:, :, None, None]


class LocalChannelGate(nn.Module):
    """(B, C, H, W): squeeze and excitation of the means around each pixel, instead of those over the image.

    A patch in training lies within the window, so that it is channel attention there; in a large image each
    part has its own (as TLC has it, Chu et al., ECCV 2022), and tiles hardly need to know of each other.
    Height and width must be multiples of `CELL`.
    """

    CELL, AROUND = 8, 10  # windows of 168 pixels

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        width = max(1, channels // reduction)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.ReLU(), nn.Conv2d(width, channels, 1, bias=False)
        )

    def forward(self, pooled: Pooled) -> Tensor:
        means = local_mean(pooled.x, self.CELL, self.AROUND)
        return interpolate(self.layers(means).sigmoid(), scale_factor=self.CELL, mode="bilinear")


class ChannelGateV2(nn.Module):
    """(B, C, 1, 1): one perceptron on the mean and on the maximum, summed before the sigmoid."""

    def __init__(self, channels: int, reduction: int, *, bias: bool = False):
        super().__init__()
        self.layers = _squeeze(channels, reduction, bias=bias)

    def forward(self, pooled: Pooled) -> Tensor:
        return (self.layers(pooled.mean) + self.layers(pooled.maximum)).sigmoid()[:, :, None, None]


class BlockAttentionGate(nn.Module):
    """(B, C, H, W): CBAM (Woo et al., ECCV 2018), a channel gate and then a 7x7 spatial gate of its result."""

    def __init__(self, channels: int, reduction: int, norm: Norm):
        super().__init__()
        self.channel = ChannelGateV2(channels, reduction, bias=True)
        self.spatial = nn.Sequential(*normalised(norm, 2, 1, 7, padding=3))

    def forward(self, pooled: Pooled) -> Tensor:
        channel = self.channel(pooled)
        spatial = self.spatial(Pooled(pooled.x * channel).across_channels).sigmoid()
        # (B, H, W, C) is the order of channels_last memory; the product of these shapes would not keep it.
        return (channel.permute(0, 2, 3, 1) * spatial.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


Gate = Callable[[int, int, Norm], nn.Module]

# The gates of the paper: name -> constructor from (channels, reduction, norm), in the order of the released
# code. A space that names none has these, whatever else is entered in `GATES`.
PUBLISHED_GATES: dict[str, Gate] = {
    "none": lambda channels, reduction, norm: Constant(0.0),
    "skip_connect": lambda channels, reduction, norm: Constant(1.0),
    "sep_conv_3x3": lambda channels, reduction, norm: ConvolutionGate(channels, norm, dilated=False),
    "dil_conv_3x3": lambda channels, reduction, norm: ConvolutionGate(channels, norm, dilated=True),
    "sep_conv_3x3_spatial": lambda channels, reduction, norm: SpatialGate(norm, dilated=False),
    "dil_conv_3x3_spatial": lambda channels, reduction, norm: SpatialGate(norm, dilated=True),
    "channel_attention": lambda channels, reduction, norm: ChannelGate(channels, reduction),
    "channel_attention_v2": lambda channels, reduction, norm: ChannelGateV2(channels, reduction),
    "cbam": lambda channels, reduction, norm: BlockAttentionGate(channels, reduction, norm),
}

LOCAL = "local_channel_attention"

# Every gate that a space may name.
GATES: dict[str, Gate] = {
    **PUBLISHED_GATES,
    LOCAL: lambda channels, reduction, norm: LocalChannelGate(channels, reduction),
}


def gate_multiple(gates: Iterable[str]) -> int:
    """What the height and the width of features must be multiples of for any of these gates."""
    return LocalChannelGate.CELL if LOCAL in gates else 1
