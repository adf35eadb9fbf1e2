"""The training images of a model in words, for its card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from manas.data.dataset.config import SourceConfig
from manas.data.weather import Capture
from manas.data.weather.climates import MIXED
from manas.data.weather.scene import climates_of
from manas.restoration.model_file import ModelDescription


def images_of(description: ModelDescription) -> Iterator[str]:
    """The lines of a card about the training images, one a source."""
    for task, source in _sources(description):
        yield f"{literal(task)}: {_describe(_parse(source), source)}"
    if credit := description.training.get("credit"):
        yield f"by, and under the terms of: {literal(credit)}"
    if description.degradations:
        yield f"how many: {_how_many(description.training.get('backgrounds'))}"


def _how_many(counts: Any) -> str:
    if not isinstance(counts, Mapping) or not {"kept", "held"} <= set(counts):
        return "unknown, the file does not say"
    return f"{counts['kept']} pictures to train on, {counts['held']} for validation"


def _sources(description: ModelDescription) -> Iterator[tuple[str, Any]]:
    for task, sources in description.degradations.items():
        yield from ((task, source) for source in (sources if isinstance(sources, list) else [sources]))


def _parse(source: Any) -> SourceConfig | None:
    """Reads a source as this version configures it; None for anything else, which files of others may hold."""
    try:
        return SourceConfig.model_validate(source)
    except ValidationError:
        return None


def _describe(source: SourceConfig | None, written: Any) -> str:
    if source is None:
        return literal(json.dumps(written))
    levels = f"levels {', '.join(source.levels)}" if source.levels else "all levels"
    share = f"; drawn with weight {source.weight}" if source.weight != 1 else ""
    left_out = ", ".join(literal(Path(folder).name) for folder in source.exclude)
    share += f"; without the backgrounds of {left_out}" if left_out else ""
    if source.weather is None:
        roots = [source.pairs] if isinstance(source.pairs, str) else (source.pairs or {}).values()
        return f"pairs of {', '.join(literal(Path(root).name) for root in roots)}, {levels}{share}"
    family = f" of the family {source.family}" if len(climates_of(source.weather, MIXED)) > 1 else ""
    smaller = f" scaled down by up to {source.shrink:g}" if source.shrink > 1 else ""
    photographs = f"photographs {_photographs(source)}{smaller}{_traces(source.capture)}"
    return f"generated {source.weather}{family}, {levels}, on {photographs}{share}"


def _traces(capture: Capture) -> str:
    """The traces of a camera in words, after a comma."""
    noise = f"sensor noise of {capture.noise[0]:g} to {capture.noise[1]:g} of 255" if capture.noise else ""
    jpeg = f"JPEG of quality {capture.jpeg[0]} to {capture.jpeg[1]}" if capture.jpeg else ""
    found = " and ".join(filter(None, (noise, jpeg)))
    return f", with {found}" if found else ""


def _photographs(source: SourceConfig) -> str:
    if source.photographs == "builtin":
        return "that ship with scikit-image"
    return f"of the folder {literal(Path(source.photographs).name)}"


def shortcomings(description: ModelDescription) -> Iterator[str]:
    """Sentences about what the training images lack."""
    sources = [_parse(source) for _, source in _sources(description)]
    if sources and all(source and source.weather for source in sources):
        yield "Trained on generated weather alone. Real weather differs; how well it restores that is unknown."
        if all(source and source.capture == Capture() for source in sources):
            yield "No sensor noise and no JPEG marks were added to its training images."


def literal(value: Any) -> str:
    """Quotes a value as literal text, since the text of a file from someone else must not act as markup."""
    return f"`{' '.join(str(value).replace('`', '′').split())}`"
