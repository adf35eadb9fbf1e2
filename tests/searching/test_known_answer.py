"""Every relaxation x order x selection finds what is provably right, which random search seldom does."""

import importlib
import itertools
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"


@pytest.fixture(scope="module")
def known_answer():
    """The benchmark; its space is found again by the name of the module, when a genotype is read."""
    sys.path.append(str(BENCHMARKS))
    yield importlib.import_module("known_answer")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def pairs(known_answer, tmp_path_factory):
    return known_answer.write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize(
    ("relaxation", "order", "selection"),
    list(
        itertools.product(
            ("softmax", "gumbel", "dirichlet", "sigmoid"),
            ("first", "second", "single"),
            ("argmax", "perturbation"),
        )
    ),
)
def test_the_right_architecture_is_found(relaxation, order, selection, known_answer, pairs):
    settings = known_answer.gradient_settings(relaxation, order, selection)
    assert known_answer.found(pairs, 0, **settings) == 3


def test_evolution_finds_it(known_answer, pairs):
    method = {"kind": "evolution", "evaluations": 100, "population": 20}
    assert known_answer.found(pairs, 0, method=method) == 3


def test_random_search_finds_it_less_often(known_answer, pairs):
    method = {"kind": "random", "candidates": 8}
    found = [known_answer.found(pairs, seed, method=method) for seed in range(3)]
    assert sum(right == 3 for right in found) < 3
