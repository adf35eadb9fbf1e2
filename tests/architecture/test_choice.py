"""Choice, the four answers to `decide`, mixtures, and which parameters belong to whom."""

from functools import partial

import pytest
import torch
from torch import nn
from toy_spaces import NESTED, FirstIsFork, architectures

from manas.architecture.choice import (
    Choice,
    Fixed,
    Recorded,
    Relaxed,
    Replayed,
    architecture_parameters,
    choices_of,
    mixture,
    prefixed,
    relaxed_by,
    weight_parameters,
)
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax


class Times(nn.Module):
    """x -> factor x; remembers that it was built."""

    built: list[float] = []

    def __init__(self, factor):
        super().__init__()
        self.built.append(factor)
        self.factor = factor

    def forward(self, x):
        return self.factor * x


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.setattr(Times, "built", [])
    return {"one": partial(Times, 1.0), "two": partial(Times, 2.0), "three": partial(Times, 3.0)}


def test_relaxed_builds_every_candidate_into_a_choice(candidates):
    relaxation = Softmax()
    choice = Relaxed(relaxation)("a/label", candidates)
    assert isinstance(choice, Choice)
    assert choice.label == "a/label"
    assert choice.names == ("one", "two", "three")
    assert choice.relaxation is relaxation
    assert choice.alpha.shape == (3,)
    assert choice.alpha.requires_grad
    assert 0 < choice.alpha.abs().max() < 0.01  # almost uniform, ties broken
    assert Times.built == [1.0, 2.0, 3.0]


def test_choice_mixes_by_its_softmax(candidates):
    choice = Relaxed(Softmax())("label", candidates)
    with torch.no_grad():
        choice.alpha.copy_(torch.tensor([0.5, -1.0, 2.0]))
    weights = torch.tensor([0.5, -1.0, 2.0]).exp() / torch.tensor([0.5, -1.0, 2.0]).exp().sum()
    x = torch.randn(2, 3)
    torch.testing.assert_close(choice(x), (weights * torch.tensor([1.0, 2.0, 3.0])).sum() * x)
    torch.testing.assert_close(choice.probabilities(), weights)


def test_fixed_builds_the_chosen_candidate_alone(candidates):
    decide = Fixed({"label": "two"})
    module = decide("label", candidates)
    assert isinstance(module, Times)
    assert Times.built == [2.0]
    assert decide.choices == {"label": "two"}
    decide.require_all_used()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, r"no choice for 'label'.*one, two, three"),
        ({"label": "tow"}, r"'label' has no candidate 'tow'; did you mean 'two'\?"),
        ({"label": "xyzzy"}, r"'label' has no candidate 'xyzzy'; valid: one, two, three"),
        ({"label": "two", "labell": "one"}, r"no fork 'labell' is reached.*did you mean 'label'\?"),
    ],
)
def test_fixed_refuses_choices_that_do_not_fit(candidates, choices, message):
    decide = Fixed(choices)

    def derive():
        decide("label", candidates)
        decide.require_all_used()

    with pytest.raises(ManasError, match=message):
        derive()


def test_replayed_follows_and_remembers_one_path():
    asked = []

    def last(label, names):
        asked.append((label, names))
        return names[-1]

    decide = Replayed(last)
    NESTED.build(decide)
    assert decide.choices == {
        "fork0": "c1",
        "fork0/c1/fork0": "c1",
        "fork0/c1/fork1": "c1",
        "fork0/c1/fork1/c1/fork0": "c1",
        "fork1": "c2",
    }
    assert list(decide.choices) == [label for label, _ in asked]
    assert dict(asked)["fork1"] == ("c0", "c1", "c2")


def test_recorded_keeps_what_stands_inside_what():
    recorded = Recorded()
    NESTED.build(recorded)
    assert [fork.label for fork in recorded.forks] == ["fork0", "fork1"]
    first = recorded.forks[0]
    assert first.names == ("c0", "c1")
    assert first.inside["c0"] == []
    assert [fork.label for fork in first.inside["c1"]] == ["fork0/c1/fork0", "fork0/c1/fork1"]
    deepest = first.inside["c1"][1].inside["c1"]
    assert [(fork.label, fork.names) for fork in deepest] == [("fork0/c1/fork1/c1/fork0", ("c0", "c1"))]


def test_recorded_refuses_a_label_that_was_asked_before(candidates):
    decide = Recorded()
    decide("label", candidates)
    with pytest.raises(ManasError, match="'label' twice"):
        decide("label", candidates)


def test_recorded_refuses_the_label_of_the_fork_around_it(candidates):
    decide = Recorded()
    with pytest.raises(ManasError, match="'label' twice"):
        decide("label", {"inner": lambda: decide("label", candidates)})


def test_recorded_refuses_a_fork_without_candidates():
    with pytest.raises(ManasError, match="'label' has no candidates"):
        Recorded()("label", {})


@pytest.mark.parametrize("name", ["type", "keys", "half", "Upper", "with.dot", "with-dash", ""])
def test_recorded_refuses_names_that_no_module_can_have(candidates, name):
    with pytest.raises(ManasError, match="label"):
        Recorded()("label", {"fine": candidates["one"], name: candidates["two"]})


def test_looking_at_a_space_allocates_nothing_and_draws_nothing():
    devices = []

    class Looked(SearchSpace):
        def build(self, decide):
            def candidate():
                layer = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
                devices.extend(tensor.device.type for tensor in layer.state_dict().values())
                return layer

            return nn.Sequential(decide("a", {"x": candidate, "y": candidate}), candidate())

    space = Looked()
    before = torch.random.get_rng_state()
    genotype = space.sample(seed=0)
    space.choices()
    space.size()
    space.check(genotype.choices)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(devices) == {"meta"}


def test_prefixed_labels(candidates):
    decide = Recorded()
    prefixed(prefixed(decide, "outer"), "inner")("label", candidates)
    assert [fork.label for fork in decide.forks] == ["outer/inner/label"]


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
