"""A space with headroom: the forks that decide how well a restoration network does at its cost.

Gates span little of what is possible; blocks, their widths and number, and the scales that they work at span
over a decibel. Every stage works on the image, unshuffled, at up to three scales; residual networks
(`search_spaces.plain`) and relatives of U-Nets are points of the space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from manas.architecture.decide import Decide
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, nearest
from manas.restoration.tower import Features, Stage
from manas.restoration.unit_start import BRANCH
from search_spaces.blocks import BLOCKS, convolution
from search_spaces.multi_scale_attentive.gates import GATES, LOCAL, Pooled, gate_multiple
from search_spaces.shuffle import Shuffle, UnshuffledTower, image_channels, shuffled

SCALES = {"full": 1, "half": 2, "quarter": 4}  # the factor by which a branch makes the features smaller
EXPANSIONS = {"narrow": 0.5, "same": 1.0, "wide": 2.0}
WIDTHS = {1: 2, 2: 3, 4: 4}  # factor -> the channels of its features, in halves of `width`
NOTHING = "none"


class Frontier(SearchSpace):
    """The space of stages of branches of blocks.

    A stage adds to its features what its branches make of them, one at each of three scales, under a gate:

        stage0/full                         none | blocks; so half and quarter, all of them none if optional
        stage0/full/kind                    residual | dilated | large_kernel | inverted | naf
        stage0/full/residual/expansion      narrow | same | wide
        stage0/full/residual/narrow/second  none | block, a second block of the same kind
        stage0/gate                         skip_connect | channel_attention | cbam

    Attributes:
        stages: number of stages.
        optional: whether a stage may be left out, so that `stages` is the most there are.
        width: channels of the features; at half and quarter scale 3/2 and 2 times as many.
        shuffle: features have 1 / shuffle of the image's resolution.
        blocks: the kinds of blocks.
        gates: the gates on what a stage adds.
        reduction: of the channels within gates.
    """

    stages: int = Field(4, ge=1)
    optional: bool = False
    width: int = Field(32, ge=4, multiple_of=2)
    shuffle: Shuffle = 2
    blocks: tuple[str, ...] = tuple(BLOCKS)
    gates: tuple[str, ...] = ("skip_connect", "channel_attention", "cbam")
    reduction: int = Field(8, ge=1)

    @field_validator("blocks", "gates")
    @classmethod
    def _known(cls, names: tuple[str, ...], info) -> tuple[str, ...]:
        known = BLOCKS if info.field_name == "blocks" else GATES
        for name in names:
            if name not in known:
                raise ManasError(f"unknown name {name!r}; {nearest(name, known)}")
        return names

    def build(self, decide: Decide) -> nn.Module:
        """Builds a `FrontierTower`."""
        return FrontierTower(self, decide)

    def by_hand(self) -> dict[str, dict[str, str]]:
        """Relatives of RCAN (Zhang et al., ECCV 2018), a U-Net, and NAFNet (Chen et al., ECCV 2022)."""
        designs = {name: design for name, design in BY_HAND.items() if design.offered(self)}
        return {name: design.choices(self.stages) for name, design in designs.items()}


@dataclass(frozen=True)
class Design:
    """Stages of blocks of one kind, at full scale or as in a U-Net: smaller towards the middle."""

    kind: str
    gate: str
    second: str
    is_unet: bool

    def offered(self, space: Frontier) -> bool:
        """Whether a space has the blocks and the gate."""
        return self.kind in space.blocks and self.gate in space.gates

    def choices(self, stages: int) -> dict[str, str]:
        """The architecture of so many stages."""
        choices: dict[str, str] = {}
        for number in range(stages):
            depth = min(number, stages - 1 - number) * 2 * len(SCALES) // stages if self.is_unet else 0
            stage, scale = f"stage{number}", list(SCALES)[depth]
            choices |= dict.fromkeys((f"{stage}/{each}" for each in SCALES), NOTHING)
            choices |= {f"{stage}/{scale}": "blocks", f"{stage}/{scale}/kind": self.kind}
            choices |= {f"{stage}/{scale}/{self.kind}/expansion": "same", f"{stage}/gate": self.gate}
            choices |= {f"{stage}/{scale}/{self.kind}/same/second": self.second}
        return choices


BY_HAND = {
    "RCAN": Design("residual", "channel_attention", NOTHING, is_unet=False),
    "RCAN, local": Design("residual", LOCAL, NOTHING, is_unet=False),
    "U-Net": Design("residual", "skip_connect", "block", is_unet=True),
    "NAFNet": Design("naf", "skip_connect", "block", is_unet=True),
}


class FrontierTower(UnshuffledTower):
    """The tower of `Frontier`; before training it returns the image as it is."""

    def __init__(self, space: Frontier, decide: Decide):
        super().__init__()
        inner = image_channels(space.shuffle)
        self.channels = [(space.width,)] * space.stages
        self.shuffle = space.shuffle
        self.size_multiple = space.shuffle * max(*SCALES.values(), gate_multiple(space.gates))
        self.first = convolution(inner, space.width, 3)
        self.adding = nn.ModuleList(Branches(space, f"stage{n}", decide) for n in range(space.stages))
        self.last = nn.Conv2d(space.width, inner, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def stages(self) -> list[Stage]:
        return [partial(_stage, branches) for branches in self.adding]


def _stage(branches: nn.Module, features: Features, image: Tensor) -> Features:
    (x,) = features
    return [branches(x)]


class Branches(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): the features, and the sum of a branch at each scale, under a gate."""

    def __init__(self, space: Frontier, label: str, decide: Decide):
        super().__init__()
        self.branches = nn.ModuleList(
            decide(
                f"{label}/{scale}",
                {NOTHING: Nothing, "blocks": partial(_branch, space, f"{label}/{scale}", factor, decide)},
                node=None if space.optional else label,
                zero=NOTHING,
            )
            for scale, factor in SCALES.items()
        )
        gates = {name: partial(GATES[name], space.width, space.reduction, "none") for name in space.gates}
        self.gate = decide(f"{label}/gate", gates, zero="none" if "none" in gates else None)

    def forward(self, x: Tensor) -> Tensor:
        added = _total([branch(x) for branch in self.branches])
        return torch.addcmul(x, added, self.gate(Pooled(added))) if added.dim() else x


def _total(terms: list[Tensor]) -> Tensor:
    """The sum of what is not `Nothing`, or nothing."""
    return reduce(torch.add, [term for term in terms if term.dim()] or terms[:1])


class Nothing(nn.Module):
    """A zero without a shape, which costs nothing to add."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def _branch(space: Frontier, label: str, factor: int, decide: Decide) -> nn.Module:
    """Blocks of a kind, on features that are smaller by `factor`."""
    inner = space.width * WIDTHS[factor] // 2
    kinds = {kind: partial(_expanded, kind, f"{label}/{kind}", inner, decide) for kind in space.blocks}
    blocks = decide(f"{label}/kind", kinds)
    return blocks if factor == 1 else Resampled(blocks, space.width, inner, factor)


class Resampled(nn.Module):
    """(B, C, H, W) -> (B, C, H, W): blocks on features that a convolution made smaller, enlarged again."""

    def __init__(self, blocks: nn.Module, outer: int, inner: int, factor: int):
        super().__init__()
        self.factor = factor
        self.smaller = nn.Conv2d(outer, inner, factor, stride=factor)
        self.blocks = blocks
        self.larger = convolution(inner, outer * factor**2, 1, gain=BRANCH)

    def forward(self, x: Tensor) -> Tensor:
        smaller = self.smaller(x)
        return shuffled(self.larger(smaller + self.blocks(smaller)), self.factor)


def _expanded(kind: str, label: str, channels: int, decide: Decide) -> nn.Module:
    def blocks(name: str, expansion: float) -> Callable[[], nn.Module]:
        build = partial(BLOCKS[kind], channels, max(1, round(expansion * channels)))
        return partial(Blocks, build, f"{label}/{name}", decide)

    return decide(f"{label}/expansion", {name: blocks(name, factor) for name, factor in EXPANSIONS.items()})


class Blocks(nn.Module):
    """One block or two: what both add to features (B, C, H, W)."""

    def __init__(self, build: Callable[[], nn.Module], label: str, decide: Decide):
        super().__init__()
        self.first = build()
        self.second = decide(f"{label}/second", {NOTHING: Nothing, "block": build}, zero=NOTHING)

    def forward(self, x: Tensor) -> Tensor:
        added = self.first(x)
        return _total([added, self.second(x + added)])
