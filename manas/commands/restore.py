"""The command line: `manas restore`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from manas.commands.console import BLIND, Device, Ensemble, Space, Task, say, space_class_of
from manas.errors import ManasError
from manas.models import DEFAULT

if TYPE_CHECKING:
    from manas.photos.picture import PixelRestorer

FAILURES = 1  # exit code if some files could not be restored

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...", help="Pictures, videos, folders of pictures, quoted patterns of pictures and videos."
    ),
]
Model = Annotated[
    Path,
    typer.Option(
        metavar="MODEL", help="Model file or run directory, as retrain writes them, or a name of manas models."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder to write into, or a file for one source.")
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Replace the pictures themselves.")]
Format = Annotated[
    Literal["keep", "png", "jpg", "webp", "tiff"], typer.Option(help="Of the files; keep: that of each source.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist in OUT.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out what is in OUT, views included: goes on.")
]
SideBySide = Annotated[
    bool, typer.Option("--side-by-side", help="Write NAME.compare.png, too: input | restored.")
]
Difference = Annotated[
    bool, typer.Option("--difference", help="Write NAME.difference.png, too: what was removed, on grey.")
]
Strength = Annotated[float, typer.Option(help="0: the picture as it is; 1: restored; between: mixed.")]
Tile = Annotated[str, typer.Option(help="auto, none, or the side of tiles in pixels.")]
Statistics = Annotated[
    Literal["sampled", "exact"], typer.Option(help="How global attention sees a picture in tiles.")
]
Precision = Annotated[Literal["auto", "float32", "bf16", "fp16"], typer.Option(help="Of the network.")]


def restore(
    images: Inputs,
    model: Model = Path(DEFAULT),
    out: Out = None,
    in_place: InPlace = False,
    format: Format = "keep",
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    side_by_side: SideBySide = False,
    difference: Difference = False,
    task: Task = BLIND,
    ensemble: Ensemble = False,
    strength: Strength = 1.0,
    tile: Tile = "auto",
    statistics: Statistics = "sampled",
    precision: Precision = "auto",
    device: Device = "auto",
    space: Space = None,
) -> None:
    """Restore pictures of any size and format, and videos by frames where ffmpeg is installed.

    Of a folder, the pictures are restored; videos are named themselves or by a pattern, and not replaced
    where they would lose something. Format and metadata are kept where they can be; what is not, and what
    cannot be restored, is said in the end. Exit code: 0 all well, 1 some files failed, 2 mistake in the call.
    """
    from manas.inference.restorer import Restorer
    from manas.photos.targets import targets_of

    _check_destination(out, in_place, overwrite, skip_existing)
    views = [name for name, wanted in (("compare", side_by_side), ("difference", difference)) if wanted]
    files: dict[str, Any] = {"format": format, "views": views}
    files |= {"overwrite": overwrite, "skip_existing": skip_existing}
    targets = targets_of(images, out, **files)
    network: dict[str, Any] = {"device": device, "precision": precision, "tile": _side(tile)}
    network |= {"task": None if task == BLIND else task, "statistics": statistics}
    network |= {"ensemble": ensemble, "strength": strength}
    restorer = Restorer.load(model, space=space_class_of(space), **network)
    if _restore_all(restorer, targets, views, resumable=not (in_place or overwrite)):
        raise typer.Exit(FAILURES)


def _check_destination(out: Path | None, in_place: bool, overwrite: bool, skip_existing: bool) -> None:
    if (out is None) != in_place:
        raise ManasError("give either -o, a folder or a file to write into, or --in-place")
    if overwrite and skip_existing:
        raise ManasError("--overwrite and --skip-existing contradict each other; give one of them")
    if in_place and (overwrite or skip_existing):
        raise ManasError("--in-place replaces every picture; --overwrite and --skip-existing are for -o")


def _side(tile: str) -> int | Literal["auto"] | None:
    if tile in ("auto", "none"):
        return "auto" if tile == "auto" else None
    if not tile.isdecimal():
        raise ManasError(f"--tile {tile!r}: write auto, none, or a number of pixels")
    return int(tile)


def _restore_all(
    restorer: PixelRestorer, targets: dict[Path, Path], views: list[str], *, resumable: bool
) -> dict[Path, str]:
    """Restores all files and reports their losses; returns the reasons of failures by file."""
    from manas.photos.restoring import restore_file
    from manas.reporting.progress import Progress

    losses: Counter[str] = Counter()
    failures: dict[Path, str] = {}
    with Progress("restore", len(targets)) as progress:
        for place, (source, target) in enumerate(targets.items()):

            def reach(done: int, total: int, place: int = place) -> None:
                progress.reach(place + done / total, len(targets))

            try:
                lost = restore_file(restorer, source, target, views=views, progress=reach)
            except (ManasError, OSError, MemoryError, RuntimeError) as error:
                failures[source] = str(error) or type(error).__name__
            except KeyboardInterrupt:
                _report(losses, failures, len(targets))
                _report_interruption(place - len(failures), len(targets), resumable=resumable)
                raise
            else:
                losses.update(lost)
                say(str(target))
            progress.reach(place + 1, len(targets))
    _report(losses, failures, len(targets))
    return failures


def _report_interruption(done: int, total: int, *, resumable: bool) -> None:
    advice = "; --skip-existing goes on after these" if resumable else ""
    typer.echo(f"manas: interrupted, {done} of {_files(total)} done{advice}", err=True)


def _report(losses: Counter[str], failures: dict[Path, str], total: int) -> None:
    for loss, count in losses.items():
        typer.echo(f"manas: {loss} ({_files(count)})", err=True)
    if failures:
        typer.echo(f"manas: {len(failures)} of {_files(total)} could not be restored:", err=True)
    for source, reason in failures.items():
        typer.echo(" ".join(_naming(source, reason).split()), err=True)


def _naming(source: Path, reason: str) -> str:
    return reason if reason.startswith(f"{source}: ") else f"{source}: {reason}"


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
