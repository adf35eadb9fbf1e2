"""Arrows point down: a restorer can be used without what trains it, scores it or calls it."""

import ast
from pathlib import Path

import pytest

from manas import inference

MODULES = sorted(Path(inference.__file__).parent.glob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_above_is_imported(path):
    ours = [name.split(".")[1] for name in imported(path) if name.startswith("manas.")]
    assert not [name for name in ours if name in {"console", "cli", "evaluation", "searching", "training"}]
    assert not [name for name in ours if name.endswith("_cli")]
