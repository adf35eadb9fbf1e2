"""The record of a run, read from its directory; missing and damaged files count as empty."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from manas.architecture.finding import parse_space
from manas.architecture.genotype import Genotype
from manas.cost.table import CostTable
from manas.errors import ManasError
from manas.reporting.drawing.contract import Drawing, drawing_of
from manas.restoration.model_file import KEY

CONFIG, ENVIRONMENT, METRICS = "config.yaml", "environment.json", "metrics.jsonl"
GENOTYPE, MODEL, COST = "genotype.json", "model.safetensors", "cost.json"
STITCHES = "stitches.png"


class Series(NamedTuple):
    """A number over the steps of a run: (N,) float64 each; NaN for values that were not finite."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Record:
    """A run directory, whose files are read when they are asked for; no content of them is an error.

    Attributes:
        run: the directory. A genotype in it is read like one from someone else: no code is imported for it.
    """

    run: Path

    @cached_property
    def config_text(self) -> str:
        """The configuration as it stands in its file."""
        return _text(self.run / CONFIG)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration."""
        try:
            return mapping(yaml.safe_load(self.config_text))
        except (yaml.YAMLError, ValueError, RecursionError):
            return {}

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """The versions and the machine of the run."""
        return _json(_text(self.run / ENVIRONMENT))

    @property
    def is_retraining(self) -> bool:
        """Whether the run is a retraining, and not a search."""
        return "genotype" in self.config or (self.run / MODEL).exists()

    @cached_property
    def metrics(self) -> Mapping[str, Series]:
        """All tracked numbers, by name; lines that cannot be read are left out."""
        pairs_by_name: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in _text(self.run / METRICS).split("\n"):
            values = _json(line)
            step = values.pop("step", None)
            if not _is_number(step):
                continue
            for name, value in values.items():
                if value is None or _is_number(value):
                    pairs_by_name[name].append((step, np.nan if value is None else value))
        series = {name: Series(*np.array(pairs, dtype=np.float64).T) for name, pairs in pairs_by_name.items()}
        return {name: of for name, of in series.items() if np.isfinite(of.values).any()}

    def under(self, prefix: str) -> dict[str, Series]:
        """The numbers whose names begin with ``prefix/``, by the rest of their names."""
        metrics = self.metrics.items()
        return {name.removeprefix(f"{prefix}/"): of for name, of in metrics if name.startswith(f"{prefix}/")}

    @property
    def steps_of_an_epoch(self) -> int | None:
        """The number of steps in an epoch, if it is known."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def method(self) -> str:
        """The method of a search: ``gradient``, ``random`` or ``evolution``; empty for a retraining."""
        return str(mapping(self.config.get("method")).get("kind", ""))

    @cached_property
    def found(self) -> Mapping[str, Any]:
        """The genotype of a search, or of the model file of a retraining, as plain values."""
        return mapping(self._description.get("genotype")) if self.is_retraining else self._genotype

    @property
    def summary(self) -> Mapping[str, Any]:
        """The summary of the result: the provenance of a genotype, or the training of a model."""
        of_genotype = None if self.is_retraining else self.found.get("provenance")
        return mapping(of_genotype or self._description.get("training"))

    @property
    def space(self) -> Mapping[str, Any]:
        """The fields of the space, with its kind."""
        return mapping(self.found.get("space") or self.config.get("space"))

    @property
    def choices(self) -> Mapping[str, str]:
        """The chosen candidates by label."""
        items = mapping(self.found.get("choices")).items()
        return {label: name for label, name in items if isinstance(name, str)}

    def genotype(self) -> Genotype | None:
        """The genotype, if its space is installed or its module is loaded already."""
        if not self.found:
            return None
        content = {**self.found, "provenance": dict(self.summary)}
        try:
            return Genotype.from_json(json.dumps(content), trusted=_is_loaded(self.found))
        except ManasError:
            return None

    @cached_property
    def drawing(self) -> Drawing:
        """How the space draws itself; plainly, if it cannot be found."""
        try:
            space = parse_space(self.space, trusted=_is_loaded(self.space))
        except ManasError:
            return Drawing()
        return drawing_of(space) or Drawing()

    def cost(self) -> CostTable | None:
        """The cost table of the space, if the directory has one."""
        try:
            return CostTable.from_json(_text(self.run / COST))
        except ManasError:
            return None

    @property
    def samples(self) -> list[Path]:
        """The sheets of samples, from the first to the last."""
        return sorted((self.run / "samples").glob("epoch_*.png"))

    @property
    def finished(self) -> datetime | None:
        """The time at which the last number or the result was written."""
        paths = [self.run / name for name in (METRICS, GENOTYPE, MODEL)]
        times = [path.stat().st_mtime for path in paths if path.exists()]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    @cached_property
    def _genotype(self) -> Mapping[str, Any]:
        return _json(_text(self.run / GENOTYPE))

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        """The description in the model file."""
        path = self.run / MODEL
        if not path.exists():
            return {}
        try:
            with safe_open(path, framework="np") as file:
                return _json((file.metadata() or {}).get(KEY, ""))
        except (SafetensorError, OSError):
            return {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(text: str) -> dict[str, Any]:
    try:
        return mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, and else an empty one."""
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_loaded(content: Any) -> bool:
    """Whether all code that a description names is running already, so that nothing is imported for it."""
    return all(kind.partition(":")[0] in sys.modules for kind in _kinds(content) if ":" in kind)


def _kinds(content: Any) -> Iterator[str]:
    """All kinds that a description names at any depth."""
    if isinstance(content, dict):
        if isinstance(content.get("kind"), str):
            yield content["kind"]
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _kinds(value)
