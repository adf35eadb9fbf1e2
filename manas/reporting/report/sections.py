"""The sections of the report of a run; a section is empty if the run has nothing for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from manas.data.images import read_image
from manas.errors import ManasError
from manas.reporting.drawing.figure import figure as drawing_of
from manas.reporting.report import curves, search_curves
from manas.reporting.report.correlation_table import correlation
from manas.reporting.report.markup import element, folded, inline, picture, table
from manas.reporting.report.panels import as_svg, style
from manas.reporting.report.record import STITCHES, Record, mapping
from manas.reporting.report.timeline import Curves, places
from manas.training.guard import left_out_of
from manas.training.validation import beside_input

DRAWING = 2.15  # pixels for each point of the drawing, whose text has a size of five points

CURVES: tuple[Callable[[Record], Curves | None], ...] = (
    curves.relaxed_and_one_hot,
    curves.of_a_path,
    curves.of_candidates,
    search_curves.score_by_cost,
    curves.by_task,
    curves.losses,
    search_curves.decisions,
    search_curves.shares,
    search_curves.sharpness,
    search_curves.cost,
)


class Section(NamedTuple):
    """A part of the page: its name in warnings, and the function that makes it."""

    name: str
    parts: Callable[[Record], Iterator[Element]]


def title_of(record: Record) -> str:
    """The title of a report, such as ``Search of multi_scale_attentive by gradient``."""
    of = f" of {kind}" if (kind := record.space.get("kind")) else ""
    if record.is_retraining:
        return f"Retraining{of}"
    how = {"": "", "random": " at random", "surrogate": " by a surrogate"}.get(
        record.method, f" by {record.method}"
    )
    return f"Search{of}{how}"


def _header(record: Record) -> Iterator[Element]:
    yield element("h1", title_of(record))
    finished = f"finished {record.finished:%Y-%m-%d %H:%M} UTC" if record.finished else None
    yield from _quiet(record.config.get("run", record.run), finished)
    yield from _quiet(*_towers(record.space), *_method(record))
    known = {name: record.environment.get(name) for name in ("manas", "torch", "python")}
    versions = [f"{name} {version}" for name, version in known.items() if version]
    yield from _quiet(*versions, record.environment.get("cuda") or ("CPU" if versions else None))


def _quiet(*texts: Any) -> Iterator[Element]:
    words = [str(text) for text in texts if text]
    if words:
        yield element("p", " \N{MIDDLE DOT} ".join(words), class_="quiet")


def _towers(space: Mapping[str, Any]) -> Iterator[str]:
    """The towers, the stitch and the fusion of a network of several towers, in words."""
    for task, tower in mapping(space.get("towers")).items():
        yield f"{task}: {mapping(tower).get('kind')}"
    for joint in ("stitch", "fusion"):
        if joint in space:
            yield f"{joint} {space[joint]}"


def _method(record: Record) -> Iterator[str]:
    """The method of the run, in the words of its configuration."""
    config, method = record.config, mapping(record.config.get("method"))
    if record.method == "gradient":
        parts = {name: config.get(name) for name in ("relaxation", "order", "selection")}
        yield from (f"{name} {mapping(part).get('kind', part)}" for name, part in parts.items() if part)
    yield from (f"{name} {value}" for name, value in method.items() if name != "kind")
    sources = mapping(config.get("data")).get("sources")
    tasks = dict.fromkeys(mapping(source).get("task") for source in sources or [])
    yield from [f"trained on {', '.join(map(str, tasks))}"] if tasks else []
    if "epochs" in config and "steps" in config:
        compute = "compute of " if record.method == "random" else ""
        yield f"{compute}{config['epochs']} epochs of {config['steps']} steps"


def _verdict(record: Record) -> Iterator[Element]:
    verdict = record.summary.get("verdict")
    sentences = [text for text in verdict if isinstance(text, str)] if isinstance(verdict, list) else []
    if record.is_retraining:
        sentences = list(_result(record.summary))
    if sentences:
        heading = "Result" if record.is_retraining else "Verdict"
        items = element("ul", *(element("li", text) for text in sentences))
        yield element("section", element("h2", heading), items, class_="verdict")


def _result(training: Mapping[str, Any]) -> Iterator[str]:
    scores = training.get("validation")
    if isinstance(scores, dict) and isinstance(scores.get("psnr"), float):
        tasks = {k.removeprefix("psnr/"): k for k in scores if k.startswith("psnr/")}
        by_task = "; ".join(f"{task}: {_beside_input(scores, key)}" for task, key in tasks.items())
        epoch, whole = training.get("epoch"), _beside_input(scores, "psnr")
        yield f"the best network by validation is that of epoch {epoch}: {whole} ({by_task})"
    yield from left_out_of(training)


def _beside_input(scores: Mapping[str, float], key: str) -> str:
    """A score beside that of the input, which descriptions of earlier versions do not have."""
    degraded = scores.get(key.replace("psnr", "input"))
    return f"{scores[key]:.2f} dB" if degraded is None else beside_input(scores[key], degraded)


def _architecture(record: Record) -> Iterator[Element]:
    facts = dict(_facts(record.summary))
    if not record.choices and not facts:
        return
    yield element("h2", "Architecture")
    if facts:
        yield _list(facts)


def _facts(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(summary.get("parameters"), int):
        yield "Parameters", f"{summary['parameters']:,}"
    if isinstance(summary.get("macs"), int):
        shape = summary.get("input")
        size = ""
        if isinstance(shape, list) and len(shape) == 3:
            size = f" for an image of {shape[2]} x {shape[1]}"
        yield "MACs", f"{summary['macs']:,}{size}"
    compute, judging = (summary.get(name) for name in ("compute", "compute_judging"))
    if isinstance(compute, int) and isinstance(judging, int) and compute:
        yield "Search", f"{compute:,} MACs, {judging / compute:.0%} of them for scores and not for training"


def _drawing(record: Record) -> Iterator[Element]:
    genotype = record.genotype()
    if genotype is None:
        return
    with style():
        svg = as_svg(drawing_of(genotype))
    label = "Drawing of the architecture; the table of its choices says the same."
    yield element("figure", inline(svg, "drawing-", label, DRAWING), class_="wide")


def _choices(record: Record) -> Iterator[Element]:
    """The table of choices, with their probabilities in the epoch of the result and their reasons, if known."""
    if not record.choices:
        return
    reasons = mapping(record.summary.get("decided_by"))
    columns = {"fork": list(record.choices), "choice": list(record.choices.values())}
    if record.under("probabilities"):
        columns["probability"] = [_probability(record, f"{k}/{name}") for k, name in record.choices.items()]
    if reasons:
        columns["decided by"] = [str(reasons.get(label, "")) for label in record.choices]
    content = table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])
    yield folded(f"Table of the {len(record.choices)} choices", content)


def _probability(record: Record, name: str) -> str:
    series = record.metrics.get(f"probabilities/{name}")
    if series is None:
        return ""
    at = np.flatnonzero(places(record, series) == record.summary.get("epoch"))
    return f"{series.values[at[0]]:.3f}" if len(at) else ""


def _curve(draw: Callable[[Record], Curves | None], record: Record) -> Iterator[Element]:
    with style():
        drawing = draw(record)
        if drawing is None:
            return
        svg = as_svg(drawing.figure)
    prefix, label = f"{draw.__name__.replace('_', '-')}-", f"{drawing.title}: curves, as the caption says"
    heading, caption = element("h2", drawing.title), element("figcaption", drawing.caption)
    yield element("figure", heading, inline(svg, prefix, label), caption)


def _samples(record: Record) -> Iterator[Element]:
    sheets = list(dict.fromkeys(record.samples[:1] + record.samples[-1:]))
    figures = [figure for sheet in sheets for figure in _sheet(sheet)]
    if figures:
        yield element("h2", "Samples")
        yield element("div", *figures, class_="samples")


def _sheet(path: Path) -> Iterator[Element]:
    try:
        height, width = read_image(path).shape[:2]
    except ManasError:
        return
    epoch = path.stem.removeprefix("epoch_").lstrip("0") or "0"
    caption = f"Epoch {epoch}, a validation crop a row: degraded, restored, clean."
    yield element("figure", picture(path, caption, width, height), element("figcaption", caption))


def _stitches(record: Record) -> Iterator[Element]:
    path = record.run / STITCHES
    if not path.exists():
        return
    height, width = read_image(path).shape[:2]
    caption = (
        "What each tower takes of the features of every tower after the last epoch, a map for each stage and "
        "scale. White is what there would be without an exchange: all of its own, nothing of the others."
    )
    image = picture(path, "Matrices of the cross-stitches", width, height)
    yield element("figure", element("h2", "Stitches"), image, element("figcaption", caption))


def _configuration(record: Record) -> Iterator[Element]:
    if record.config_text:
        yield element("h2", "Configuration")
        yield folded("config.yaml", element("pre", record.config_text))


def _environment(record: Record) -> Iterator[Element]:
    if record.environment:
        yield element("h2", "Environment")
        yield _list({name: _as_text(value) for name, value in record.environment.items() if value is not None})


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _list(pairs: Mapping[str, str]) -> Element:
    rows = ((element("dt", name), element("dd", text)) for name, text in pairs.items())
    return element("dl", *(part for row in rows for part in row))


SECTIONS: Sequence[Section] = (
    Section("a header", _header),
    Section("a verdict", _verdict),
    Section("the architecture", _architecture),
    Section("a drawing", _drawing),
    Section("a table of choices", _choices),
    Section("a table of rank correlations", correlation),
    *(Section(draw.__name__.replace("_", " "), partial(_curve, draw)) for draw in CURVES),
    Section("stitches", _stitches),
    Section("samples", _samples),
    Section("the configuration", _configuration),
    Section("the environment", _environment),
)
