"""The command line: `manas evaluate`, `manas compare` and `manas explain-metrics`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from manas.commands.console import (
    BLIND,
    Device,
    Ensemble,
    Space,
    Task,
    print_whole,
    refuse,
    say,
    space_class_of,
)
from manas.errors import ManasError
from manas.files import replacing

if TYPE_CHECKING:
    from manas.evaluation.evaluate import Candidate, Watch
    from manas.evaluation.results import Evaluation
    from manas.evaluation.scenes import Scenes
    from manas.evaluation.tables import Table
    from manas.reporting.gallery import First, Worst

PICTURED = 12  # rows of --picture
WORST = 6  # rows of --gallery

Data = Annotated[
    Path | None,
    typer.Argument(metavar="[DATA]", help="Folder of pairs, or of originals; else generated weather."),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model", metavar="MODEL", help="Model file or run directory; several: each against the first."
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Option("--restored", metavar="FOLDER", help="Restored pictures; then DATA has the originals."),
]
Weathers = Annotated[list[str] | None, typer.Option(help="Generated weather: rain, snow.")]
Photographs = Annotated[
    str | None, typer.Option(help="Folder of clean photographs; else the built-in, held-out ones.")
]
ProtocolName = Annotated[str, typer.Option(help="Named protocol of PSNR and SSIM.")]
Csv = Annotated[
    list[Path] | None, typer.Option("--csv", help="Write the scores of every image; once for each model.")
]
Markdown = Annotated[Path | None, typer.Option(help="Write the tables in Markdown.")]
Latex = Annotated[Path | None, typer.Option(help="Write the tables for LaTeX, with booktabs.")]
Picture = Annotated[Path | None, typer.Option(help="Write a before-and-after picture.")]
Gallery = Annotated[Path | None, typer.Option(help="Write a picture of the worst images.")]
WorstCount = Annotated[
    int | None, typer.Option("--worst", help=f"How many images the gallery has; {WORST} unless given.")
]


def evaluate(
    data: Data = None,
    models: Models = None,
    folders: Folders = None,
    weather: Weathers = None,
    photographs: Photographs = None,
    protocol: ProtocolName = "derain",
    csv: Csv = None,
    markdown: Markdown = None,
    latex: Latex = None,
    picture: Picture = None,
    gallery: Gallery = None,
    worst: WorstCount = None,
    task: Task = None,
    ensemble: Ensemble = False,
    device: Device = None,
    space: Space = None,
) -> None:
    """Score models, or pictures that are restored already, by a named protocol."""
    from manas.evaluation.scenes import scenes_for
    from manas.reporting.gallery import draw_gallery

    names = _names(models, folders, csv)
    network = _given({"task": task, "ensemble": ensemble, "device": device, "space": space})
    if folders:
        refuse(network, "with --restored: no network is run")
        work = _of_folders(names, data, generated=bool(weather or photographs))
    else:
        work = _of_models(names, scenes_for(data, weather, photographs), network)
    shown = _shown(picture, gallery, worst)
    evaluations = _evaluated(work, protocol, shown.values())
    _report(_tables(evaluations), markdown, latex)
    for path, evaluation in zip(csv or (), evaluations, strict=False):
        _write(path, evaluation.to_csv())
    for path, kept in shown.items():
        say(str(draw_gallery(kept, evaluations, path)))


def compare(
    one: Annotated[Path, typer.Argument(metavar="A.csv", help="Scores that evaluate --csv wrote.")],
    other: Annotated[Path, typer.Argument(metavar="B.csv", help="Of another model on the same images.")],
    markdown: Markdown = None,
    latex: Latex = None,
) -> None:
    """Say whether B is better than A by more than chance: a paired bootstrap over backgrounds."""
    from manas.evaluation.comparison import compare as run
    from manas.evaluation.results import Evaluation

    a, b = (replace(Evaluation.from_csv(path), model=str(path)) for path in (one, other))
    _report([run(a, b).table()], markdown, latex)


def explain_metrics(
    restored: Annotated[Path, typer.Argument(metavar="A", help="Image, or folder of images.")],
    reference: Annotated[Path, typer.Argument(metavar="B", help="Its original, or a folder of these.")],
) -> None:
    """Score A against B by every protocol side by side, and say why the numbers differ."""
    from manas.evaluation.explain import explain, table

    explained = table(explain(restored, reference))
    printed = Grid(*explained.headings, caption=explained.caption)  # reasons are long: it is folded
    for row in explained.rows:
        printed.add_row(*row)
    Console().print(printed)


def show(table: Table) -> None:
    """Prints a table above its caption, however wide."""
    from manas.reporting.listing import bare_table

    print_whole([bare_table(table.headings, table.rows), Text(table.caption), Text()])


class _Work(NamedTuple):
    """The candidates to score, the scenes to score them on, and where the scores are taken."""

    candidates: dict[str, Candidate]
    scenes: Scenes
    device: str


def _names(models: list[Path] | None, folders: list[Path] | None, csv: list[Path] | None) -> list[str]:
    """The files of the models, or the folders in their place as they were given."""
    from manas.restoration.model_file import model_file

    if bool(models) == bool(folders):
        raise ManasError("say what to score: --model MODEL, or --restored FOLDER, either of them once or more")
    names = [str(path) for path in folders or map(model_file, models or ())]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice:
        raise ManasError(f"{twice}: given twice; give each model or folder once")
    if csv and len(set(csv)) != len(names):
        raise ManasError(
            f"--csv: {len(set(csv))} given for {len(names)} models; give one for each, in their order"
        )
    return names


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _shown(picture: Path | None, gallery: Path | None, worst: int | None) -> dict[Path, First | Worst]:
    """The pictures to write, and what collects the scenes that they show."""
    from manas.reporting.gallery import First, Worst

    if gallery is None:
        refuse(_given({"worst": worst}), "without --gallery")
    shown: dict[Path, First | Worst] = {picture: First(PICTURED)} if picture else {}
    return shown | ({gallery: Worst(WORST if worst is None else worst)} if gallery else {})


def _of_models(names: Sequence[str], scenes: Scenes, network: dict[str, Any]) -> _Work:
    from manas.evaluation.evaluate import candidate, scoring_device, scoring_restorer

    loading = network | {"space": space_class_of(network.get("space"))}
    if network.get("task") == BLIND:
        loading["task"] = None
    restorers = {name: scoring_restorer(name, **loading) for name in names}
    candidates = {name: candidate(restorer) for name, restorer in restorers.items()}
    return _Work(candidates, scenes, str(scoring_device(restorers[names[0]])))


def _of_folders(names: Sequence[str], data: Path | None, *, generated: bool) -> _Work:
    from manas.evaluation.restored import originals_of, reader_of

    if data is None or generated:
        raise ManasError("--restored: give the folder of the originals as DATA, and no generated weather")
    candidates = {name: reader_of(Path(name), data) for name in names}
    return _Work(candidates, originals_of(data, Path(names[0])), "cpu")


def _evaluated(work: _Work, protocol: str, watches: Collection[Watch]) -> list[Evaluation]:
    from manas.evaluation.evaluate import Judged, evaluate_all
    from manas.reporting.progress import Progress

    with Progress("evaluate", len(work.scenes)) as progress:

        def watch(judged: Judged) -> None:
            for each in watches:
                each(judged)
            progress.advance()

        return evaluate_all(*work[:2], protocol=protocol, device=work.device, watch=watch)


def _tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """The scores, and what each model is against the first."""
    from manas.evaluation.comparison import compare
    from manas.evaluation.results import score_table

    first, *others = evaluations
    return [score_table(evaluations), *(compare(first, other).table() for other in others)]


def _report(tables: Sequence[Table], markdown: Path | None, latex: Path | None) -> None:
    for table in tables:
        show(table)
    if markdown:
        _write(markdown, "\n".join(table.to_markdown() for table in tables))
    if latex:
        _write(latex, "\n".join(table.to_latex() for table in tables))


def _write(path: Path, text: str) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    say(str(path))
