"""DRN, the dual recursive network: two residual blocks of 16 channels, unfolded 7 x 7 times.

Cai, Li, Ren, Wang, "Dual Recursive Network for Fast Image Deraining", ICIP 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, cat, nn

from manas.architecture.decide import Decide
from manas.architecture.space import SearchSpace
from manas.restoration.tower import Features, Stage, Tower
from search_spaces.shuffle import Shuffle, image_channels, shuffled, unshuffled

# The names of modules in the released code, and in ours.
RELEASED = {
    "conv0.0": "first",
    "res_conv1.0": "blocks.0.0",
    "res_conv1.2": "blocks.0.2",
    "res_conv2.0": "blocks.1.0",
    "res_conv2.2": "blocks.1.2",
    "conv.0": "last",
}


class DualRecursive(SearchSpace):
    """The tower of DRN; a space without forks. The defaults are the published network of 10,595 parameters.

    Attributes:
        channels: width of the features.
        stages: number of recursions over the whole network, with the same weights ("inter").
        recursions: number of recursions over the two residual blocks within a stage ("intra").
        shuffle: the tower works at 1 / shuffle of the image's resolution, on squares of pixels as channels; 1
            as published. It then predicts 3 shuffle^2 channels, 12 or 48, for which `channels` must be wide
            enough.
    """

    channels: int = Field(16, ge=1)
    stages: int = Field(7, ge=1)
    recursions: int = Field(7, ge=1)
    shuffle: Shuffle = 1

    def build(self, decide: Decide) -> nn.Module:
        """Builds a `DualRecursiveTower`."""
        return DualRecursiveTower(self)

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translates the names of the authors' code (``net_latest.pth``); see `SearchSpace.renamed`."""
        split = {name: name.rpartition(".") for name in state}
        return {f"{RELEASED.get(split[n][0], split[n][0])}.{split[n][2]}": value for n, value in state.items()}


class DualRecursiveTower(Tower):
    """The tower of DRN: x_0 = I, every stage makes features f_s of (I, x_{s-1}), and x_s = I + conv(f_s).

    All stages are one module. With `shuffle`, f_s is (B, C, H / shuffle, W / shuffle) and is made of I and
    x_{s-1} unshuffled, and x_s = I + shuffled(conv(f_s)).
    """

    def __init__(self, space: DualRecursive):
        super().__init__()
        width = space.channels
        self.channels = [(width,)] * space.stages
        self.shuffle = self.size_multiple = space.shuffle
        self.recursions = space.recursions
        self.first = _convolution(2 * image_channels(space.shuffle), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width), nn.ReLU())
            for _ in range(2)
        )
        self.last = _convolution(width, image_channels(space.shuffle))

    def stem(self, image: Tensor) -> Features:
        """Makes no features; the first stage sees the image twice."""
        return []

    def stages(self) -> list[Stage]:
        return [self.stage] * len(self.channels)

    def stage(self, features: Features, image: Tensor) -> Features:
        """Makes f_s of the image and x_{s-1}, both unshuffled; x_{s-1} is computed from f_{s-1}."""
        small = unshuffled(image, self.shuffle)
        previous = small + self.last(features[0]) if features else small
        x = self.first(cat([small, previous], 1)).relu()
        for _ in range(self.recursions):
            for block in self.blocks:
                x = (block(x) + x).relu()
        return [x]

    def head(self, features: Features, image: Tensor) -> Tensor:
        return image + shuffled(self.last(features[0]), self.shuffle)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
