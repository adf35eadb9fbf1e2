"""The towers of a genotype, read from its labels.

A tower is recognised by its labels alone: ``cell<c>/column<n>`` for the columns of a cell, and
``cell<c>/branch<b>/node<k>/<source>`` for the edges of the attention module at scale b, where the source is
``input`` (the module's own channel group k) or an earlier ``node<j>``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.restoration.network import RestorationSpace

COLUMN = re.compile(r"cell(\d+)/column(\d+)")
EDGE = re.compile(r"cell(\d+)/branch(\d+)/node(\d+)/(?:input|node(\d+))")
JOINT = re.compile(r"stitch/stage\d+|fusion")


class Edge(NamedTuple):
    """From the input of `node`, or from an earlier node, through a gate to `node`."""

    node: int
    source: int | None
    gate: str


@dataclass(frozen=True)
class CellPlan:
    """One stage of a tower.

    Attributes:
        scales: how many it works on.
        columns: their names, from left to right.
        attention: the edges of each attention module by scale.
    """

    scales: int
    columns: tuple[str, ...]
    attention: Mapping[int, tuple[Edge, ...]]

    @property
    def groups(self) -> int:
        """The largest number of channel groups among its attention modules; 0 without any."""
        return max((edge.node + 1 for edges in self.attention.values() for edge in edges), default=0)


@dataclass(frozen=True)
class TowerPlan:
    """The cells of one task's tower; the task of a lone tower has no name, and its image may be unshuffled."""

    task: str
    cells: tuple[CellPlan, ...]
    shuffle: int = 1


@dataclass(frozen=True)
class NetworkPlan:
    """Towers, the stitch after each stage, and the fusion of their outputs (empty where there is one tower)."""

    towers: tuple[TowerPlan, ...]
    stitches: tuple[str, ...] = ()
    fusion: str = ""


def read_network(genotype: Genotype) -> NetworkPlan | None:
    """The towers of a genotype; None unless all of its labels are those of such towers."""
    space, choices = genotype.space, genotype.choices
    if not isinstance(space, RestorationSpace):
        cells = _cells(space, choices)
        return NetworkPlan((TowerPlan("", cells, _shuffle(space)),)) if cells else None
    own = {task: _under(task, choices) for task in space.towers}
    towers = tuple(TowerPlan(task, _cells(of, own[task]), _shuffle(of)) for task, of in space.towers.items())
    known = sum(map(len, own.values())) + sum(1 for label in choices if JOINT.fullmatch(label))
    if known < len(choices) or not all(tower.cells for tower in towers):
        return None
    if len(towers) == 1:
        return NetworkPlan(towers)
    stages = range(min(len(tower.cells) for tower in towers))
    stitches = tuple(choices.get(f"stitch/stage{stage}", space.stitch) for stage in stages)
    return NetworkPlan(towers, stitches, choices.get("fusion", space.fusion))


def _shuffle(space: SearchSpace) -> int:
    return getattr(space, "shuffle", 1)


def _under(task: str, choices: Mapping[str, str]) -> dict[str, str]:
    prefix = f"{task}/"
    return {label.removeprefix(prefix): n for label, n in choices.items() if label.startswith(prefix)}


def _cells(space: SearchSpace, choices: Mapping[str, str]) -> tuple[CellPlan, ...]:
    """The cells that the labels name; none where a label is of another kind."""
    columns: dict[int, dict[int, str]] = defaultdict(dict)
    attention: dict[int, dict[int, list[Edge]]] = defaultdict(lambda: defaultdict(list))
    for label, name in choices.items():
        if match := COLUMN.fullmatch(label):
            columns[int(match[1])][int(match[2])] = name
        elif (match := EDGE.fullmatch(label)) and int(match[4] or -1) < int(match[3]):
            edge = Edge(int(match[3]), int(match[4]) if match[4] else None, name)
            attention[int(match[1])][int(match[2])].append(edge)
        else:
            return ()
    count = max([*columns, *attention], default=-1) + 1
    channels = getattr(space, "channels", None)
    if count and not attention and isinstance(channels, tuple | list):
        count = max(count, len(channels) - 1)  # the last cells may have no columns, and so no labels
    return tuple(_cell(c, columns[c], attention[c]) for c in range(count))


def _cell(place: int, columns: Mapping[int, str], attention: Mapping[int, list[Edge]]) -> CellPlan:
    return CellPlan(
        scales=max(attention, default=place + 1) + 1,
        columns=tuple(name for _, name in sorted(columns.items())),
        attention={scale: tuple(edges) for scale, edges in sorted(attention.items())},
    )
