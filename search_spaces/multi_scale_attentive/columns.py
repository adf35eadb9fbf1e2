"""Columns of a cell and the transitions between cells: HRNet-like modules over parallel scales.

All of them map features to new features, a list with one tensor (B, C_i, H/2^i, W/2^i) a scale, where H x W is
the size at the finest scale.

To add a column, write a module from features to features of the same shapes, enter it in `COLUMNS`, and choose
it by `column_candidates` of a space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from manas.restoration.tower import Features
from manas.restoration.unit_start import BRANCH
from search_spaces.layers import Norm, convolution


class Bottleneck(nn.Module):
    """Residual bottleneck of ResNet (He et al., CVPR 2016): 1x1, 3x3, 1x1 with `expansion`."""

    def __init__(self, inputs: int, planes: int, expansion: int, norm: Norm):
        super().__init__()
        outputs = planes * expansion
        self.layers = nn.Sequential(
            convolution(norm, inputs, planes, 1),
            convolution(norm, planes, planes, 3),
            convolution(norm, planes, outputs, 1, relu=False, gain=BRANCH),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(norm, inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.layers(x) + self.shortcut(x))


class ResidualBlock(nn.Module):
    """conv3x3, norm, ReLU, conv3x3, norm, added to the input, ReLU."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.layers = nn.Sequential(
            convolution(norm, channels, channels, 3),
            convolution(norm, channels, channels, 3, relu=False, gain=BRANCH),
        )

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.layers(x) + x)


class Parallel(nn.Module):
    """One residual block a scale; the scales do not meet."""

    def __init__(self, channels: Sequence[int], norm: Norm):
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width, norm) for width in channels)

    def forward(self, features: Features) -> Features:
        return [block(x) for block, x in zip(self.blocks, features, strict=True)]


class FusionAt(nn.Module):
    """The output of `Fusion` at one scale."""

    def __init__(self, channels: Sequence[int], scale: int, norm: Norm):
        super().__init__()
        self.scale = scale
        self.down = nn.ModuleList(_down(channels[j], channels[scale], scale - j, norm) for j in range(scale))
        self.up = nn.ModuleList(
            convolution(norm, width, channels[scale], 1, relu=False) for width in channels[scale + 1 :]
        )

    def forward(self, features: Features) -> Tensor:
        total = features[self.scale]
        for down, finer in zip(self.down, features, strict=False):
            total = total + down(finer)
        coarser: Tensor | None = None
        # From coarse to fine: each sum is made at its own resolution and enlarged once.
        for up, x in zip(reversed(self.up), reversed(features), strict=False):
            coarser = up(x) if coarser is None else up(x) + _enlarged(coarser)
        return relu(total if coarser is None else total + _enlarged(coarser))


class Fusion(nn.Module):
    """y_i = relu(x_i + sum_{j>i} up_{2^(j-i)}(norm(conv1x1(x_j))) + sum_{j<i} down_{j->i}(x_j))."""

    def __init__(self, channels: Sequence[int], norm: Norm):
        super().__init__()
        self.scales = nn.ModuleList(FusionAt(channels, scale, norm) for scale in range(len(channels)))

    def forward(self, features: Features) -> Features:
        return [at(features) for at in self.scales]


class Transition(nn.Module):
    """Adds a scale: kept scales get a 3x3 convolution where the width changes, the new one a strided one."""

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], norm: Norm):
        super().__init__()
        self.keep = nn.ModuleList(
            nn.Identity() if width == wanted else convolution(norm, width, wanted, 3)
            for width, wanted in zip(inputs, outputs, strict=False)
        )
        self.new = convolution(norm, inputs[-1], outputs[-1], 3, stride=2)

    def forward(self, features: Features) -> Features:
        kept = [keep(x) for keep, x in zip(self.keep, features, strict=True)]
        return [*kept, self.new(features[-1])]


Column = Callable[[Sequence[int], Norm], nn.Module]

# The columns of the paper: name -> constructor from (widths of the scales, norm), in the order of the released
# code. A space that names no candidates has these.
PUBLISHED_COLUMNS: dict[str, Column] = {"parallel": Parallel, "fusion": Fusion}

# Every column that a space may name.
COLUMNS: dict[str, Column] = dict(PUBLISHED_COLUMNS)


def _down(inputs: int, outputs: int, halvings: int, norm: Norm) -> nn.Sequential:
    """Strided 3x3 convolutions; only the last changes the width, and it has no ReLU."""
    halve = [convolution(norm, inputs, inputs, 3, stride=2) for _ in range(halvings - 1)]
    return nn.Sequential(*halve, convolution(norm, inputs, outputs, 3, stride=2, relu=False))


def _enlarged(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")
