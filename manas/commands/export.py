"""The command line: `manas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manas.commands.console import BLIND, Space, refuse, say, space_class_of
from manas.errors import ManasError


def export(
    source: Annotated[
        Path,
        typer.Argument(help="Model file, or its run directory; for a genotype any checkpoint or genotype too."),
    ],
    out: Annotated[Path, typer.Argument(help="File to write: genotype .json, .onnx, program .pt2, card .md.")],
    task: Annotated[
        str | None, typer.Option(help=".onnx, .pt2: the output of this tower, or the blind one.")
    ] = None,
    opset: Annotated[int | None, typer.Option(help=".onnx: version of the operators; 18 unless given.")] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help=".onnx: without padding, for sizes that the network takes.")
    ] = False,
    evaluation: Annotated[
        Path | None, typer.Option(metavar="CSV", help=".md: scores that evaluate --csv wrote.")
    ] = None,
    space: Space = None,
) -> None:
    """Write the genotype of a run as JSON; or a model for ONNX Runtime, for torch alone, or its card."""
    all_options = {"task": task, "opset": opset, "bare": bare or None, "evaluation": evaluation}
    options: dict[str, Any] = {name: value for name, value in all_options.items() if value is not None}
    write, takes = _EXPORTS.get(out.suffix.lower(), (None, set()))
    if write is None:
        raise ManasError(f"{out}: cannot export to {out.suffix or 'no suffix'!r}; give {', '.join(_EXPORTS)}")
    refuse(options.keys() - takes, f"on a {out.suffix} file")
    if task == BLIND:
        options["task"] = None
    write(source, out, space=space_class_of(space), **options)
    say(str(out))


def _genotype(source: Path, out: Path, **options: Any) -> None:
    from manas.training.from_run import genotype_from

    genotype_from(source, **options).write(out)


def _onnx(source: Path, out: Path, **options: Any) -> None:
    from manas.exporting.onnx import export_onnx

    _say_difference(export_onnx(source, out, **options))


def _program(source: Path, out: Path, **options: Any) -> None:
    from manas.exporting.program import export_program

    _say_difference(export_program(source, out, **options))


def _card(source: Path, out: Path, **options: Any) -> None:
    from manas.exporting.card import write_card

    write_card(source, out, **options)


def _say_difference(difference: float) -> None:
    say(f"differs from manas by {difference:.1e} at most, of values in [0, 1]")


# By suffix, the function that writes such a file, and the options that it takes.
_EXPORTS = {
    ".json": (_genotype, set[str]()),
    ".onnx": (_onnx, {"task", "opset", "bare"}),
    ".pt2": (_program, {"task"}),
    ".md": (_card, {"evaluation"}),
}
