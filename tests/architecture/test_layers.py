"""The packages at the bottom: none imports itself in a circle, and `architecture` imports nothing above it."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("manas", "search_spaces")
    for path in (REPOSITORY / package).rglob("*.py")
}


def imports(module):
    """The modules of ours that a module names, also inside functions and for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys() - {module}


@pytest.mark.parametrize(
    "package",
    ["manas.architecture", "manas.relaxations", "manas.cost", "manas.reporting.drawing", "search_spaces"],
)
def test_no_module_imports_another_in_a_circle(package):
    left = {module: imports(module) for module in MODULES if module.startswith(f"{package}.")}
    while free := [module for module, named in left.items() if not named & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_architecture_imports_nothing_above_it():
    below = ("manas.architecture", "manas.errors", "manas.files")
    for module in MODULES:
        if module.startswith("manas.architecture."):
            assert all(name.startswith(below) for name in imports(module)), module
