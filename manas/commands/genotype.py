"""The command line: `manas genotype show | diff | draw | schema | sample | import`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manas.commands.console import Space, print_whole, say, space_class_of
from manas.errors import ManasError
from manas.reporting.size import size

if TYPE_CHECKING:
    from manas.architecture.difference import Difference
    from manas.architecture.genotype import Genotype
    from manas.cost.counting import InputShape

genotypes = typer.Typer(no_args_is_help=True, help="Tools for genotype files.")

DIFFERENT = 1  # exit code of `diff`, as diff(1) has it
USUAL_INPUT = (3, 64, 64)
LARGEST_SIDE = 1024  # pixels; a received file could else ask for a measurement without end

Source = Annotated[
    Path, typer.Argument(metavar="FILE", help="Genotype file, run directory, checkpoint or model file.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Genotype file to write (.json).")]
Input = Annotated[
    str | None, typer.Option(metavar="HxW", help="Measure at this size; else as the file says, or 64x64.")
]


@genotypes.command()
def show(file: Source, input: Input = None, space: Space = None) -> None:
    """Print a genotype: its space, where it comes from, its choices, and what it costs."""
    from manas.reporting.listing import heading, lines, listing

    genotype = _read(file, space)
    shape = _input_of(genotype, input)
    cost = lines({"size": _cost(genotype, shape, strictly=input is not None)})
    print_whole([*listing(genotype), heading("measured"), *cost])


@genotypes.command()
def diff(a: Source, b: Source, space: Space = None) -> None:
    """Print where two genotypes differ; the exit code is 0 if they do not, 1 if they do."""
    from manas.architecture.difference import difference

    result = difference(_read(a, space), _read(b, space))
    _print(result)
    say(f"{len(result.choices)} of {result.labels} choices differ")
    if result:
        raise typer.Exit(DIFFERENT)


@genotypes.command()
def draw(
    file: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Picture to write (.svg, .png or .pdf).")],
    space: Space = None,
) -> None:
    """Draw a genotype as a picture."""
    from manas.reporting.drawing.figure import draw as run

    say(str(run(_read(file, space), out)))


@genotypes.command()
def schema() -> None:
    """Print the JSON Schema of genotype files."""
    from manas.architecture.genotype import Genotype

    say(json.dumps(Genotype.model_json_schema(), indent=2))


@genotypes.command()
def sample(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Preset, YAML file or package.module:Class.")],
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="The genotype is a function of it.")] = 0,
) -> None:
    """Write a genotype that is drawn from a space at random."""
    from manas.architecture.finding import load_space
    from manas.architecture.genotype import Genotype

    say(str(Genotype.sample(load_space(space), seed).write(out)))


@genotypes.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Of the released MANAS search.")],
    out: Out,
    reading: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="READING",
            help="searched: every row for its own edge; released: the rows that the released code used.",
        ),
    ] = "searched",
    space: Annotated[
        str, typer.Option(metavar="SPACE", help="What was searched: preset, YAML file or package.module:Class.")
    ] = "manas",
    input: Input = None,
) -> None:
    """Write the genotype of a checkpoint that the released code of MANAS saved in its search."""
    from manas.architecture.finding import load_space
    from manas.foreign.genotypes import import_checkpoint

    genotype = import_checkpoint(checkpoint, load_space(space), reading)
    provenance = genotype.provenance | _measure(genotype, _input_of(genotype, input))
    say(str(genotype.model_copy(update={"provenance": provenance}).write(out)))


def _read(file: Path, space: str | None) -> Genotype:
    from manas.training.from_run import genotype_from

    return genotype_from(file, space=space_class_of(space))


def _input_of(genotype: Genotype, given: str | None) -> InputShape:
    """The channels, height and width of the image for which costs are measured."""
    channels, height, width = _recorded_input(genotype.provenance.get("input")) or USUAL_INPUT
    if given is None:
        return channels, height, width
    match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)", given)
    if not match:
        raise ManasError(f"--input {given}: give height and width as in 64x96")
    return channels, int(match[1]), int(match[2])


def _recorded_input(value: Any) -> InputShape | None:
    """The shape in a provenance, if it is one at which a measurement ends soon; else None."""
    sides = value if isinstance(value, list | tuple) and len(value) == len(USUAL_INPUT) else ()
    # The type itself is compared, since a bool is an int, too.
    if not sides or any(type(side) is not int or not 0 < side <= LARGEST_SIDE for side in sides):
        return None
    channels, height, width = sides
    return channels, height, width


def _measure(genotype: Genotype, shape: InputShape) -> dict[str, Any]:
    """Measures parameters and MACs, under the names that they have in a provenance."""
    from manas.cost.counting import costs

    try:
        return costs(genotype.network(), shape)
    except RuntimeError as error:  # torch's complaint about shapes
        detail = " ".join(str(error).split())[:200]
        raise ManasError(
            f"an input of {'x'.join(map(str, shape))} does not fit the network ({detail}); give another --input"
        ) from error


def _cost(genotype: Genotype, shape: InputShape, *, strictly: bool) -> str:
    """The cost in words; with `strictly`, it is an error if the network takes no such images."""
    try:
        return size(_measure(genotype, shape))
    except ManasError as error:
        if strictly:
            raise
        return f"not measured: {error}"


def _print(difference: Difference) -> None:
    """Prints the choices that differ as a table, then the fields of the spaces."""
    from manas.reporting.listing import bare_table, heading, lines

    parts: list[Any] = []
    if difference.choices:
        rows = [(label, a or "-", b or "-") for label, (a, b) in difference.choices.items()]
        parts.append(bare_table(["label", "A", "B"], rows))
    if difference.fields:
        fields = {f"space.{key}": f"{a or '-'} -> {b or '-'}" for key, (a, b) in difference.fields.items()}
        parts += [heading("space"), *lines(fields)]
    print_whole(parts)
