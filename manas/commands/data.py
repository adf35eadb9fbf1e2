"""The command line: `manas synthesize` and `manas data check`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from manas.commands.console import say
from manas.errors import ManasError


def synthesize(
    photographs: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of clean photographs.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write the data set to.")],
    weather: Annotated[str, typer.Option(help="rain, snow or noise.")] = "rain",
    levels: Annotated[str, typer.Option(help="Some of light, medium, heavy.")] = "light,medium,heavy",
    family: Annotated[
        str | None, typer.Option(help="falling (unless given), mixed; crossing rain; storm of snow.")
    ] = None,
    independent: Annotated[
        bool,
        typer.Option("--independent", help="Each level is a draw of its own, not the lighter one plus more."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    jpeg: Annotated[str | None, typer.Option(metavar="LOW..HIGH", help="JPEG marks of this quality.")] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="LOW..HIGH", help="Sensor noise, standard deviation in grey levels.")
    ] = None,
    long_side: Annotated[int | None, typer.Option(help="Scale larger photographs down to it.")] = None,
    layout: Annotated[str, typer.Option(help="levels: a folder each; did_mdn: two halves a file.")] = "levels",
    masks: Annotated[bool, typer.Option("--masks", help="Write the layers of particles, too.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier synthesis in OUT.")
    ] = False,
) -> None:
    """Write a data set: photographs with generated rain or snow of several levels, and a manifest."""
    from manas.data.synthesis import synthesize as run
    from manas.reporting.progress import Progress

    names = re.split(r"\s*,\s*", levels.strip())
    capture = {k: _range(k, text) for k, text in (("jpeg", jpeg), ("noise", noise)) if text is not None}
    options: dict[str, Any] = {"weather": weather, "levels": names, "family": family, "seed": seed}
    options |= {"nested": not independent, "capture": capture, "masks": masks}
    options |= {"long_side": long_side, "layout": layout}
    with Progress("synthesize", 0) as progress:
        say(str(run(photographs, out, overwrite=overwrite, progress=progress.reach, **options)))


def _range(name: str, text: str) -> list[float]:
    """Reads the range ``85..98``, or ``90``, which is 90..90."""
    if not re.fullmatch(r"\d+(\.\d+)?(\.\.\d+(\.\d+)?)?", text):
        raise ManasError(f"--{name} {text!r}: write two numbers, such as 85..98")
    bounds = [float(number) for number in text.split("..")]
    return [bounds[0], bounds[-1]]


data = typer.Typer(no_args_is_help=True, help="Tools for data sets.")

FINDINGS = 1  # exit code of `check`


@data.callback()
def _group() -> None:
    """Keeps the name of the command `check`: typer would make the only command of a group the group itself."""


@data.command()
def check(
    roots: Annotated[list[Path], typer.Argument(metavar="ROOT...", help="Data sets, or folders of several.")],
    layout: Annotated[str | None, typer.Option(help="Where it is not recognised.")] = None,
    side: Annotated[
        Literal["left", "right"] | None, typer.Option(help="The degraded half of each file, where it has two.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="Named protocol of PSNR and SSIM.")] = "derain",
    scored: Annotated[int, typer.Option(help="Scenes of a set to score, at most.", min=0)] = 200,
    whole: Annotated[bool, typer.Option("--all", help="Name all that is found, not the first ten.")] = False,
) -> None:
    """Say what data sets are, what is wrong with them, and which backgrounds they share.

    The exit code is 0 if nothing was found, 1 if something was, 2 for what cannot be read as a data set.
    """
    from manas.commands.console import print_whole
    from manas.data.archives import inspect_archive
    from manas.data.checking.check import check as run
    from manas.data.checking.check import leaks
    from manas.evaluation.protocols import protocol_named
    from manas.reporting.data_report import SHOWN, data_report, leak_report
    from manas.reporting.progress import Progress

    measure, shown = protocol_named(protocol).measure, None if whole else SHOWN
    checks = []
    # All sets are read before the first is checked, so that a mistake in the last one costs no time.
    for archive in [inspect_archive(root, layout=layout, side=side) for root in _sets_in(roots)]:
        with Progress(f"check {archive.root.name}", len(archive.scenes)) as progress:
            checks.append(run(archive, measure, scored=scored, progress=progress.reach))
        print_whole(data_report(checks[-1], protocol, shown))
    shared = leaks(checks)
    if len(checks) > 1:
        print_whole(leak_report(shared, shown))
    if shared or not all(each.sound for each in checks):
        raise typer.Exit(FINDINGS)


def _sets_in(roots: list[Path]) -> list[Path]:
    """The data sets in all folders, each once, also if its path is spelt in several ways."""
    from manas.data.archives import find_archives

    sets = [path for root in roots for path in find_archives(root) or [root]]
    return list({path.resolve(): path for path in sets}.values())
