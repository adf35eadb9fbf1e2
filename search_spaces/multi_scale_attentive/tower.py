"""The MANAS tower, and CLEARER, which is the same without attention.

Cai et al., "Multi-Scale Attentive Image De-raining Networks via Neural Architecture Search", TCSVT 2023.
Gou et al., "CLEARER: Multi-Scale Neural Architecture Search for Image Restoration", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from manas.architecture.decide import Candidates, Decide
from manas.architecture.space import Reading, SearchSpace
from manas.errors import ManasError, nearest
from manas.restoration.tower import Features, Stage, Tower
from search_spaces.layers import Norm
from search_spaces.multi_scale_attentive.attention import Attention
from search_spaces.multi_scale_attentive.columns import (
    COLUMNS,
    PUBLISHED_COLUMNS,
    Bottleneck,
    FusionAt,
    Transition,
)
from search_spaces.multi_scale_attentive.gates import GATES, PUBLISHED_GATES, gate_multiple
from search_spaces.multi_scale_attentive.released import probabilities
from search_spaces.shuffle import Shuffle, image_channels, shuffled, unshuffled


def _require_known(what: str, names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ManasError(f"unknown {what} {name!r}; {nearest(name, known)}")
    if len(set(names)) != len(names):
        raise ManasError(f"a {what} is named twice in {', '.join(names)}; name each once")
    return names


class StemOptions(BaseModel):
    """The stem: `blocks` residual bottlenecks with `planes` inner and planes x expansion outer channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: int = Field(2, ge=1)
    planes: int = Field(32, ge=1)
    expansion: int = Field(4, ge=1)


class AttentionOptions(BaseModel):
    """The attention modules: number of channel groups, and the candidate gates of every edge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: int = Field(2, ge=1)
    gates: tuple[str, ...] = Field(tuple(PUBLISHED_GATES), min_length=1)

    @field_validator("gates")
    @classmethod
    def _known(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        return _require_known("gate", gates, GATES)


class MultiScaleAttentive(SearchSpace):
    """Multi-scale attentive tower with a fork at every column and at every edge of its attention modules.

    Attributes:
        channels: width of each scale; scale i has 1 / (shuffle 2^i) of the image's resolution.
        columns: columns of each cell; cell c works on the first c + 2 scales.
        column_candidates: what each of them may be, of `columns.COLUMNS`.
        stem: the bottlenecks before the first cell.
        attention: the modules after the columns of each cell, one a scale; None for CLEARER.
        norm: ``batch`` as published, ``layer`` over channels, or ``none``: biases, and features of unit
            variance at the start of a training (`manas.restoration.unit_start`).
        residual: the head predicts the difference to the input and starts at zero; False as published.
        shuffle: the tower sees squares of pixels as 3 shuffle^2 channels, and predicts them; 1 as published. A
            stem with fewer outer channels is refused. Its `planes` may be fewer, since the shortcut goes around
            them. The first of `channels` should not be fewer, since the output is made of it pixel by pixel.
    """

    channels: tuple[int, ...] = Field((32, 64, 128, 256), min_length=2)
    columns: tuple[int, ...] = (4, 4, 4)
    column_candidates: tuple[str, ...] = Field(tuple(PUBLISHED_COLUMNS), min_length=1)
    stem: StemOptions = StemOptions()
    attention: AttentionOptions | None = AttentionOptions()
    norm: Norm = "batch"
    residual: bool = False
    shuffle: Shuffle = 1

    @field_validator("column_candidates")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _require_known("column", names, COLUMNS)

    @model_validator(mode="after")
    def _fits(self) -> MultiScaleAttentive:
        if min(self.channels) < 1 or min(self.columns, default=0) < 0:
            raise ManasError("channels must be positive and columns not negative")
        if len(self.columns) != len(self.channels) - 1:
            raise ManasError(
                f"{len(self.channels)} channels need {len(self.channels) - 1} entries in columns (one a cell), "
                f"not {len(self.columns)}"
            )
        groups = self.attention.groups if self.attention else 1
        for width in self.channels:
            if width % groups:
                raise ManasError(f"channels: {width} is not divisible into {groups} attention groups")
        return self

    @model_validator(mode="after")
    def _stem_passes_the_image(self) -> MultiScaleAttentive:
        inputs, outputs = image_channels(self.shuffle), self.stem.planes * self.stem.expansion
        if self.shuffle > 1 and outputs < inputs:
            raise ManasError(
                f"stem: planes x expansion is {outputs}, too few for the {inputs} channels of an image "
                f"unshuffled by {self.shuffle}; make it at least {inputs}"
            )
        return self

    def build(self, decide: Decide) -> nn.Module:
        """A `MultiScaleAttentiveTower`."""
        return MultiScaleAttentiveTower(self, decide)

    def imported(self, checkpoint: Mapping[str, Any], reading: Reading) -> dict[str, dict[str, float]]:
        """The probabilities in a checkpoint of the released MANAS code; see `SearchSpace.imported`."""
        return probabilities(self.choices(), checkpoint, reading)


class Cell(nn.Module):
    """One stage: transition to one more scale, columns, attention on every scale."""

    def __init__(self, space: MultiScaleAttentive, index: int, inputs: tuple[int, ...], decide: Decide):
        super().__init__()
        channels, label = space.channels[: index + 2], f"cell{index}"
        column: Candidates = {
            name: partial(COLUMNS[name], channels, space.norm) for name in space.column_candidates
        }
        self.transition = Transition(inputs, channels, space.norm)
        self.columns = nn.ModuleList(decide(f"{label}/column{n}", column) for n in range(space.columns[index]))
        options = space.attention
        self.attention = nn.ModuleList(
            Attention(width, options.groups, options.gates, space.norm, decide, f"{label}/branch{b}")
            if options
            else nn.Identity()
            for b, width in enumerate(channels)
        )

    def forward(self, features: Features, image: Tensor) -> Features:
        features = self.transition(features)
        for column in self.columns:
            features = column(features)
        return [attend(x) for attend, x in zip(self.attention, features, strict=True)]


class MultiScaleAttentiveTower(Tower):
    """The network of `MultiScaleAttentive`; its stages are the cells.

    Features are (B, C_i, H / (shuffle 2^i), W / (shuffle 2^i)); the image is unshuffled before the stem, and
    what the head predicts is shuffled before the image is added.
    """

    def __init__(self, space: MultiScaleAttentive, decide: Decide):
        super().__init__()
        cells = range(len(space.columns))
        width, colours = space.stem.planes * space.stem.expansion, image_channels(space.shuffle)
        self.channels = [space.channels[: index + 2] for index in cells]
        self.shuffle = space.shuffle
        gates = space.attention.gates if space.attention else ()
        self.size_multiple = space.shuffle * 2 ** len(cells) * gate_multiple(gates)
        self.residual = space.residual
        self.bottlenecks = nn.Sequential(
            *(
                Bottleneck(width if n else colours, space.stem.planes, space.stem.expansion, space.norm)
                for n in range(space.stem.blocks)
            )
        )
        self.cells = nn.ModuleList(
            Cell(space, index, space.channels[: index + 1] if index else (width,), decide) for index in cells
        )
        self.fusion = FusionAt(space.channels, 0, space.norm)
        self.output = nn.Conv2d(space.channels[0], colours, 1, bias=False)
        if space.residual:
            nn.init.zeros_(self.output.weight)

    def stem(self, image: Tensor) -> Features:
        return [self.bottlenecks(unshuffled(image, self.shuffle))]

    def stages(self) -> list[Stage]:
        return list(self.cells)

    def head(self, features: Features, image: Tensor) -> Tensor:
        restored = shuffled(self.output(self.fusion(features)), self.shuffle)
        return image + restored if self.residual else restored
