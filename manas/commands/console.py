"""The parts that commands share: printing, and options that several of them take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from manas.errors import ManasError

BLIND = "blind"  # the task of the fused output

Task = Annotated[str | None, typer.Option(help="Take the output of this tower, or the blind one.")]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Mean over eight turned and mirrored versions: eight times the work.")
]
Device = Annotated[str | None, typer.Option(help="auto, which is taken unless given; cpu, cuda or mps.")]
Space = Annotated[
    str | None, typer.Option(metavar="MODULE:CLASS", help="Space of a file whose kind is no installed one.")
]

UNBOUNDED = 1_000_000  # columns; more than any line has


def say(text: str) -> None:
    """Prints a line on standard output, in the first of several processes alone."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def refuse(options: Iterable[str], where: str) -> None:
    """Raises a ManasError for the first of the options, which have no effect in the place called `where`."""
    for name in options:
        raise ManasError(f"--{name} has no effect {where}; leave it out")


def space_class_of(reference: str | None) -> Any:
    """The class that the option `Space` names, if it is given."""
    from manas.architecture.finding import space_class

    return space_class(reference, trusted=True) if reference else None


def print_whole(parts: Iterable[RenderableType]) -> None:
    """Prints parts below one another, on a console as wide as the widest, so that nothing is folded or cut.

    A narrower terminal wraps the lines itself, which loses nothing.
    """
    parts, terminal = list(parts), Console()
    unbounded = terminal.options.update(max_width=UNBOUNDED)
    needed = (terminal.measure(part, options=unbounded).maximum for part in parts)
    # Without a height, rich would take a dumb terminal for one of 80 columns.
    console = Console(width=max([terminal.width, *needed]), height=terminal.height)
    for part in parts:
        console.print(part)
