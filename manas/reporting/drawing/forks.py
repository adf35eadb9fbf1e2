"""Drawing of any architecture: a box for every fork, and a frame around forks whose labels begin alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from manas.architecture.genotype import Genotype
from manas.reporting.drawing.contract import Drawing
from manas.reporting.drawing.sheet import (
    FAINT,
    GREY,
    LARGEST,
    MARGIN,
    PAGE,
    PALE,
    SHADE,
    WHITE,
    WIRE,
    Sheet,
    length,
    shortened,
)
from manas.restoration.network import RestorationSpace, tasks_of

CHOICE = 5.8
PAD, GAP = 4.0, 4.0
NARROWEST = 40.0
FEW = 12  # forks that a column of boxes can hold without becoming long
LINE = 8.0  # of text
ROUNDING = 1e-6


class ForkDrawing(Drawing):
    """Boxes and frames from left to right, in rows as wide as the sheet; equal choices have equal colours."""

    def width(self, genotype: Genotype) -> float:
        return 0 if len(genotype.choices) <= FEW else PAGE / LARGEST

    def draw(self, sheet: Sheet, genotype: Genotype, top: float) -> float:
        boxes = _boxes(genotype)
        colours = _colours(genotype.choices.values())
        places = [place.moved(MARGIN, top) for place in _arranged(boxes, sheet.width - 2 * MARGIN)]
        for place in places:
            _draw(sheet, place, colours.get(place.box.choice, WHITE))
        return max((place.y + place.height for place in places), default=top)


@dataclass(frozen=True)
class Box:
    """A fork, or a group of forks without a choice of its own.

    Attributes:
        label: without the labels of the boxes around it.
        choice: the chosen candidate; empty for a group.
        inside: the boxes in its frame.
    """

    label: str
    choice: str = ""
    inside: Sequence[Box] = ()

    @property
    def heading(self) -> float:
        """Height of its own text."""
        return PAD + LINE * (2 if self.choice else 1)

    @property
    def width(self) -> float:
        """Width that its own text needs."""
        return max(length(self.label), length(self.choice, CHOICE, bold=True)) + 2 * PAD


class Place(NamedTuple):
    """Where a box stands: its upper left corner, and its size."""

    box: Box
    x: float
    y: float
    width: float
    height: float

    def moved(self, x: float, y: float) -> Place:
        return self._replace(x=self.x + x, y=self.y + y)


def _boxes(genotype: Genotype) -> list[Box]:
    """A frame a task, and the joints of the towers, also those that were not searched."""
    space, choices, tasks = genotype.space, dict(genotype.choices), tasks_of(genotype.space)
    if isinstance(space, RestorationSpace) and len(tasks) > 1:
        joints = {"stitch": space.stitch, "fusion": space.fusion}
        choices |= {label: name for label, name in joints.items() if name != "searched"}
    towers = []
    for task in tasks:
        own = [label for label in choices if label.startswith(f"{task}/")]
        towers.append(Box(task, inside=boxes_of(own, choices, f"{task}/")))
    elsewhere = [label for label in choices if label.partition("/")[0] not in tasks]
    return [*towers, *boxes_of(elsewhere, choices)]


def boxes_of(labels: Sequence[str], choices: Mapping[str, str], around: str = "") -> list[Box]:
    """The forks of some labels, which begin with `around`, with a group wherever labels part."""
    by_part: dict[str, list[str]] = {}
    for label in labels:
        by_part.setdefault(label.removeprefix(around).partition("/")[0], []).append(label)
    found = []
    for part, members in by_part.items():
        path = f"{around}{part}"
        inside = boxes_of([label for label in members if label != path], choices, f"{path}/")
        if path in choices:
            found.append(Box(part, choices[path], _without(choices[path], inside)))
        elif len(inside) == 1:
            found.append(replace(inside[0], label=f"{part}/{inside[0].label}"))
        else:
            found.append(Box(part, inside=inside))
    return found


def _without(choice: str, inside: Sequence[Box]) -> Sequence[Box]:
    """The boxes inside a fork, whose labels often repeat the candidate that they stand in."""
    if [box.label for box in inside] == [choice] and not inside[0].choice:
        return inside[0].inside
    return [replace(box, label=box.label.removeprefix(f"{choice}/")) for box in inside]


def _arranged(boxes: Sequence[Box], width: float) -> list[Place]:
    """Where every box stands in rows of a width, outer ones before those inside them."""
    found: list[Place] = []
    usual = min(max((box.width for box in boxes if not box.inside), default=0), width)
    x, y, bottom = 0.0, 0.0, 0.0
    for box in boxes:
        inner = _arranged(box.inside, max(width - 2 * PAD, NARROWEST))
        inner = [place.moved(PAD, box.heading) for place in inner]
        own = min(box.width, width) if inner else usual
        wide = max([own, *(place.x + place.width + PAD for place in inner)])
        high = max([box.heading, *(place.y + place.height + PAD for place in inner)])
        if x and x + wide > width:
            x, y = 0.0, bottom + GAP
        found += [place.moved(x, y) for place in (Place(box, 0, 0, wide, high), *inner)]
        x, bottom = x + wide + GAP, max(bottom, y + high)
    return found


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name; none where there are more names than colours that can be told apart."""
    different = sorted(set(names))
    return dict(zip(different, PALE, strict=False)) if len(different) <= len(PALE) else {}


def _draw(sheet: Sheet, place: Place, colour: str) -> None:
    box, x, y, width, height = place
    frame = bool(box.inside or not box.choice)
    fill, edge = (SHADE, FAINT) if frame else (colour, WIRE)
    sheet.box(x, y, width, height, fill=fill, edge=edge, rounding=2)
    room = width - 2 * PAD + ROUNDING  # so that a text in a box of its own width is not cut
    label = shortened(box.label, room)
    sheet.text(x + PAD, y + PAD + 2, label, colour=GREY, align="left")
    if box.choice:
        choice = shortened(box.choice, room, CHOICE, bold=True)
        sheet.text(x + PAD, y + PAD + 2 + LINE, choice, size=CHOICE, bold=True, align="left")
