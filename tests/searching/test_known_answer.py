"""Every relaxation x order x selection finds what is provably right, which random search seldom does."""

import itertools

import pytest
from searching.plainly import plainly


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


def test_a_surrogate_finds_an_answer_that_the_forks_have_in_common(known_answer, tmp_path, monkeypatch):
    """Its prior holds forks of the same candidates for alike, and few trainings do not talk it out of that."""
    monkeypatch.setattr(known_answer, "FILTERS", (known_answer.FILTERS[1],) * 3)
    monkeypatch.setattr(known_answer, "RIGHT", dict.fromkeys(known_answer.RIGHT, "dil_conv_3x3"))
    pairs = known_answer.write_pairs(tmp_path)
    with plainly():
        assert known_answer.found(pairs, 0, method="surrogate", epochs=16, steps=15) == 3


def test_random_search_finds_it_less_often(known_answer, pairs):
    method = {"kind": "random", "candidates": 8}
    found = [known_answer.found(pairs, seed, method=method) for seed in range(3)]
    assert sum(right == 3 for right in found) < 3
