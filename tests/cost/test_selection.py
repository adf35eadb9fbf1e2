"""From probabilities to a genotype: the most probable path on which no node loses its last input."""

import itertools
import random
from functools import partial
from typing import Literal

import pytest
import torch
from architecture.toy_spaces import NESTED, architectures, node_in, trees
from cost.tables import random_probabilities, regret, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training.tiny_runs import tower

from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.cost.selection import Allowance, argmax, starved_nodes
from manas.errors import ManasError
from manas.restoration.network import RestorationSpace


class Nodes(SearchSpace):
    """Forks of given labels, each between `none` and others; a fork may stand inside the candidate `deep`."""

    labels: tuple[str, ...]
    names: tuple[str, ...] = ("none", "a", "b")
    inside: Literal["", "node1"] = ""

    def build(self, decide):
        def deep(label):
            inner = f"{label}/inner/node0"
            candidates = dict.fromkeys(("none", "c"), nn.Identity)
            return decide(f"{inner}/input", candidates, node=inner, zero="none")

        candidates = dict.fromkeys(self.names, nn.Identity)
        return nn.ModuleList(
            decide(
                label,
                candidates | ({"deep": partial(deep, label)} if self.inside in label.split("/") else {}),
                node=node_in(label),
                zero="none" if "none" in self.names else None,
            )
            for label in self.labels
        )


def probabilities(**by_label):
    """Label (with __ for /) -> candidate -> probability."""
    return {label.replace("__", "/"): given for label, given in by_label.items()}


def test_the_most_probable_of_every_fork():
    space = Nodes(labels=("column0", "column1"), names=("a", "b"))
    chosen = argmax(space, probabilities(column0={"a": 0.6, "b": 0.4}, column1={"a": 0.3, "b": 0.7}))
    assert chosen == {"column0": "a", "column1": "b"}


def test_a_node_keeps_its_best_input():
    space = Nodes(labels=("node0/input", "node1/input", "node1/node0"))
    given = {
        "node0/input": {"none": 0.1, "a": 0.5, "b": 0.4},
        "node1/input": {"none": 0.8, "a": 0.15, "b": 0.05},
        "node1/node0": {"none": 0.7, "a": 0.1, "b": 0.2},
    }
    assert argmax(space, given) == {"node0/input": "a", "node1/input": "none", "node1/node0": "b"}


def test_a_node_with_one_input_left_may_lose_the_other():
    space = Nodes(labels=("node1/input", "node1/node0"))
    given = {"node1/input": {"none": 0.8, "a": 0.2, "b": 0}, "node1/node0": {"none": 0.1, "a": 0.6, "b": 0.3}}
    assert argmax(space, given) == {"node1/input": "none", "node1/node0": "a"}


def test_nodes_of_other_branches_are_other_nodes():
    labels = tuple(f"cell0/branch{b}/node0/input" for b in range(3))
    given = {label: {"none": 0.9, "a": 0.04, "b": 0.06} for label in labels}
    assert argmax(Nodes(labels=labels), given) == dict.fromkeys(labels, "b")


def test_none_elsewhere_is_an_answer_like_others():
    space = Nodes(labels=("stitch/stage0", "fusion", "nodes/input", "mynode0/input"))
    given = {label: {"none": 0.9, "a": 0.05, "b": 0.05} for label in space.labels}
    assert set(argmax(space, given).values()) == {"none"}


def test_a_label_alone_makes_no_node():
    """A space says what a fork feeds; how it calls its forks is its own affair."""

    class Unsaid(Nodes):
        def build(self, decide):
            candidates = dict.fromkeys(self.names, nn.Identity)
            return nn.ModuleList(decide(label, candidates, zero="none") for label in self.labels)

    labels = ("node0/input", "node1/input")
    given = {label: {"none": 0.9, "a": 0.04, "b": 0.06} for label in labels}
    assert argmax(Unsaid(labels=labels), given) == dict.fromkeys(labels, "none")
    assert argmax(Nodes(labels=labels), given) == dict.fromkeys(labels, "b")


def test_nodes_may_be_called_anything():
    class Sums(Nodes):
        def build(self, decide):
            candidates = dict.fromkeys(self.names, nn.Identity)
            return nn.ModuleList(decide(label, candidates, node=label[0], zero="none") for label in self.labels)

    space = Sums(labels=("ax", "ay", "bx"))
    given = {label: {"none": 0.9, "a": 0.04, "b": 0.06} for label in space.labels}
    given["ay"] = {"none": 0.8, "a": 0.15, "b": 0.05}
    chosen = argmax(space, given)
    assert chosen == {"ax": "none", "ay": "a", "bx": "b"}
    assert starved_nodes(space.forks(), chosen) == []
    assert starved_nodes(space.forks(), dict.fromkeys(chosen, "none")) == [["ax", "ay"], ["bx"]]
    assert starved_nodes(space.forks(), {"ax": "none", "bx": "a"}) == [["ax"]]
    assert starved_nodes(space.forks(), {}) == []


def test_a_space_of_none_alone_is_no_endless_search():
    space = Nodes(labels=("node0/input",), names=("none",))
    assert argmax(space, {"node0/input": {"none": 1.0}}) == {"node0/input": "none"}


def test_forks_that_are_not_reached_have_no_say():
    space = Nodes(labels=("node0/input", "node1/input"), inside="node1")
    given = {
        "node0/input": {"none": 0.2, "a": 0.8, "b": 0},
        "node1/input": {"none": 0.1, "a": 0.5, "b": 0.2, "deep": 0.2},
        "node1/input/inner/node0/input": {"none": 0.9, "c": 0.1},
    }
    assert argmax(space, given) == {"node0/input": "a", "node1/input": "a"}
    given["node1/input"]["deep"] = 0.6
    given["node1/input/inner/node0/input"] = {"none": 0.52, "c": 0.48}
    chosen = argmax(space, given)
    assert chosen == {"node0/input": "a", "node1/input": "deep", "node1/input/inner/node0/input": "c"}
    # To feed the inner node would lose more than to leave it.
    given["node1/input/inner/node0/input"] = {"none": 0.9, "c": 0.1}
    assert argmax(space, given) == {"node0/input": "a", "node1/input": "a"}


def test_ties_are_broken_by_order():
    space = Nodes(labels=("column0",), names=("a", "b"))
    assert argmax(space, {"column0": {"b": 0.5, "a": 0.5}}) in ({"column0": "a"}, {"column0": "b"})
    again = {tuple(argmax(space, {"column0": {"a": 0.5, "b": 0.5}}).items()) for _ in range(5)}
    assert again == {(("column0", "a"),)}


WHOLE = RestorationSpace(towers={"derain": tower(), "desnow": tower()}, stitch="searched", fusion="searched")


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), bias=st.floats(0, 8))
def test_no_node_is_ever_starved(seed, bias):
    """Also where `none` is most probable nearly everywhere; and the rest is the argmax."""
    generator = torch.Generator().manual_seed(seed)
    given = {}
    for label, names in WHOLE.choices().items():
        logits = torch.randn(len(names), generator=generator)
        logits += torch.tensor([bias if name == "none" else 0.0 for name in names])
        given[label] = dict(zip(names, logits.softmax(0).tolist(), strict=True))
    chosen = argmax(WHOLE, given)
    WHOLE.check(chosen)
    best = {label: max(given[label], key=given[label].get) for label in chosen}
    nodes = {}
    for label in chosen:
        if "/node" in label:
            nodes.setdefault(label.rpartition("/")[0], []).append(label)
        else:
            assert chosen[label] == best[label]
    assert nodes
    for labels in nodes.values():
        assert any(chosen[label] != "none" for label in labels)
        changed = [label for label in labels if chosen[label] != best[label]]
        starved = all(best[label] == "none" for label in labels)
        assert len(changed) == starved
        if starved:
            losses = {
                (given[lab]["none"] / p, lab, k) for lab in labels for k, p in given[lab].items() if k != "none"
            }
            assert min(losses)[1:] == (changed[0], chosen[changed[0]])


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_the_genotype_of_one_hot_alphas_says(seed):
    genotype = Genotype.sample(WHOLE, seed=seed)
    given = {
        label: {name: float(genotype.choices[label] == name) for name in names}
        for label, names in WHOLE.choices().items()
    }
    chosen = argmax(WHOLE, given)
    assert {label for label in chosen if chosen[label] != genotype.choices[label]} <= {
        label for label, name in genotype.choices.items() if name == "none"
    }


class TestAllowance:
    """The most probable path that keeps to a budget; the nodes keep their inputs all the same."""

    @settings(max_examples=40)
    @given(
        space=st.one_of(st.just(NESTED), trees(60).filter(lambda space: space.root.forks)),
        seed=st.integers(0, 10**6),
        share=st.floats(0, 1),
        spend=st.sampled_from([0.0, 0.9]),
    )
    def test_the_closest_to_the_argmax_of_all(self, space, seed, share, spend):
        rng = random.Random(seed)
        table = table_of(space, lambda *_: rng.randrange(40), 10)
        given = random_probabilities(space, rng)
        limit = round(table.cheapest() + share * (table.dearest() - table.cheapest()))
        chosen = argmax(space, given, Allowance(table, limit, spend))
        space.check(chosen)
        below = [a for a in architectures(space.root) if table.exact(a) <= limit]
        window = [a for a in below if table.exact(a) >= spend * limit]
        dearest = max(map(table.exact, below))
        allowed = window or [a for a in below if table.exact(a) == dearest]
        assert table.exact(chosen) in map(table.exact, allowed)
        assert regret(chosen, given) == pytest.approx(min(regret(a, given) for a in allowed), abs=1e-9)

    def test_where_the_argmax_fits_it_is_the_argmax(self):
        space = Nodes(labels=("column0", "column1"))
        table = table_of(space, lambda label, name: {"none": 0, "a": 10, "b": 95}[name])
        given = {label: {"none": 0.1, "a": 0.2, "b": 0.7} for label in space.labels}
        assert argmax(space, given, Allowance(table, 200, 0.9)) == dict.fromkeys(space.labels, "b")
        assert argmax(space, given, Allowance(table, 190, 1.0)) == dict.fromkeys(space.labels, "b")
        assert sorted(argmax(space, given, Allowance(table, 189, 0.0)).values()) == ["a", "b"]

    def test_what_is_spared_beyond_need_is_spent(self):
        """The argmax is cheap: under an allowance most of it is to be used."""
        space = Nodes(labels=("column0", "column1"))
        table = table_of(space, lambda label, name: {"none": 0, "a": 10, "b": 50}[name])
        given = {"column0": {"none": 0.8, "a": 0.1, "b": 0.1}, "column1": {"none": 0.5, "a": 0.2, "b": 0.3}}
        assert argmax(space, given, Allowance(table, 55, 0.0)) == dict.fromkeys(space.labels, "none")
        assert argmax(space, given, Allowance(table, 55, 0.9)) == {"column0": "none", "column1": "b"}

    def test_a_node_keeps_an_input_within_the_budget(self):
        space = Nodes(labels=("node0/input", "node1/input", "node1/node0"))
        costs = {"none": 0, "a": 10, "b": 30}
        table = table_of(space, lambda label, name: costs[name])
        given = {label: {"none": 0.7, "a": 0.1, "b": 0.2} for label in space.labels}
        assert sorted(argmax(space, given, Allowance(table, 60, 0.0)).values()) == ["b", "b", "none"]
        assert sorted(argmax(space, given, Allowance(table, 59, 0.0)).values()) == ["a", "b", "none"]
        assert sorted(argmax(space, given, Allowance(table, 20, 0.0)).values()) == ["a", "a", "none"]

    def made_up(self, seed):
        """A space with nodes, costs, probabilities, the architectures without starved nodes, and a limit."""
        rng = random.Random(seed)
        space = Nodes(labels=("node0/input", "node1/input", "node1/node0", "column0"))
        table = table_of(space, lambda label, name: 0 if name == "none" else rng.randrange(1, 40), 5)
        every = (
            dict(zip(space.labels, names, strict=True))
            for names in itertools.product(space.names, repeat=len(space.labels))
        )
        whole = [choices for choices in every if not starved_nodes(space.forks(), choices)]
        costs = sorted(map(table.exact, whole))
        return space, table, random_probabilities(space, rng), whole, rng.choice(costs)

    def test_never_starved_and_never_above(self):
        found = 0
        for seed in range(60):
            space, table, given, whole, limit = self.made_up(seed)
            try:
                chosen = argmax(space, given, Allowance(table, limit, 0.9))
            except ManasError:
                continue  # see test_what_some_architecture_keeps_to_is_met
            found += 1
            assert chosen in whole, seed
            assert table.exact(chosen) <= limit, seed
        assert found > 30

    def test_what_some_architecture_keeps_to_is_met(self):
        for seed in range(200):
            space, table, given, whole, limit = self.made_up(seed)
            chosen = argmax(space, given, Allowance(table, limit, 0.9))
            window = [a for a in whole if 0.9 * limit <= table.exact(a) <= limit]  # `limit` is in it
            assert chosen in window, seed
            least = min(regret(a, given) for a in window)
            assert regret(chosen, given) == pytest.approx(least, abs=1e-9), seed

    def test_the_input_that_a_node_keeps_is_one_that_fits(self):
        space = Nodes(labels=("node1/input", "node1/node0"), names=("none", "a"))
        costs = {"node1/input": 50, "node1/node0": 10}
        table = table_of(space, lambda label, name: 0 if name == "none" else costs[label])
        given = {"node1/input": {"none": 0.6, "a": 0.4}, "node1/node0": {"none": 0.9, "a": 0.1}}
        assert argmax(space, given, Allowance(table, 60, 0.0)) == {"node1/input": "a", "node1/node0": "none"}
        assert argmax(space, given, Allowance(table, 20, 0.0)) == {"node1/input": "none", "node1/node0": "a"}

    def test_a_budget_that_cannot_be_met(self):
        space = Nodes(labels=("column0",), names=("a", "b"))
        table = table_of(space, lambda label, name: {"a": 2e6, "b": 3e6}[name])
        given = {"column0": {"a": 0.5, "b": 0.5}}
        with pytest.raises(
            ManasError, match=r"budget: no architecture of the space keeps to 1\.5e\+06; raise it"
        ):
            argmax(space, given, Allowance(table, 1.5e6, 0.9))
        space = Nodes(labels=("node0/input",), names=("none", "a"))
        allowance = Allowance(table_of(space, lambda label, name: 10 * (name == "a")), 5, 0.0)
        with pytest.raises(ManasError, match="keeps to 5; raise it"):  # of all, `none` alone would
            argmax(space, {"node0/input": {"none": 0.9, "a": 0.1}}, allowance)
