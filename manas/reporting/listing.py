"""A genotype as text: its space, where it comes from, and its choices, cell by cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from manas.architecture.difference import fields_of
from manas.architecture.genotype import Genotype

EDGE = re.compile(r"(?P<cell>(?:.*/)?cell\d+)/(?P<row>branch\d+)/(?P<column>.+)")
COLUMN = re.compile(r"(?P<cell>(?:.*/)?cell\d+)/(?P<row>column\d+)")


def listing(genotype: Genotype) -> Iterator[RenderableType]:
    """The parts of the text, from top to bottom.

    A cell has its columns as a list and the edges of its attention modules as a table, branches x edges.
    Choices that stand in no cell, and all those of a space whose labels are built otherwise, are a plain list.
    """
    fields = fields_of(genotype.space)
    yield Text(printable(json.loads(fields.pop("kind"))), style="bold")
    yield from lines(fields)
    if genotype.provenance:
        yield heading("provenance")
        yield from lines({key: printable(value) for key, value in genotype.provenance.items()})
    yield from choices_by_cell(genotype.choices)


def choices_by_cell(choices: Mapping[str, str]) -> Iterator[RenderableType]:
    """The choices; see `listing`."""
    in_cells = {label: EDGE.fullmatch(label) or COLUMN.fullmatch(label) for label in choices}
    cells = dict.fromkeys(match["cell"] for match in in_cells.values() if match)
    for cell in cells:
        inside = {label: choices[label] for label, match in in_cells.items() if match and match["cell"] == cell}
        yield heading(cell)
        yield from _columns(inside)
        yield from _edges(inside)
    elsewhere = {label: name for label, name in choices.items() if not in_cells[label]}
    if elsewhere:
        yield heading("choices")
        yield from lines(elsewhere)


def bare_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A table without lines, whose texts are taken literally."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for text in headings:
        table.add_column(Text(text))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def heading(text: str) -> RenderableType:
    """A line that stands out, after an empty one."""
    return Text(f"\n{printable(text)}", style="bold")


def lines(values: Mapping[str, str]) -> Iterator[RenderableType]:
    """One line a key: keys are aligned, values are not filled up, however long the longest."""
    width = max(map(len, values), default=0)
    for key, value in values.items():
        yield Text(f"  {printable(key):{width}}  {value}")


def printable(value: Any) -> str:
    """A text as it is, anything else as JSON; so too a text that would move the cursor of a terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _columns(choices: Mapping[str, str]) -> Iterator[RenderableType]:
    found = {match["row"]: name for label, name in choices.items() if (match := COLUMN.fullmatch(label))}
    yield from lines(found)


def _edges(choices: Mapping[str, str]) -> Iterator[RenderableType]:
    found = {
        (match["row"], match["column"]): name
        for label, name in choices.items()
        if (match := EDGE.fullmatch(label))
    }
    branches = dict.fromkeys(branch for branch, _ in found)
    edges = dict.fromkeys(edge for _, edge in found)
    if found:
        rows = [[f"  {branch}", *(found.get((branch, edge), "") for edge in edges)] for branch in branches]
        yield bare_table(["", *edges], rows)
