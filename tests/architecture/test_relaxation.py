"""Softmax and one-hot weights, and their logarithms where they are saturated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import Choice
from manas.architecture.relaxation import OneHot, Softmax

alphas = st.lists(st.floats(-200, 200), min_size=2, max_size=9)


def choice_with(alpha, *, temperature=1.0, dtype=torch.float64):
    choice = Choice(
        "label", {f"c{k}": nn.Identity() for k in range(len(alpha))}, Softmax(temperature=temperature)
    )
    choice.alpha = nn.Parameter(torch.tensor(alpha, dtype=dtype))
    return choice


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_probabilities(temperature):
    choice = choice_with([0.3, -1.0, 2.0], temperature=temperature)
    exponentials = [math.exp(value / temperature) for value in (0.3, -1.0, 2.0)]
    expected = torch.tensor([e / sum(exponentials) for e in exponentials], dtype=torch.float64)
    torch.testing.assert_close(choice.probabilities(), expected, rtol=1e-14, atol=0)


def test_softmax_weights_are_the_probabilities_by_name():
    choice = choice_with([0.3, -1.0, 2.0])
    weights = choice.relaxation.weights(choice)
    assert list(weights) == ["c0", "c1", "c2"]
    assert all(weight.shape == () for weight in weights.values())
    assert torch.equal(torch.stack(list(weights.values())), choice.probabilities())


@pytest.mark.parametrize("alpha", [[0.0, 0.0], [0.3, -1.0, 2.0], [5.0, -5.0, 0.1, 0.0, 1.0]])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_log_probabilities_equal_the_direct_formula(alpha, temperature):
    choice = choice_with(alpha, temperature=temperature)
    p = choice.probabilities()
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_p, p.log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_rest, (1 - p).log(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities_of_saturated_alphas(dtype):
    choice = choice_with([200.0, -200.0, 0.0], dtype=dtype)
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_p, torch.tensor([0.0, -400.0, -200.0], dtype=dtype))
    torch.testing.assert_close(log_rest, torch.tensor([-200.0, 0.0, 0.0], dtype=dtype))


@given(alphas)
def test_log_probabilities_and_their_gradients_are_finite(alpha):
    choice = choice_with(alpha)
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    assert log_p.isfinite().all()
    assert log_rest.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0)
    torch.testing.assert_close(log_p.exp() + log_rest.exp(), torch.ones_like(log_p))
    (gradient,) = torch.autograd.grad((log_p + log_rest).sum(), choice.alpha)
    assert gradient.isfinite().all()


@given(st.floats(-200, 200))
def test_of_two_candidates_each_is_the_rest_of_the_other(difference):
    choice = choice_with([difference, 0.0])
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_rest, log_p.flip(0), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": -1.0}, {"tau": 2.0}])
def test_softmax_refuses_bad_options(fields):
    with pytest.raises(ValidationError):
        Softmax(**fields)


class Forbidden(nn.Module):
    def forward(self, x):
        pytest.fail("a candidate that was not chosen ran")


def test_one_hot_runs_only_the_chosen_candidate():
    candidates = {"a": Forbidden(), "b": nn.Identity(), "c": Forbidden()}
    choice = Choice("label", candidates, OneHot({"label": "b", "other": "a"}))
    x = torch.randn(2, 3)
    assert torch.equal(choice(x), x)
    assert torch.equal(choice.probabilities(), torch.tensor([0.0, 1.0, 0.0]))


def test_one_hot_runs_only_the_chosen_candidate_of_nested_forks():
    inner = Choice("inner", {"a": nn.Identity(), "b": Forbidden()}, OneHot({}))
    outer = Choice("outer", {"a": inner, "b": Forbidden()}, OneHot({}))
    inner.relaxation = outer.relaxation = OneHot({"outer": "a", "inner": "a"})
    assert torch.equal(outer(torch.ones(2)), torch.ones(2))


def test_one_hot_gives_a_fork_that_is_not_reached_no_probability():
    choice = Choice("label", {"a": nn.Identity(), "b": nn.Identity()}, OneHot({}))
    assert torch.equal(choice.probabilities(), torch.zeros(2))
