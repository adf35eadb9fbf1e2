"""Choice, mixtures, and which parameters belong to whom."""

import pytest
import torch
from architecture.toy_spaces import NESTED, FirstIsFork, architectures

from manas.architecture.choice import (
    architecture_parameters,
    choices_of,
    mixture,
    relaxed_by,
    weight_parameters,
)
from manas.architecture.decide import Relaxed
from manas.architecture.weighting import OneHot
from manas.relaxations.softmax import Softmax


def test_choice_mixes_by_its_softmax(candidates):
    choice = Relaxed(Softmax())("label", candidates)
    with torch.no_grad():
        choice.alpha.copy_(torch.tensor([0.5, -1.0, 2.0]))
    weights = torch.tensor([0.5, -1.0, 2.0]).exp() / torch.tensor([0.5, -1.0, 2.0]).exp().sum()
    x = torch.randn(2, 3)
    torch.testing.assert_close(choice(x), (weights * torch.tensor([1.0, 2.0, 3.0])).sum() * x)
    torch.testing.assert_close(choice.probabilities(), weights)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 4, 5)],
        [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)],
        [(1, 1, 1, 1), (1, 1, 1, 1)],
        [(2, 3, 1, 1), (2, 1, 4, 5)],  # neither has the shape of the sum
        [(1, 1, 1, 1), (2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 1, 1)],
        [(2, 2, 1), (2, 2, 7)],  # stitch matrices
    ],
)
def test_mixture_of_tensors_broadcasts(shapes):
    outputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    weights = torch.randn(len(shapes), dtype=torch.float64, requires_grad=True)
    mixed = mixture(list(zip(weights.unbind(), outputs, strict=True)))
    plain = sum(w * y for w, y in zip(weights, outputs, strict=True))
    assert mixed.shape == torch.broadcast_shapes(*shapes)
    torch.testing.assert_close(mixed, plain, rtol=1e-14, atol=1e-14)
    ours, theirs = (torch.autograd.grad(y.square().sum(), weights, retain_graph=True) for y in (mixed, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_mixture_of_lists_goes_place_by_place():
    outputs = [[torch.randn(2, 3), torch.randn(4)] for _ in range(3)]
    weights = torch.randn(3)
    mixed = mixture(list(zip(weights, outputs, strict=True)))
    assert isinstance(mixed, list)
    for place, tensor in enumerate(mixed):
        expected = sum(w * output[place] for w, output in zip(weights, outputs, strict=True))
        torch.testing.assert_close(tensor, expected)


def test_mixture_of_lists_of_different_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        mixture([(torch.ones(()), [torch.ones(1)]), (torch.ones(()), [torch.ones(1), torch.ones(1)])])


def test_mixture_leaves_what_it_was_given():
    outputs = [torch.ones(2, 2), torch.ones(2, 2)]
    mixture([(torch.tensor(2.0), outputs[0]), (torch.tensor(3.0), outputs[1])])
    assert all(torch.equal(output, torch.ones(2, 2)) for output in outputs)


@pytest.mark.parametrize("fails", [False, True])
def test_relaxed_by_restores_each_choice_its_own(fails):
    supernet = NESTED.supernet()
    own = [Softmax(temperature=1 + n) for n, _ in enumerate(choices_of(supernet))]
    for choice, relaxation in zip(choices_of(supernet), own, strict=True):
        choice.relaxation = relaxation
    other = OneHot({})
    try:
        with relaxed_by(supernet, other):
            assert all(choice.relaxation is other for choice in choices_of(supernet))
            if fails:
                raise InterruptedError
    except InterruptedError:
        assert fails
    assert all(c.relaxation is r for c, r in zip(choices_of(supernet), own, strict=True))


@pytest.mark.parametrize("which", ["nested", "fork at the root", "two towers"])
def test_weights_and_alphas_are_disjoint_and_complete(which, small_network):
    searched = small_network.model_copy(update={"stitch": "searched", "fusion": "searched"})
    space = {"nested": NESTED, "fork at the root": FirstIsFork(), "two towers": searched}[which]
    supernet = space.supernet()
    weights, alphas = weight_parameters(supernet), architecture_parameters(supernet)
    ids = [id(parameter) for parameter in [*weights, *alphas]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(parameter) for parameter in supernet.parameters()}
    named = {name for name, parameter in supernet.named_parameters() if name.endswith("alpha")}
    assert len(alphas) == len(named) == len(space.choices())
    assert sum(alpha.numel() for alpha in alphas) == sum(map(len, space.choices().values()))


def test_a_derived_network_has_no_alphas():
    for choices in architectures(NESTED.root):
        network = NESTED.network(choices)
        assert architecture_parameters(network) == []
        assert len(weight_parameters(network)) == len(list(network.parameters()))
