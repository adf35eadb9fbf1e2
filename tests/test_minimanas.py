"""The idea at one sitting runs, and needs nothing of ours."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[1] / "docs" / "minimanas.py"


@pytest.fixture(scope="module")
def mini():
    spec = importlib.util.spec_from_file_location("minimanas", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_imports_nothing_of_ours():
    nodes = list(ast.walk(ast.parse(FILE.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} & {"manas", "search_spaces", "experiments"}


def test_it_searches_derives_and_retrains(mini, capsys):
    mini.main(4)
    genotype, scores = capsys.readouterr().out.split("}")
    chosen = json.loads(genotype + "}")
    assert list(chosen) == [f"layer{n}" for n in range(6)]
    assert set(chosen.values()) <= set(mini.CANDIDATES)
    assert [line.split()[0] for line in scores.split("\n") if line] == ["rainy", "searched", *["random"] * 3]


def test_the_supernet_and_the_derived_network_are_one_program(mini):
    """With all weight on the chosen candidates they give the same."""
    torch.manual_seed(0)
    supernet = mini.Network(mini.relaxed)
    torch.nn.init.normal_(supernet.head.weight, std=0.1)
    forks = [module for module in supernet.modules() if isinstance(module, mini.Choice)]
    chosen = {fork.label: fork.names[n % len(fork.names)] for n, fork in enumerate(forks)}
    derived = mini.Network(mini.fixed(chosen))
    derived.stem, derived.head = supernet.stem, supernet.head
    with torch.no_grad():
        for n, fork in enumerate(forks):
            place = fork.names.index(chosen[fork.label])
            fork.alpha.fill_(-100.0)[place] = 100.0
            derived.layers[n] = fork.candidates[place]
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(derived(image), supernet(image))
    assert (derived(image) - image).abs().max() > 1e-3
