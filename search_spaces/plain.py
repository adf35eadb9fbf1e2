"""The baseline that every claim must beat: residual blocks on the unshuffled image, and nothing else.

Another network has a merit if it restores better than this one, trained in the same way and in the same time.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from manas.architecture.decide import Decide
from manas.architecture.space import SearchSpace
from manas.restoration.tower import Features, Stage
from manas.restoration.unit_start import BRANCH, UnitConvolution
from search_spaces.layers import Norm, convolution
from search_spaces.multi_scale_attentive.gates import ChannelGate, Pooled
from search_spaces.shuffle import Shuffle, UnshuffledTower, image_channels

REDUCTION = 8  # of the channels within the attention


class Plain(SearchSpace):
    """The plain tower; a space without forks. The defaults have 117,932 parameters.

    Attributes:
        width: channels of the features.
        blocks: residual blocks of two convolutions, each block a stage.
        shuffle: features have 1 / shuffle of the image's resolution; 2 costs a quarter of 1.
        norm: ``batch`` or ``layer`` after each convolution of a block; ``none`` has a bias in its place, and
            the unit start.
        attention: channel attention on what a block adds (RCAN, Zhang et al., ECCV 2018; here without a group).
    """

    width: int = Field(32, ge=1)
    blocks: int = Field(6, ge=1)
    shuffle: Shuffle = 2
    norm: Norm = "none"
    attention: bool = False

    def build(self, decide: Decide) -> nn.Module:
        """Builds a `PlainTower`."""
        return PlainTower(self)


class Block(nn.Module):
    """A residual block x + g(relu(f(x))) of two convolutions f and g, which starts close to x.

    With attention, each channel of what is added has a factor, by squeeze and excitation.
    """

    def __init__(self, width: int, norm: Norm, attention: bool):
        super().__init__()
        first = convolution(norm, width, width, 3)
        last = convolution(norm, width, width, 3, relu=False, gain=BRANCH)
        self.layers = nn.Sequential(*first, *last)
        self.gate = ChannelGate(width, REDUCTION) if attention else None

    def forward(self, features: Features, image: Tensor) -> Features:
        (x,) = features
        added = self.layers(x)
        return [x + (added if self.gate is None else added * self.gate(Pooled(added)))]


class PlainTower(UnshuffledTower):
    """The tower of `Plain`; its stages are the blocks, and before training it returns the image as it is."""

    def __init__(self, space: Plain):
        super().__init__()
        inner = image_channels(space.shuffle)
        self.channels = [(space.width,)] * space.blocks
        self.size_multiple = self.shuffle = space.shuffle
        self.first = UnitConvolution(inner, space.width, 3, padding=1)
        self.blocks = nn.ModuleList(
            Block(space.width, space.norm, space.attention) for _ in range(space.blocks)
        )
        self.last = nn.Conv2d(space.width, inner, 3, padding=1)
        # The tower starts as the identity, so that training begins with the degraded image and not with noise.
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def stages(self) -> list[Stage]:
        return list(self.blocks)
