"""What the commands share: how they speak, and options that several of them take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

Space = Annotated[
    str | None, typer.Option(metavar="MODULE:CLASS", help="Space of a file whose kind is no installed one.")
]

UNBOUNDED = 1_000_000  # columns; wider than anything that is printed


def say(text: str) -> None:
    """Prints a line on standard output; of several processes the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text)


def size(provenance: dict[str, Any]) -> str:
    """``4,724,520 parameters, 1,305.8 M MACs at 64x64`` (height x width)."""
    macs, (_, height, width) = provenance["macs"], provenance["input"]
    return f"{provenance['parameters']:,} parameters, {macs / 1e6:,.1f} M MACs at {height}x{width}"


def space_class_of(reference: str | None) -> Any:
    """The class that the option `Space` names, if it is given."""
    from manas.architecture.finding import space_class

    return space_class(reference, trusted=True) if reference else None


def print_whole(parts: Iterable[RenderableType]) -> None:
    """Prints one below the other, on a console as wide as the widest: nothing is folded, cut or left out.

    A narrower terminal wraps the lines itself, which loses nothing.
    """
    parts, terminal = list(parts), Console()
    unbounded = terminal.options.update(max_width=UNBOUNDED)
    needed = (terminal.measure(part, options=unbounded).maximum for part in parts)
    # The height is given too: without it, rich takes a dumb terminal for one of 80 columns.
    console = Console(width=max([terminal.width, *needed]), height=terminal.height)
    for part in parts:
        console.print(part)
