"""Arrows point down: which package may import which, and no module imports itself in a circle."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import manas

ROOT = Path(manas.__file__).parent
EVERYWHERE = {"config", "device", "errors", "files", "reach"}  # the modules beside the packages

NETWORKS = {"architecture", "restoration", "models"}
RESTORING = NETWORKS | {"data", "inference"}
TRAINING = NETWORKS | {"data", "relaxations", "cost", "evaluation", "reporting"}
BELOW = {
    "architecture": set(),
    "relaxations": {"architecture"},
    "cost": {"architecture"},
    "models": set(),
    "restoration": {"architecture", "models"},
    "data": set(),
    "inference": NETWORKS | {"data"},
    "photos": {"data"},
    "evaluation": RESTORING | {"photos"},
    "reporting": TRAINING | {"training"},  # it draws what they have found
    "training": TRAINING,  # the loop shows its progress
    "searching": TRAINING | {"training"},
    "exporting": TRAINING | {"training", "inference"},
    "foreign": NETWORKS | {"cost", "training", "inference"},
}
OF_SPACES = NETWORKS | {"reporting"}  # for the drawing


def imports(path):
    """The modules of ours that a module imports, wherever in it; those for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if is_module(name) else node.module for name in inner)


def is_module(name):
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Without the root, which imports its public names when they are asked for; others ask it for its version.
ROOMS = [path for package in (ROOT, ROOT.parent / "search_spaces") for path in sorted(package.rglob("*.py"))]
MODULES = [path for path in ROOMS if path != ROOT / "__init__.py"]
GRAPH = {name_of(path): sorted(set(imports(path)) - {"manas"}) for path in MODULES}


def test_every_package_is_known():
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == BELOW.keys() | {"commands"}


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_those_below_it(package):
    wrong = [
        f"{name} imports {imported}"
        for name, all_imported in GRAPH.items()
        if name.startswith(f"manas.{package}.") or name == f"manas.{package}"
        for imported in all_imported
        if imported.startswith("manas.")
        and imported.split(".")[1] not in BELOW[package] | EVERYWHERE | {package}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_spaces_import_what_a_user_s_own_would():
    spaces = [name for name in GRAPH if name.startswith("search_spaces")]
    rooms = {below.split(".")[1] for name in spaces for below in GRAPH[name] if below.startswith("manas.")}
    assert rooms <= OF_SPACES | EVERYWHERE


def test_no_module_imports_itself_in_a_circle():
    """Not by way of others, not inside a function, not for a type checker alone."""
    graph = {
        name: [other for other in below if other in GRAPH and other != name] for name, below in GRAPH.items()
    }
    TopologicalSorter(graph).prepare()


def test_the_package_knows_no_space_by_name():
    ours = [name for name in GRAPH if name.startswith("manas.")]
    assert not [name for name in ours if any(each.startswith("search_spaces") for each in GRAPH[name])]


def test_packages_import_one_another_in_one_direction():
    """But for the loops, which show their progress, and the report, which shows theirs."""
    packages = defaultdict(set)
    for name, below in GRAPH.items():
        root, package = [*name.split("."), ""][:2]
        if root == "manas" and package not in EVERYWHERE:
            packages[package] |= {other.split(".")[1] for other in below if other.startswith("manas.")}
            packages[package] -= {package}
    packages["reporting"].discard("training")
    TopologicalSorter(packages).prepare()
