"""No file that someone else may have written is ever evaluated or unpickled: read from the source itself."""

import ast
from pathlib import Path

import pytest

import manas
import search_spaces

FOLDERS = [Path(package.__file__).parent for package in (manas, search_spaces)]
SOURCES = {
    f"{folder.name}/{file.relative_to(folder)}": file for folder in FOLDERS for file in folder.rglob("*.py")
}

EVALUATING = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
LOOSE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def dangers(source: str) -> list[str]:
    """What in a source file runs what it reads."""
    return [danger for node in ast.walk(ast.parse(source)) if (danger := _danger(node))]


def _danger(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and node.id in EVALUATING:
        return node.id
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
        return None if node.attr == "UnpicklingError" else f"pickle.{node.attr}"  # naming the error is harmless
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if _unpickles(alias)), None)
    if isinstance(node, ast.ImportFrom):
        return _imported(node)
    return _called(node) if isinstance(node, ast.Call) else None


def _unpickles(alias: ast.alias) -> bool:
    return alias.name.split(".")[0] in UNPICKLING or (alias.name == "pickle" and alias.asname is not None)


def _imported(node: ast.ImportFrom) -> str | None:
    names = {alias.name for alias in node.names}
    unpickling = (node.module or "").split(".")[0] in {"pickle", *UNPICKLING}
    if unpickling or (node.module == "torch" and "load" in names):
        return f"from {node.module} import"
    return None


def _called(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if name.endswith(".load") and given.get("allow_pickle", "False") != "False":
        return "allow_pickle"
    return name if name in {f"yaml.{loader}" for loader in LOOSE_YAML} else None


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_nothing_is_evaluated_or_unpickled(source):
    assert dangers(SOURCES[source].read_text(encoding="utf-8")) == []


def test_both_packages_were_read():
    assert {"manas/architecture/genotype.py", "search_spaces/multi_scale_attentive/gates.py"} <= set(SOURCES)


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "run = eval",
        "import dill",
        "pickle.load(file)",
        "pickle.loads(data)",
        "pickle.Unpickler(file)",
        "import os, pickle as p",
        "from pickle import load",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "__import__(name)",
    ],
)
def test_the_reader_sees_dangers(source):
    assert dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "json.load(file)",
        "import pickle\ntry: ...\nexcept pickle.UnpicklingError: ...",
    ],
)
def test_the_reader_lets_the_harmless_pass(source):
    assert dangers(source) == []
