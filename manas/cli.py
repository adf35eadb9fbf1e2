"""The command line: `manas search | retrain | export | restore | evaluate | explain-metrics | genotype |
synthesize | data`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import manas
from manas import data_cli
from manas.console import Space, say, size, space_class_of
from manas.errors import ManasError
from manas.files import replacing
from manas.genotype_cli import genotypes

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(genotypes, name="genotype")
app.add_typer(data_cli.data, name="data")
app.command()(data_cli.synthesize)

INTERRUPTED = 130

ConfigPath = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file; defaults without it.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run directory.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in the run directory.")]
Model = Annotated[Path, typer.Option(metavar="MODEL", help="Model file, as retrain writes it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        say(manas.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Differentiable architecture search for image restoration."""


@app.command()
def search(
    config: ConfigPath = None, set: Overrides = None, resume: Resume = False, overwrite: Overwrite = False
) -> None:
    """Search a space for an architecture; writes genotype.json into the run directory."""
    from manas.config import read_config
    from manas.searching.config import SearchConfig
    from manas.searching.search import search as run

    settings = read_config(SearchConfig, config, set or ())
    genotype = run(settings, resume=resume, overwrite=overwrite)
    say(f"{len(genotype.choices)} choices, {size(genotype.provenance)}")
    say(f"{settings.run}/genotype.json")


@app.command()
def retrain(
    config: ConfigPath = None,
    genotype: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]PATH", help="Genotype of a task; or one of a whole network."),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TASK=]PATH", help="Model file to begin with: of a task's tower, or of the whole."
        ),
    ] = None,
    set: Overrides = None,
    space: Space = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train the network of one genotype a task, or of one whole genotype; writes model.safetensors."""
    from manas.config import read_config
    from manas.training.retrain import RetrainConfig
    from manas.training.retrain import retrain as run

    overrides = [*(set or ()), *_by_task("genotype", genotype or []), *_by_task("init", init or [])]
    overrides += [f"space={space}"] if space else []
    settings = read_config(RetrainConfig, config, overrides)
    say(str(run(settings, resume=resume, overwrite=overwrite)))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="Run directory, checkpoint, model file or genotype file.")],
    out: Annotated[Path, typer.Argument(help="Genotype file to write (.json).")],
    space: Space = None,
) -> None:
    """Write the genotype of a run or checkpoint as JSON."""
    from manas.searching.export import genotype_from

    say(str(genotype_from(source, space=space_class_of(space)).write(out)))


@app.command(name="import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="State dict that torch.save wrote, such as DRN's net_latest.pth.")
    ],
    out: Annotated[Path, typer.Argument(help="Model file to write (.safetensors).")],
    space: Annotated[str, typer.Option(help="Preset, YAML file or package.module:Class of the tower.")],
    task: Annotated[str, typer.Option(help="What the tower is for.")] = "derain",
) -> None:
    """Write the model file of a tower with weights that another program trained."""
    from manas.architecture.finding import load_space
    from manas.foreign_weights import import_weights

    say(str(import_weights(file, out, load_space(space), task)))


@app.command()
def restore(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into, or a file for one image.")],
    model: Model,
    task: Annotated[str | None, typer.Option(help="Take the output of this tower; else the blind one.")] = None,
    tile: Annotated[int | None, typer.Option(help="Side of tiles, for images too large for memory.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    device: Device = "auto",
    space: Space = None,
) -> None:
    """Restore images of any size; writes PNG unless a file name says otherwise."""
    from manas.inference.files import restore_file, targets_of
    from manas.inference.restore import Restorer
    from manas.reporting.progress import Progress

    restorer = Restorer.load(model, device=device, task=task, tile=tile, space=space_class_of(space))
    targets = targets_of(images, out, overwrite=overwrite)
    with Progress("restore", len(targets)) as progress:
        for source, target in targets.items():
            say(str(restore_file(restorer, source, target)))
            progress.advance()


@app.command()
def evaluate(
    model: Model,
    pairs: Annotated[
        Path | None, typer.Argument(metavar="[PAIRS]", help="Folder of pairs; else generated weather.")
    ] = None,
    weather: Annotated[list[str] | None, typer.Option(help="Generated weather: rain, snow.")] = None,
    photographs: Annotated[
        str | None, typer.Option(help="Folder of clean photographs; else the built-in, held-out ones.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="Named protocol of PSNR and SSIM.")] = "derain",
    table: Annotated[Path | None, typer.Option("--csv", help="Write the scores of every image.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a before-and-after picture.")] = None,
    device: Device = "auto",
    space: Space = None,
) -> None:
    """Score a model on pairs, or on generated weather over photographs it has not seen."""
    from manas.evaluation.evaluate import evaluate as run
    from manas.evaluation.scenes import scenes_for
    from manas.inference.restore import Restorer
    from manas.reporting.pictures import Row, before_after

    restorer = Restorer.load(model, device=device, space=space_class_of(space))
    rows: list[Row] = []
    scenes = scenes_for(pairs, weather, photographs)
    evaluation = run(restorer, scenes, protocol=protocol, rows=rows if picture else None)
    show(evaluation)
    if table:
        with replacing(table) as unfinished:
            unfinished.write_text(evaluation.to_csv(), encoding="utf-8")
        say(str(table))
    if picture:
        say(str(before_after(rows, picture)))


def show(evaluation: Any) -> None:
    """Prints the table of an evaluation."""
    from manas.evaluation.evaluate import table

    _print_table(*table(evaluation), f"protocol {evaluation.protocol}; means of per-image values")


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> None:
    printed = Table(caption=caption)
    for heading in headings:
        printed.add_column(heading, no_wrap=not heading)
    for row in rows:
        printed.add_row(*row)
    Console().print(printed)


@app.command()
def explain_metrics(
    restored: Annotated[Path, typer.Argument(metavar="A", help="Image, or folder of images.")],
    reference: Annotated[Path, typer.Argument(metavar="B", help="Its original, or a folder of these.")],
) -> None:
    """Score A against B by every protocol side by side, and say why the numbers differ."""
    from manas.evaluation.explain import NOTE, explain, table

    _print_table(*table(explain(restored, reference)), NOTE)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; a `ManasError` is one line on standard error and exit code 2."""
    sys.path.append(os.getcwd())  # where a user's package.module:Class is looked for, after everything else
    try:
        app(arguments, standalone_mode=True)
    except ManasError as error:
        typer.echo(f"manas: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except OSError as error:  # a place that cannot be written, a full disk
        typer.echo(f"manas: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED and {"search", "retrain"} & set(arguments or sys.argv):
            typer.echo("manas: interrupted; --resume goes on from the last checkpoint", err=True)
        raise


def _by_task(option: str, given: list[str]) -> list[str]:
    """Overrides for files that are given as task=file each, or as one file of a whole network."""
    by_task = [re.fullmatch(r"([a-z0-9_]+)=(.+)", text) for text in given]
    tasks = [match[1] for match in by_task if match]
    if len(set(tasks)) < len(tasks):
        raise ManasError(f"--{option}: a task is given twice; give one file for each")
    if all(by_task):
        return [f"{option}.{match[1]}={json.dumps(match[2])}" for match in by_task if match]
    if len(given) > 1:
        raise ManasError(f"--{option}: give either one file of a whole network, or task=file for every task")
    return [f"{option}={json.dumps(given[0])}"]
