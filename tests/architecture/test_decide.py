"""The answers to `decide`: what each builds, remembers and refuses."""

import pytest
import torch
from architecture.toy_spaces import NESTED, Times
from torch import nn

from manas.architecture.choice import Choice
from manas.architecture.decide import Fixed, Recorded, Relaxed, Replayed, prefixed
from manas.architecture.forks import nodes_of, zeros_of
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax


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
    genotype = Genotype.sample(space, seed=0)
    space.choices()
    space.size()
    space.check(genotype.choices)
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(devices) == {"meta"}


def test_prefixed_labels(candidates):
    decide = Recorded()
    prefixed(prefixed(decide, "outer"), "inner")("label", candidates)
    assert [fork.label for fork in decide.forks] == ["outer/inner/label"]


def test_a_node_is_kept_with_the_fork_and_prefixed_as_labels_are(candidates):
    decide = Recorded()
    inner = prefixed(prefixed(decide, "outer"), "inner")
    inner("sum/left", candidates, node="sum")
    inner("alone", candidates)
    assert [(fork.label, fork.node) for fork in decide.forks] == [
        ("outer/inner/sum/left", "outer/inner/sum"),
        ("outer/inner/alone", None),
    ]


@pytest.mark.parametrize(
    "answer", [Relaxed(Softmax()), Fixed({"t/a": "one"}), Replayed(lambda label, names: names[0])]
)
def test_a_node_changes_no_other_answer(answer, candidates):
    assert isinstance(prefixed(answer, "t")("a", candidates, node="sum"), Times | Choice)


def test_a_zero_is_kept_with_the_fork_and_with_the_choice(candidates):
    decide = Recorded()
    inner = prefixed(decide, "outer")
    inner("a", {"deep": lambda: inner("a/deep", candidates, zero="two"), "one": candidates["one"]}, zero="one")
    inner("b", candidates)
    assert [fork.zero for fork in decide.forks] == ["one", None]
    assert zeros_of(decide.forks) == {"outer/a": "one", "outer/a/deep": "two"}
    relaxed = prefixed(Relaxed(Softmax()), "outer")
    assert [relaxed("a", candidates, zero="two").zero, relaxed("b", candidates).zero] == ["two", None]


def test_a_zero_is_one_of_the_candidates(candidates):
    with pytest.raises(ManasError, match=r"fork 'label' has no candidate 'tow' to be its zero; .*two"):
        Recorded()("label", candidates, zero="tow")


def test_a_name_makes_no_zero():
    decide = Recorded()
    decide("label", dict.fromkeys(("none", "zero"), nn.Identity))
    assert zeros_of(decide.forks) == {}
    assert Relaxed(Softmax())("label", dict.fromkeys(("none", "zero"), nn.Identity)).zero is None


class Summed(SearchSpace):
    """A node with two inputs, as they were written when a candidate was zero by its name."""

    zeros: tuple[str | None, str | None] = (None, None)

    def build(self, decide):
        candidates = dict.fromkeys(("none", "conv"), nn.Identity)
        return nn.ModuleList(
            decide(label, candidates, node="sum", zero=zero)
            for label, zero in zip(("a", "b"), self.zeros, strict=True)
        )


def test_a_node_none_of_whose_inputs_can_be_zero_is_refused():
    for reads in (Summed().choices, Summed().size, Summed().supernet):
        with pytest.raises(ManasError, match=r"no input of the node 'sum' can be zero.*decide\(\.\.\., zero="):
            reads()
    assert zeros_of(Summed(zeros=("none", None)).forks()) == {"a": "none"}


def test_nodes_of_a_tree_have_their_inputs_in_the_order_of_the_program(candidates):
    decide = Recorded()
    decide("a/x", {"deep": lambda: decide("a/deep", candidates, node="a")}, node="a")
    decide("b/x", candidates, node="b")
    decide("free", candidates)
    decide("a/y", candidates, node="a")
    assert nodes_of(decide.forks) == {"a": ("a/x", "a/deep", "a/y"), "b": ("b/x",)}
