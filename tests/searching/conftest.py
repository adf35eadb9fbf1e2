"""The benchmark whose right architecture is known, for the tests of searches."""

import importlib
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
