"""The table of rank correlations of a search: its one-hot scores, two seeds, and free predictors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from manas.reporting.report.markup import element, table
from manas.reporting.report.record import Record, mapping

NAMES = {
    "one_hot": "one-hot scores in the supernet",
    "another_seed": "another seed of the training alone",
    "macs": "MACs",
    "parameters": "parameters",
    "synflow": "SynFlow",
    "beyond_size": "one-hot scores less the better of MACs and parameters",
}


def correlation(record: Record) -> Iterator[Element]:
    """The heading, the table and the way to read it, if the search has compared its scores with trainings."""
    found = mapping(record.summary.get("correlation"))
    taus = {name: found[key] for key, name in NAMES.items() if _is_tau(found.get(key))}
    if not taus:
        return
    yield element("h2", "Rank correlation")
    rows = [[name, f"{tau:.2f}", f"{error:.2f}"] for name, (tau, error) in taus.items()]
    yield table(["predictor", "Kendall's tau", "standard error"], rows)
    text = (
        f"The truth is the mean PSNR of {found.get('architectures')} random architectures, each trained alone "
        f"for {found.get('steps')} steps with {found.get('seeds')} seeds. A tau of 1 is the same order, 0 no "
        "relation; that of another seed is about the most that a predictor can have."
    )
    yield element("p", text, class_="quiet")


def _is_tau(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(x, int | float) for x in value)
