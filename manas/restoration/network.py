"""The restoration network: one tower a task, stitched after every stage, fused into one blind restoration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, cast

from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from manas.architecture.choice import Decide, is_name, prefixed
from manas.architecture.finding import AnySpace
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, explain
from manas.restoration.cross_stitch import StitchMatrices, stitch
from manas.restoration.fusion import FUSIONS
from manas.restoration.tower import Tower

RESERVED = ("stitch", "fusion")  # labels of the network's own forks begin with these


class Restoration(NamedTuple):
    """What a restoration network gives: (B, 3, H, W) of every tower by task, and the blind one."""

    tasks: dict[str, Tensor]
    fused: Tensor

    @classmethod
    def of(cls, output: Tensor | Restoration) -> Restoration:
        """The output of a whole network as it is; that of a lone tower as the fused one."""
        return output if isinstance(output, Restoration) else cls({}, output)


class RestorationSpace(SearchSpace):
    """Towers x stitches x fusion.

    Attributes:
        towers: the space of each task's tower, by task.
        stitch: granularity of the stitches, or ``searched``: a fork at every stage.
        fusion: how restorations become one, or ``searched``: a fork.
    """

    towers: dict[str, AnySpace] = Field(min_length=1)
    stitch: Literal["none", "layer", "channel", "searched"] = "layer"
    fusion: Literal["mean", "conv", "mask", "searched"] = "mask"

    @model_validator(mode="after")
    def _valid_names(self) -> RestorationSpace:
        for task in self.towers:
            if not is_name(task) or task in RESERVED:
                raise ManasError(
                    f"{task!r} cannot name a task; use lower-case letters, digits and _, but neither "
                    f"{' nor '.join(RESERVED)}, nor the name of an attribute of torch's ModuleDict"
                )
        return self

    def build(self, decide: Decide) -> nn.Module:
        """A `RestorationNetwork`."""
        return RestorationNetwork(self, decide)


class RestorationNetwork(nn.Module):
    """The network of `RestorationSpace`: (B, 3, H, W) -> `Restoration`."""

    def __init__(self, space: RestorationSpace, decide: Decide):
        super().__init__()
        towers = {task: _tower(of, prefixed(decide, task), task) for task, of in space.towers.items()}
        self.towers = nn.ModuleDict(towers)
        self.size_multiple = math.lcm(*(tower.size_multiple for tower in towers.values()))
        alone = len(towers) == 1
        self.stitches = nn.ModuleList() if alone or space.stitch == "none" else _stitches(space, towers, decide)
        self.fusion = None if alone else _fusion(space, decide)

    def forward(self, image: Tensor) -> Restoration:
        towers = cast("dict[str, Tower]", dict(self.towers.items()))
        features = [tower.stem(image) for tower in towers.values()]
        if self.stitches:
            steps = zip(*(tower.stages() for tower in towers.values()), strict=True)
            for stages, matrices in zip(steps, self.stitches, strict=True):
                features = [stage(x, image) for stage, x in zip(stages, features, strict=True)]
                features = stitch(features, matrices())
        else:
            features = [tower.run_stages(x, image) for tower, x in zip(towers.values(), features, strict=True)]
        restored = {
            task: tower.head(x, image) for (task, tower), x in zip(towers.items(), features, strict=True)
        }
        outputs = list(restored.values())
        return Restoration(restored, self.fusion(image, outputs) if self.fusion else outputs[0])


def _tower(space: SearchSpace, decide: Decide, task: str) -> Tower:
    tower = space.build(decide)
    if not isinstance(tower, Tower):
        raise ManasError(f"the space of {task!r} builds a {type(tower).__name__}, which is no Tower")
    return tower


def _stitches(space: RestorationSpace, towers: Mapping[str, Tower], decide: Decide) -> nn.ModuleList:
    rows = _common_channels(towers)
    build = partial(StitchMatrices, len(towers))
    if space.stitch != "searched":
        return nn.ModuleList(build(row, space.stitch) for row in rows)
    return nn.ModuleList(
        decide(f"stitch/stage{s}", {g: partial(build, row, g) for g in ("none", "layer", "channel")})
        for s, row in enumerate(rows)
    )


def _fusion(space: RestorationSpace, decide: Decide) -> nn.Module:
    if space.fusion != "searched":
        return FUSIONS[space.fusion](len(space.towers))
    candidates = {name: partial(fusion, len(space.towers)) for name, fusion in FUSIONS.items()}
    return decide("fusion", candidates)


def _common_channels(towers: Mapping[str, Tower]) -> list[list[int]]:
    """The widths at which towers are stitched; the towers must agree in all of them."""
    rows = {task: [list(row) for row in tower.channels] for task, tower in towers.items()}
    for (task, ours), (other, theirs) in pairwise(rows.items()):
        if ours != theirs:
            raise ManasError(
                f"towers {task!r} and {other!r} cannot be stitched: their stages have channels {ours} and "
                f"{theirs}; give both spaces the same channels, or set stitch to 'none'"
            )
    return next(iter(rows.values()))


def assemble(genotypes: Mapping[str, Genotype], *, stitch: str = "layer", fusion: str = "mask") -> Genotype:
    """The genotype of a whole network from one genotype a task.

    Args:
        genotypes: the towers' genotypes by task.
        stitch: ``none``, ``layer`` or ``channel``.
        fusion: ``mean``, ``conv`` or ``mask``.
    """
    towers = {task: genotype.space for task, genotype in genotypes.items()}
    for task, space in towers.items():
        if isinstance(space, RestorationSpace):
            raise ManasError(f"the genotype for {task!r} is of a whole network; give it without a task")
    choices = {f"{task}/{label}": name for task, g in genotypes.items() for label, name in g.choices.items()}
    provenance = {task: genotype.provenance for task, genotype in genotypes.items()}
    try:
        space = RestorationSpace(towers=towers, stitch=stitch, fusion=fusion)
        return Genotype(space=space, choices=choices, provenance=provenance)
    except ValidationError as error:
        raise explain(error, RestorationSpace, "the network of these genotypes") from error


def size_multiple_of(network: nn.Module) -> int:
    """What height and width of the images must be multiples of.

    Raises:
        ManasError: for a network that is neither a tower nor a restoration network.
    """
    if isinstance(network, Tower | RestorationNetwork):
        return network.size_multiple
    raise ManasError(
        f"the space builds a {type(network).__name__}, which is no Tower; make it a subclass of it"
    )


def tasks_of(space: SearchSpace) -> Sequence[str]:
    """The tasks of a restoration space; none for a lone tower."""
    return tuple(space.towers) if isinstance(space, RestorationSpace) else ()
