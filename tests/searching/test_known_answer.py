"""Every relaxation x order x selection finds what is provably right, which random search seldom does."""

import itertools

import pytest


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
