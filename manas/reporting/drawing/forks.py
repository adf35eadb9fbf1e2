"""Drawing of any genotype: a box for every fork in the order of the program, inside that of the outer one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from manas.architecture.genotype import Genotype
from manas.reporting.drawing.contract import Drawing
from manas.reporting.drawing.sheet import (
    FAINT,
    GREY,
    LARGEST,
    MARGIN,
    PAGE,
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


class ForkDrawing(Drawing):
    """Boxes from left to right, in rows as wide as the sheet."""

    def width(self, genotype: Genotype) -> float:
        return 0 if len(genotype.choices) <= FEW else PAGE / LARGEST

    def draw(self, sheet: Sheet, genotype: Genotype, top: float) -> float:
        places, bottom = _arranged(_blocks(genotype), MARGIN, top, sheet.width - 2 * MARGIN)
        for place in places:
            _draw(sheet, place)
        return bottom


@dataclass
class Block:
    """A fork, or a group of forks without a choice of its own."""

    label: str
    choice: str = ""
    inside: list[Block] = field(default_factory=list)

    @property
    def heading(self) -> float:
        """Height of its own text."""
        return PAD + LINE * (2 if self.choice else 1)


class Place(NamedTuple):
    """Where a block stands, in units from its upper left corner."""

    block: Block
    x: float
    y: float
    width: float
    height: float


def _blocks(genotype: Genotype) -> list[Block]:
    """The blocks of an architecture, with the joints of its towers that were not searched."""
    space, choices = genotype.space, dict(genotype.choices)
    if isinstance(space, RestorationSpace) and len(space.towers) > 1:
        joints = {"stitch": space.stitch, "fusion": space.fusion}
        choices |= {label: name for label, name in joints.items() if name != "searched"}
    return blocks_of(choices.items(), tasks_of(space))


def blocks_of(choices: Iterable[tuple[str, str]], groups: Sequence[str]) -> list[Block]:
    """The outermost forks and groups; a fork is inside the last one whose label its own begins with."""
    found: list[Block] = []
    by_label: dict[str, Block] = {}
    for task in groups:
        by_label[task] = Block(task)
        found.append(by_label[task])
    for label, choice in choices:
        block = by_label[label] = Block(label, choice)
        parts = label.split("/")
        outer = ("/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
        around = next((by_label[prefix] for prefix in outer if prefix in by_label), None)
        (around.inside if around else found).append(block)
    return found


def _arranged(blocks: Sequence[Block], left: float, top: float, width: float) -> tuple[list[Place], float]:
    """Where every block stands, outer ones before those inside them, and where the last row ends."""
    places: list[Place] = []
    usual = min(max((_width(block) for block in blocks if not block.inside), default=0), width)
    x, y, bottom = left, top, top
    for block in blocks:
        wide = width if block.inside else usual
        if x > left and x + wide > left + width:
            x, y = left, bottom + GAP
        inner, end = _arranged(block.inside, x + PAD, y + block.heading, max(wide - 2 * PAD, NARROWEST))
        places += [Place(block, x, y, wide, end - y + (PAD if block.inside else 0)), *inner]
        x, bottom = x + wide + GAP, max(bottom, y + places[-1 - len(inner)].height)
    return places, bottom


def _width(block: Block) -> float:
    return max(length(block.label), length(block.choice, CHOICE, bold=True)) + 2 * PAD


def _draw(sheet: Sheet, place: Place) -> None:
    block, x, y, width, height = place
    frame = bool(block.inside or not block.choice)
    sheet.box(x, y, width, height, fill=SHADE if frame else WHITE, edge=FAINT if frame else WIRE, rounding=2)
    label = shortened(block.label, width - 2 * PAD)
    sheet.text(x + PAD, y + PAD + 2, label, colour=GREY, align="left")
    if block.choice:
        choice = shortened(block.choice, width - 2 * PAD, CHOICE, bold=True)
        sheet.text(x + PAD, y + PAD + 2 + LINE, choice, size=CHOICE, bold=True, align="left")
