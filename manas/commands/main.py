"""The command line: `manas search | retrain | export | restore | models | evaluate | compare |
explain-metrics | genotype | synthesize | data`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

import manas
from manas.commands import data, evaluate
from manas.commands.console import Space, say
from manas.commands.export import export
from manas.commands.genotype import genotypes
from manas.commands.models import models
from manas.commands.restore import restore
from manas.errors import ManasError
from manas.reporting.size import size

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(genotypes, name="genotype")
app.add_typer(data.data, name="data")
app.command()(data.synthesize)
app.command()(export)
app.command()(restore)
app.command()(models)
app.command()(evaluate.evaluate)
app.command()(evaluate.compare)
app.command()(evaluate.explain_metrics)

INTERRUPTED = 130

ConfigPath = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file; defaults without it.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the run directory.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in the run directory.")]


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
    config: ConfigPath = None,
    set: Overrides = None,
    correlation: Annotated[
        int | None, typer.Option(metavar="N", help="Check the one-hot scores on N architectures trained alone.")
    ] = None,
    front: Annotated[
        str | None,
        typer.Option(metavar="METRIC=A,B,...", help="A genotype for each budget, as macs=1G,2G,4G."),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Search a space for an architecture; writes genotype.json into the run directory."""
    from manas.config import read_config
    from manas.searching.config import SearchConfig
    from manas.searching.search import search as run

    overrides = list(set or ())
    overrides = [*_front(front), *overrides]
    overrides += [] if correlation is None else [f"correlation.architectures={correlation}"]
    settings = read_config(SearchConfig, config, overrides)
    genotype = run(settings, resume=resume, overwrite=overwrite)
    say(f"{len(genotype.choices)} choices, {size(genotype.provenance)}")
    say(f"{settings.run}/genotype.json")


@app.command()
def retrain(
    config: ConfigPath = None,
    genotype: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TASK=]PATH", help="Genotype or run directory, of a task; or of a whole network."
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TASK=]PATH",
            help="Model file or run directory to begin with: of a task's tower, or of the whole.",
        ),
    ] = None,
    set: Overrides = None,
    space: Space = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train the network of one genotype a task, or of one whole genotype; writes model.safetensors."""
    from manas.config import read_config
    from manas.training.config import RetrainConfig
    from manas.training.retrain import retrain as run

    overrides = [*(set or ()), *_by_task("genotype", genotype or []), *_by_task("init", init or [])]
    overrides += [f"space={space}"] if space else []
    settings = read_config(RetrainConfig, config, overrides)
    say(str(run(settings, resume=resume, overwrite=overwrite)))


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
    from manas.foreign.weights import import_weights

    say(str(import_weights(file, out, load_space(space), task)))


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; a `ManasError` is one line on standard error and exit code 2."""
    # A user's package.module:Class may stand in this folder; it comes last, so that it hides no other module.
    sys.path.append(os.getcwd())
    try:
        app(arguments, standalone_mode=True)
    except ManasError as error:
        typer.echo(f"manas: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except OSError as error:  # a folder that cannot be written to, a full disk
        typer.echo(f"manas: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED and {"search", "retrain"} & set(arguments or sys.argv):
            typer.echo("manas: interrupted; --resume goes on from the last checkpoint", err=True)
        raise


def _front(front: str | None) -> list[str]:
    """The settings of `--front`, which others may follow."""
    if front is None:
        return []
    metric, _, limits = front.partition("=")
    return ["method=surrogate", f"front.{metric}=[{limits}]"]


def _by_task(option: str, given: list[str]) -> list[str]:
    """The overrides for files that are given as task=file each, or as one file of a whole network."""
    by_task = [re.fullmatch(r"([a-z0-9_]+)=(.+)", text) for text in given]
    tasks = [match[1] for match in by_task if match]
    if len(set(tasks)) < len(tasks):
        raise ManasError(f"--{option}: a task is given twice; give one file for each")
    if all(by_task):
        files = {match[1]: match[2] for match in by_task if match}
        return [f"{option}={json.dumps(files)}"] if files else []
    if len(given) > 1:
        raise ManasError(f"--{option}: give either one file of a whole network, or task=file for every task")
    return [f"{option}={json.dumps(given[0])}"]
