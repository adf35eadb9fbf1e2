"""A genotype as text: its space, where it comes from, and its choices, part by part of the network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from manas.architecture.difference import fields_of
from manas.architecture.genotype import Genotype
from manas.restoration.network import tasks_of


def listing(genotype: Genotype) -> Iterator[RenderableType]:
    """The parts of the text, from top to bottom.

    The choices whose labels begin with the same part have a section; see `sections`. The rest, the stitches and
    the fusion are a plain list.
    """
    fields = fields_of(genotype.space)
    yield Text(printable(json.loads(fields.pop("kind"))), style="bold")
    yield from lines(fields)
    if genotype.provenance:
        yield heading("provenance")
        yield from lines({key: printable(value) for key, value in genotype.provenance.items()})
    yield from sections(genotype.choices, tasks_of(genotype.space))


def sections(choices: Mapping[str, str], tasks: Sequence[str] = ()) -> Iterator[RenderableType]:
    """The choices by the first part of their labels; in a network of several tasks, by task and first part.

    Of the labels ``a/b`` and ``a/c/d`` in the section ``a``, the first is the line ``b``, and the second stands
    in a table, in the row ``c`` and the column ``d``. Forks inside a fork have no section.
    """
    found: dict[str, dict[str, str]] = {}
    elsewhere: dict[str, str] = {}
    for label, name in choices.items():
        section, rest = _divided(label, tasks)
        if section and section not in choices:
            found.setdefault(section, {})[rest] = name
        else:
            elsewhere[label] = name
    for section, inside in found.items():
        yield heading(section)
        yield from lines({label: name for label, name in inside.items() if "/" not in label})
        yield from _table({label: name for label, name in inside.items() if "/" in label})
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


def _divided(label: str, tasks: Sequence[str]) -> tuple[str, str]:
    """The section of a label and what is left of it; no section for labels of one part, and for joints."""
    task, _, of_tower = label.partition("/")
    if not tasks:
        return _halves(label)
    section, rest = _halves(of_tower) if task in tasks else ("", label)
    return section and f"{task}/{section}", rest


def _halves(label: str) -> tuple[str, str]:
    """The first part, and the others; nothing, and the label, where there is one part."""
    first, separator, others = label.partition("/")
    return (first, others) if separator else ("", label)


def _table(choices: Mapping[str, str]) -> Iterator[RenderableType]:
    """The choices by the first part of their labels and by the others."""
    cells = {_halves(label): name for label, name in choices.items()}
    rows = dict.fromkeys(row for row, _ in cells)
    columns = dict.fromkeys(column for _, column in cells)
    if cells:
        text = [[f"  {row}", *(cells.get((row, column), "") for column in columns)] for row in rows]
        yield bare_table(["", *columns], text)
