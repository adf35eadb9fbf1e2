"""The restoration network: one tower a task, stitched after every stage, fused into one blind restoration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, cast

from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from manas.architecture.decide import Decide, is_name, prefixed
from manas.architecture.finding import AnySpace
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, explain
from manas.restoration.cross_stitch import StitchMatrices, StitchOptions, stitch
from manas.restoration.fusion import FUSIONS
from manas.restoration.tower import Features, Tower

RESERVED = ("stitch", "fusion")  # labels of the network's own forks begin with these


class Restoration(NamedTuple):
    """The output of a restoration network, in images (B, 3, H, W).

    Attributes:
        tasks: the restoration of every tower, by task.
        fused: the blind restoration, fused from all towers.
        stages: the restorations after each of a tower's `restoring` stages, by task; empty unless asked for.
    """

    tasks: dict[str, Tensor]
    fused: Tensor
    stages: dict[str, list[Tensor]] = {}  # noqa: RUF012 (never written to)

    @classmethod
    def of(cls, output: Tensor | Restoration) -> Restoration:
        """Returns the output of a whole network as it is, and takes that of a lone tower for the fused one."""
        return output if isinstance(output, Restoration) else cls({}, output)


class RestorationSpace(SearchSpace):
    """The space of whole networks: the product of the spaces of its towers, its stitches and its fusion.

    Attributes:
        towers: the space of each task's tower, by task.
        stitch: granularity of the stitches, or ``searched`` for a fork at every stage.
        stitches: places and initial values of the stitches.
        fusion: the way in which the restorations become one, or ``searched`` for a fork.
    """

    towers: dict[str, AnySpace] = Field(min_length=1)
    stitch: Literal["none", "layer", "channel", "searched"] = "layer"
    stitches: StitchOptions = StitchOptions()
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

    @model_validator(mode="after")
    def _stitches_have_effect(self) -> RestorationSpace:
        if self.stitch == "none" and self.stitches != StitchOptions():
            raise ManasError("stitches: there are none where stitch is none; leave it out")
        return self

    def build(self, decide: Decide) -> nn.Module:
        """Builds a `RestorationNetwork`."""
        return RestorationNetwork(self, decide)


class RestorationNetwork(nn.Module):
    """The network of `RestorationSpace`: (B, 3, H, W) -> `Restoration`."""

    def __init__(self, space: RestorationSpace, decide: Decide):
        super().__init__()
        towers = {task: _tower(of, prefixed(decide, task), task) for task, of in space.towers.items()}
        self.towers = nn.ModuleDict(towers)
        self.size_multiple = math.lcm(*(tower.size_multiple for tower in towers.values()))
        alone = len(towers) == 1
        stitched = not alone and space.stitch != "none"
        # A shared stitch is registered once, so stages point to stitches by number.
        self.stitches, self.stitch_after = (
            _stitches(space, towers, decide) if stitched else (nn.ModuleList(), {})
        )
        self.fusion = None if alone else _fusion(space, decide)

    def forward(self, image: Tensor, *, stages: bool = False) -> Restoration:
        """Restores images; with `stages`, returns the restorations after the towers' stages, too."""
        towers = cast("dict[str, Tower]", dict(self.towers.items()))
        recorders = {task: _Recorder(tower, image, wanted=stages) for task, tower in towers.items()}
        features = {task: tower.stem(image) for task, tower in towers.items()}
        if self.stitch_after:
            steps = zip(*(tower.stages() for tower in towers.values()), strict=True)
            for place, step in enumerate(steps):
                outputs = [stage(x, image) for stage, x in zip(step, features.values(), strict=True)]
                features = dict(zip(towers, self._stitch(place, outputs), strict=True))
                for task, x in features.items():
                    recorders[task].see(place, x)
        else:  # towers that exchange nothing need not agree in their stages
            for task, tower in towers.items():
                for place, stage in enumerate(tower.stages()):
                    features[task] = stage(features[task], image)
                    recorders[task].see(place, features[task])
        restored = {task: recorders[task].end(features[task]) for task in towers}
        fused = self.fusion(image, list(restored.values())) if self.fusion else next(iter(restored.values()))
        return Restoration(
            restored, fused, {task: each.images for task, each in recorders.items()} if stages else {}
        )

    def _stitch(self, place: int, features: list[Features]) -> list[Features]:
        if place not in self.stitch_after:
            return features
        return stitch(features, self.stitches[self.stitch_after[place]]())


class _Recorder:
    """Records the restorations after a tower's stages, if they are wanted."""

    def __init__(self, tower: Tower, image: Tensor, *, wanted: bool):
        self.tower, self.image, self.images = tower, image, list[Tensor]()
        self.wanted = set(tower.restoring) if wanted else set()
        self.current = False  # whether the last image belongs to the stage that was seen last

    def see(self, place: int, features: Features) -> None:
        self.current = place in self.wanted
        if self.current:
            self.images.append(self.tower.head(features, self.image))

    def end(self, features: Features) -> Tensor:
        """The restoration after the last stage; the head does not run again if it ran for that stage."""
        return self.images[-1] if self.current else self.tower.head(features, self.image)


def _tower(space: SearchSpace, decide: Decide, task: str) -> Tower:
    tower = space.build(decide)
    if not isinstance(tower, Tower):
        raise ManasError(f"the space of {task!r} builds a {type(tower).__name__}, which is no Tower")
    return tower


def _stitches(
    space: RestorationSpace, towers: Mapping[str, Tower], decide: Decide
) -> tuple[nn.ModuleList, dict[int, int]]:
    """The stitches, and the number of the stitch after each stage that has one."""
    rows = _common_channels(towers)
    options = space.stitches
    after = list(range(len(rows)) if options.after is None else options.after)
    if max(after, default=0) >= len(rows):
        raise ManasError(f"stitches.after names stage {max(after)}; the last of the towers is {len(rows) - 1}")
    if options.shared and len({tuple(rows[place]) for place in after}) > 1:
        raise ManasError(f"stitches.shared needs stages of the same channels; these have {rows}")

    def stitch_at(place: int) -> nn.Module:
        build = partial(StitchMatrices, len(towers), rows[place], start=options.start)
        if space.stitch != "searched":
            return build(granularity=space.stitch)
        label = "stitch/shared" if options.shared else f"stitch/stage{place}"
        return decide(label, {g: partial(build, granularity=g) for g in ("none", "layer", "channel")})

    if options.shared:
        return nn.ModuleList(map(stitch_at, after[:1])), dict.fromkeys(after, 0)
    return nn.ModuleList(map(stitch_at, after)), {place: index for index, place in enumerate(after)}


def _fusion(space: RestorationSpace, decide: Decide) -> nn.Module:
    if space.fusion != "searched":
        return FUSIONS[space.fusion](len(space.towers))
    candidates = {name: partial(fusion, len(space.towers)) for name, fusion in FUSIONS.items()}
    return decide("fusion", candidates)


def _common_channels(towers: Mapping[str, Tower]) -> list[list[int]]:
    """The widths of the features, one row a stage, in which stitched towers must agree, as in resolution."""
    rows = {task: [list(row) for row in tower.channels] for task, tower in towers.items()}
    for task, other in pairwise(towers):
        refusal = f"towers {task!r} and {other!r} cannot be stitched: their"
        if rows[task] != rows[other]:
            raise ManasError(
                f"{refusal} stages have channels {rows[task]} and {rows[other]}; "
                "give both spaces the same channels, or set stitch to 'none'"
            )
        ours, theirs = towers[task].shuffle, towers[other].shuffle
        if ours != theirs:
            raise ManasError(
                f"{refusal} features differ in size, since shuffle is {ours} and {theirs}; "
                "give both spaces the same shuffle, or set stitch to 'none'"
            )
    return next(iter(rows.values()))


def assemble(
    genotypes: Mapping[str, Genotype],
    *,
    stitch: str = "layer",
    stitches: StitchOptions | None = None,
    fusion: str = "mask",
) -> Genotype:
    """The genotype of a whole network from one genotype a task.

    Args:
        genotypes: the towers' genotypes by task.
        stitch: ``none``, ``layer`` or ``channel``.
        stitches: places and initial values of the stitches.
        fusion: ``mean``, ``conv`` or ``mask``.
    """
    towers = {task: genotype.space for task, genotype in genotypes.items()}
    for task, space in towers.items():
        if isinstance(space, RestorationSpace):
            raise ManasError(f"the genotype for {task!r} is of a whole network; give it without a task")
    choices = {f"{task}/{label}": name for task, g in genotypes.items() for label, name in g.choices.items()}
    provenance = {task: genotype.provenance for task, genotype in genotypes.items()}
    try:
        options = stitches or StitchOptions()
        space = RestorationSpace(towers=towers, stitch=stitch, stitches=options, fusion=fusion)
        return Genotype(space=space, choices=choices, provenance=provenance)
    except ValidationError as error:
        raise explain(error, RestorationSpace, "the network of these genotypes") from error


def size_multiple_of(network: nn.Module) -> int:
    """The number that height and width of a network's images must be multiples of.

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
