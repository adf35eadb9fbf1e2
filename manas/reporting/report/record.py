"""What a run directory says about its run; what is missing or damaged is empty."""

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
    """A number over the steps of a run: (N,) float64 each; NaN where it was not finite."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Record:
    """A run directory, read when asked; nothing that may be in it is an error.

    Attributes:
        run: the directory. A genotype in it is read as one that was received: no code is imported for it.
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
        """Versions and machine."""
        return _json(_text(self.run / ENVIRONMENT))

    @property
    def is_retraining(self) -> bool:
        """Whether it is a retraining, and not a search."""
        return "genotype" in self.config or (self.run / MODEL).exists()

    @cached_property
    def metrics(self) -> Mapping[str, Series]:
        """Every number that was tracked, by name; lines that cannot be read are passed over."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for line in _text(self.run / METRICS).split("\n"):
            values = _json(line)
            step = values.pop("step", None)
            if not _is_number(step):
                continue
            for name, value in values.items():
                if value is None or _is_number(value):
                    found[name].append((step, np.nan if value is None else value))
        series = {name: Series(*np.array(pairs, dtype=np.float64).T) for name, pairs in found.items()}
        return {name: of for name, of in series.items() if np.isfinite(of.values).any()}

    def under(self, prefix: str) -> dict[str, Series]:
        """The numbers whose names begin with ``prefix/``, by the rest of their names."""
        found = self.metrics.items()
        return {name.removeprefix(f"{prefix}/"): of for name, of in found if name.startswith(f"{prefix}/")}

    @property
    def steps_of_an_epoch(self) -> int | None:
        """Steps in an epoch, if they are known."""
        steps = self.config.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    @property
    def method(self) -> str:
        """Of the search: ``gradient``, ``random``, ``evolution``; empty for a retraining."""
        return str(mapping(self.config.get("method")).get("kind", ""))

    @cached_property
    def found(self) -> Mapping[str, Any]:
        """The genotype of a search, or that in the model file of a retraining, as it stands there."""
        return mapping(self._description.get("genotype")) if self.is_retraining else self._genotype

    @property
    def summary(self) -> Mapping[str, Any]:
        """What is known of the result: the provenance of a genotype, the training of a model."""
        of_genotype = None if self.is_retraining else self.found.get("provenance")
        return mapping(of_genotype or self._description.get("training"))

    @property
    def space(self) -> Mapping[str, Any]:
        """The space with its kind."""
        return mapping(self.found.get("space") or self.config.get("space"))

    @property
    def choices(self) -> Mapping[str, str]:
        """Label -> chosen candidate."""
        items = mapping(self.found.get("choices")).items()
        return {label: name for label, name in items if isinstance(name, str)}

    def genotype(self) -> Genotype | None:
        """The genotype, if its space can be found among what is installed or loaded already."""
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
        """What the architectures of the space cost."""
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
        """When the last of the numbers or the result was written."""
        written = [self.run / name for name in (METRICS, GENOTYPE, MODEL)]
        times = [path.stat().st_mtime for path in written if path.exists()]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    @cached_property
    def _genotype(self) -> Mapping[str, Any]:
        return _json(_text(self.run / GENOTYPE))

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        """What the model file says about its weights."""
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
    """The value, if it is one."""
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_loaded(content: Any) -> bool:
    """Whether all code that a description names is running already, so that nothing is imported for it."""
    return all(kind.partition(":")[0] in sys.modules for kind in _kinds(content) if ":" in kind)


def _kinds(content: Any) -> Iterator[str]:
    """Every kind that a description names, however deep."""
    if isinstance(content, dict):
        if isinstance(content.get("kind"), str):
            yield content["kind"]
        content = list(content.values())
    if isinstance(content, list):
        for value in content:
            yield from _kinds(value)
