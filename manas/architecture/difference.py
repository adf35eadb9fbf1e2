"""The differences of two genotypes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace

Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class Difference:
    """The differences of two genotypes; true if there is any.

    Attributes:
        choices: label -> the two candidates; None where only the other genotype has the label.
        fields: dotted name of a field of the space -> its two values as JSON; None as above.
        labels: how many labels the two have together.
    """

    choices: Mapping[str, Pair]
    fields: Mapping[str, Pair]
    labels: int

    def __bool__(self) -> bool:
        return bool(self.choices or self.fields)


def difference(a: Genotype, b: Genotype) -> Difference:
    """Choices and fields of the space in which two genotypes differ; where they come from does not count."""
    return Difference(
        choices=_differing(a.choices, b.choices),
        fields=_differing(fields_of(a.space), fields_of(b.space)),
        labels=len(a.choices.keys() | b.choices.keys()),
    )


def fields_of(space: SearchSpace) -> dict[str, str]:
    """The fields of a space by dotted name, with those of what is inside; values are JSON."""
    return dict(_flat(space.model_dump(mode="json"), ""))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, Pair]:
    """Where two mappings differ, in the order of the first, then of the second."""
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}
