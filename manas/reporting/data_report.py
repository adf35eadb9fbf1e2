"""The report of `manas data check`: the identity of each set, its problems, and backgrounds in two sets."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from rich.console import RenderableType

from manas.data.archives import Archive
from manas.data.archives.checks import size_of
from manas.data.archives.layouts import LAYOUTS
from manas.data.checking.check import Check, InputScores, Leaks
from manas.data.checking.matching import Match
from manas.evaluation.measures import Measure
from manas.evaluation.protocols import protocol_named
from manas.reporting.listing import bare_table, heading, lines, printable

SHOWN = 10  # entries of a long list

# Sets that PSNR tells apart: the inputs of Rain100H have 13.6 dB on average, those of Rain100L 26.9 dB; the
# inputs of the new sets have nearly the same.
_LIGHT_OR_HEAVY = re.compile(r"(Rain\d+)L or \1H")
_LEAST_LIGHT = 20.0


def data_report(check: Check, protocol: str, shown: int | None = SHOWN) -> Iterator[RenderableType]:
    """The parts of the report on one set, from top to bottom.

    Args:
        check: the result of the check.
        protocol: name of the protocol of the scores.
        shown: number of entries of a long list that are shown; None shows all.
    """
    archive = check.archive
    yield heading(str(archive.root))
    looks = {layout.name: f"{layout.name}: {layout.looks}" for layout in LAYOUTS}
    facts = {
        "layout": looks.get(archive.layout, archive.layout),
        "set": known_as(check),
        "fingerprint": check.fingerprint.digest,
        "backgrounds": f"{len(archive.scenes):,}",
        "levels": f"{len(archive.levels)}: {', '.join(map(printable, archive.levels))}",
        "sizes": sizes(check, shown),
        "findings": findings(check),
    }
    yield from lines(facts)
    for note in archive.notes:
        yield from lines({"note": printable(note)})
    if check.scores:
        yield heading(
            f"input against target, protocol {protocol}, {check.scored:,} of {len(archive.scenes):,} scenes"
        )
        yield _score_table(check, protocol_named(protocol).measures)
    yield from _problems(check, shown)
    if check.twice:
        yield heading(f"pairs of scenes that have one background: {len(check.twice):,}")
        yield _matches(check.twice, archive, archive, shown)


def leak_report(shared: Sequence[Leaks], shown: int | None = SHOWN) -> Iterator[RenderableType]:
    """The parts of the report on backgrounds that any two of several sets share, `shown` of a long list."""
    if not shared:
        yield heading("no background is in two of the sets")
    for one, other, matches in shared:
        first, second = one.archive, other.archive
        ours, theirs = len({match.first for match in matches}), len({match.second for match in matches})
        yield heading(f"backgrounds in two sets: {ours:,} of {first.root}, {theirs:,} of {second.root}")
        yield _matches(matches, first, second, shown)
        remedy = f"to train on the one without them, give its source exclude: [{second.root}]"
        yield from lines({"": printable(remedy)})


def known_as(check: Check) -> str:
    """The published set that a data set is; the score of its inputs tells Rain100L from Rain100H."""
    known = check.fingerprint.known or "not one that is known by its layout, numbers and sizes"
    either = _LIGHT_OR_HEAVY.search(known)
    psnr = next((scores.means.get("psnr", math.inf) for scores in check.scores.values()), math.inf)
    if not either or math.isinf(psnr):
        return known
    name = either[1] + ("L" if psnr > _LEAST_LIGHT else "H")
    return f"{known.replace(either[0], name)}, by the {psnr:.1f} dB of its inputs"


def sizes(check: Check, shown: int | None = SHOWN) -> str:
    """The sizes of the clean pictures, the most frequent first."""
    counts = Counter(size_of(scene.clean, check.archive.sizes) for scene in check.archive.scenes)
    texts = [f"{width}x{height} ({count:,})" for (width, height), count in counts.most_common()]
    return ", ".join(_cap(texts, shown))


def findings(check: Check) -> str:
    """The numbers of problems of each kind and of repeated backgrounds, in one line."""
    counts = Counter(problem.kind for problem in check.problems)
    texts = [f"{count:,} {kind}" for kind, count in counts.items()]
    pairs = "pair" if len(check.twice) == 1 else "pairs"
    texts += [f"{len(check.twice):,} {pairs} of scenes with one background"] if check.twice else []
    return ", ".join(texts) or "none"


def _score_table(check: Check, measures: Sequence[Measure]) -> RenderableType:
    numbers = (f"{measure.label} {measure.unit}".strip() for measure in measures)
    levels = [level for level in check.archive.levels if level in check.scores]
    rows = ([f"  {printable(level)}", *_score_cells(check.scores[level], measures)] for level in levels)
    return bare_table(["  level", "images", *numbers, ""], rows)


def _score_cells(scores: InputScores, measures: Sequence[Measure]) -> list[str]:
    means = (measure.text(scores.means[measure.name]) for measure in measures)
    identical = {measure.label: scores.identical[measure.name] for measure in measures}
    remarks = (
        f"{count} identical to the target, left out of the {label}"
        for label, count in identical.items()
        if count
    )
    return [f"{scores.images:,}", *means, ", ".join(remarks)]


def _problems(check: Check, shown: int | None) -> Iterator[RenderableType]:
    for kind, count in Counter(problem.kind for problem in check.problems).items():
        yield heading(f"{count:,} {kind}")
        texts = [printable(str(problem)) for problem in check.problems if problem.kind == kind]
        for line in _cap(texts, shown):
            yield from lines({"": line})


def _matches(matches: Sequence[Match], one: Archive, other: Archive, shown: int | None) -> RenderableType:
    ours, theirs = _clean_files(one), _clean_files(other)
    rows = [[f"  {ours[m.first]}", theirs[m.second], m.kind, f"{m.score:.3f}"] for m in matches[:shown]]
    rows += [[f"  and {len(matches) - len(rows):,} more", "", "", ""]] if len(matches) > len(rows) else []
    return bare_table(["  clean picture", "clean picture", "", "score"], rows)


def _clean_files(archive: Archive) -> dict[Hashable, str]:
    """The clean picture of each scene, as a path within the set."""
    folder = archive.root.parent if archive.layout == "list" else archive.root
    return {scene.name: printable(os.path.relpath(scene.clean.path, folder)) for scene in archive.scenes}


def _cap(values: Sequence[str], shown: int | None) -> list[str]:
    first = list(values[:shown])
    return [*first, f"and {len(values) - len(first):,} more"] if len(values) > len(first) else first
