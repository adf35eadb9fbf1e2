"""Arrows point down: scores are taken without what draws, calls or trains; no module imports its importer."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from manas import evaluation

MODULES = {f"manas.evaluation.{path.stem}": path for path in Path(evaluation.__file__).parent.glob("*.py")}
ABOVE = ("commands", "exporting", "reporting", "searching", "training")


def imported(path):
    """All modules, also those that a function imports or that are for types alone."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.module for node in tree if isinstance(node, ast.ImportFrom)}


def test_nothing_above_is_imported():
    found = {name for path in MODULES.values() for name in imported(path) if name}
    assert not [name for name in found if name.startswith(tuple(f"manas.{room}" for room in ABOVE))]


def test_no_module_imports_its_importer():
    TopologicalSorter({name: imported(path) & MODULES.keys() for name, path in MODULES.items()}).prepare()
