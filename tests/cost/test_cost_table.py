"""Invariant 2: expected cost at one-hot = cost of the genotype = cost of the derived network = thop's count."""

import functools
import json
from dataclasses import replace

import pytest
import torch
from architecture.toy_spaces import NESTED, FirstIsFork, Plain, architectures, trees
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from manas.architecture.choice import choices_of
from manas.architecture.finding import load_space, presets
from manas.architecture.forks import nodes_of, zeros_of
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.cost.counting import cost_table, measure, thop_macs
from manas.cost.table import CostTable, ForkCost
from manas.errors import ManasError
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive

METRICS = ["parameters", "macs"]
SHAPE = (3, 16, 24)


def spaces():
    gates = {"gates": ["none", "sep_conv_3x3", "cbam"]}
    small = MultiScaleAttentive(channels=(8, 12), columns=(1,), attention=gates)
    unshuffled = MultiScaleAttentive(channels=(8, 12), columns=(1,), attention=gates, shuffle=2)
    towers = {"derain": small, "desnow": small}
    return {
        **{preset: load_space(preset) for preset in sorted(presets())},
        "the image unshuffled": unshuffled,
        "drn unshuffled": DualRecursive(shuffle=4),
        "nested": NESTED,
        "fork at the root": FirstIsFork(),
        "no forks": Plain(),
        "stitches and fusion searched": RestorationSpace(towers=towers, stitch="searched", fusion="searched"),
    }


SPACES = spaces()


@functools.cache
def table_of(name, metric):
    return cost_table(SPACES[name], metric, SHAPE)


def one_hot(table, choices):
    """(K,) float64 probabilities of every fork of a table; zeros where the architecture does not come."""
    return {
        label: torch.tensor([float(choices.get(label) == name) for name in fork.names], dtype=torch.float64)
        for label, fork in table.forks.items()
    }


def derived(space, choices):
    with torch.device("meta"):
        return space.network(choices)


def random_probabilities(table, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        label: torch.rand(len(fork.names), generator=generator, dtype=torch.float64)
        for label, fork in table.forks.items()
    }
    return {label: p / p.sum() for label, p in drawn.items()}


def probability(choices, table, probabilities):
    """Of one architecture, when every fork is decided independently."""
    product = 1.0
    for label, name in choices.items():
        product *= probabilities[label][table.forks[label].names.index(name)].item()
    return product


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", SPACES)
def test_expected_at_one_hot_exact_and_measured_agree(name, metric):
    space, table = SPACES[name], table_of(name, metric)
    assert table.dearest() > 0
    for seed in range(1 if len(table.forks) > 10 else 3):
        choices = Genotype.sample(space, seed).choices
        measured = measure(derived(space, choices), metric, SHAPE)
        assert table.exact(choices) == measured
        assert table.expected(one_hot(table, choices)).item() == measured


@pytest.mark.parametrize("name", ["manas_tiny", "nested"])
def test_expected_with_the_probabilities_of_a_one_hot_supernet(name):
    space, table = SPACES[name], table_of(name, "macs")
    choices = Genotype.sample(space, seed=2).choices
    supernet = space.supernet(OneHot(choices))
    probabilities = {choice.label: choice.probabilities() for choice in choices_of(supernet)}
    assert table.expected(probabilities).item() == pytest.approx(table.exact(choices), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("manas_tiny", 2),
        ("manas_small", 1),
        ("manas", 1),
        ("plain", 1),
        ("the image unshuffled", 2),
        ("drn unshuffled", 1),
        ("nested", 3),
        ("stitches and fusion searched", 1),
    ],
)
def test_thop_agrees(name, seeds):
    space, table = SPACES[name], table_of(name, "macs")
    for seed in range(seeds):
        genotype = Genotype.sample(space, seed)
        assert thop_macs(genotype.network(), SHAPE) == table.exact(genotype.choices)


def test_thop_leaves_the_network_as_it_was():
    network = Genotype.sample(NESTED, seed=0).network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    thop_macs(network, SHAPE)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert network.training


def test_measuring_leaves_the_network_as_it_was():
    network = Genotype.sample(NESTED, seed=0).network()
    measure(network, "macs", SHAPE)
    assert network.training
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_counts_by_hand():
    assert measure(Plain().network(), "parameters") == (27 * 4 + 4) + (4 * 3 + 3)
    assert measure(Plain().network(), "macs", (3, 5, 7)) == 5 * 7 * (27 * 4 + 4 * 3)


def test_a_supernet_costs_all_its_candidates_without_alphas():
    supernet = FirstIsFork().supernet()
    assert measure(supernet, "parameters") == (9 + 3) + (81 + 3)
    assert measure(supernet, "macs", (3, 5, 7)) == 5 * 7 * (9 + 81)


def test_expected_is_the_mean_over_all_architectures_of_a_deeply_nested_space():
    table = cost_table(NESTED, "parameters", SHAPE)
    probabilities = random_probabilities(table, seed=5)
    weights = [probability(choices, table, probabilities) for choices in architectures(NESTED.root)]
    costs = [measure(derived(NESTED, choices), "parameters") for choices in architectures(NESTED.root)]
    assert sum(weights) == pytest.approx(1, rel=1e-12)
    mean = sum(w * cost for w, cost in zip(weights, costs, strict=True))
    assert table.expected(probabilities).item() == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=12)
@given(space=trees(max_architectures=12).filter(lambda tree: tree.root.forks), seed=st.integers(0, 1000))
def test_expected_is_the_mean_over_all_architectures(metric, space, seed):
    shape = (3, 5, 7)
    table = cost_table(space, metric, shape)
    probabilities = random_probabilities(table, seed)
    mean = sum(
        probability(choices, table, probabilities) * measure(derived(space, choices), metric, shape)
        for choices in architectures(space.root)
    )
    assert float(table.expected(probabilities)) == pytest.approx(mean, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=12)
@given(space=trees(max_architectures=12))
def test_cheapest_and_dearest_are_those_of_the_enumeration(metric, space):
    shape = (3, 5, 7)
    table = cost_table(space, metric, shape)
    costs = [measure(derived(space, choices), metric, shape) for choices in architectures(space.root)]
    assert table.cheapest() == min(costs)
    assert table.dearest() == max(costs)


def mentions(table, draw):
    """Partial choices at any forks, also at such as the other choices leave unreached."""
    labels = draw(st.lists(st.sampled_from(sorted(table.forks)), unique=True)) if table.forks else []
    return {label: draw(st.sampled_from(table.forks[label].names)) for label in labels}


@settings(max_examples=60)
@given(space=trees(max_architectures=40), data=st.data())
def test_cheapest_and_dearest_that_complete_partial_choices(space, data):
    table = cost_table(space, "parameters", (3, 5, 7))
    partial = mentions(table, data.draw)
    costs = [
        measure(derived(space, choices), "parameters")
        for choices in architectures(space.root)
        if all(partial.get(label, name) == name for label, name in choices.items())
    ]
    assert table.cheapest(partial) == min(costs)
    assert table.dearest(partial) == max(costs)


def test_given_choices_that_are_not_reached_change_nothing():
    table = table_of("nested", "parameters")
    inside = {"fork0/c1/fork1": "c0"}  # its 5x5 is the dearest that there is inside c1
    assert table.dearest({"fork0": "c0", **inside}) == table.dearest({"fork0": "c0"})
    assert table.cheapest({"fork0": "c1", **inside}) > table.cheapest({"fork0": "c1"})
    assert table.cheapest(inside) == table.cheapest()


def test_complete_choices_have_one_cost():
    table = table_of("manas_small", "macs")
    choices = Genotype.sample(SPACES["manas_small"], seed=1).choices
    assert table.cheapest(choices) == table.exact(choices) == table.dearest(choices)


@pytest.mark.parametrize("question", ["exact", "cheapest", "dearest"])
def test_choices_that_the_space_does_not_have(question):
    ask = getattr(table_of("nested", "macs"), question)
    with pytest.raises(ManasError, match="no fork 'fork7'; did you mean"):
        ask({"fork7": "c0"})
    with pytest.raises(ManasError, match="'fork1' has no candidate 'c3'; valid: c0, c1, c2"):
        ask({"fork1": "c3"})


def test_an_exact_cost_needs_every_choice_on_the_way():
    table = table_of("nested", "macs")
    assert table.exact({"fork0": "c0", "fork1": "c1"}) > 0
    with pytest.raises(ManasError, match="no choice for 'fork0/c1/fork0'; add one of: c0, c1"):
        table.exact({"fork0": "c1", "fork1": "c1", "fork0/c1/fork1": "c0"})


def test_the_origin_of_a_count():
    origin = cost_table(Plain(), "macs", (3, 5, 7)).origin
    assert origin == {"metric": "macs", "input": [3, 5, 7]}
    assert table_of("nested", "parameters").to(torch.device("cpu")).origin["metric"] == "parameters"


def test_latency_is_not_counted():
    with pytest.raises(ManasError, match="latency cannot be counted"):
        cost_table(Plain(), "latency")
    with pytest.raises(ManasError, match="latency cannot be counted"):
        measure(Plain().network(), "latency")


def same(table, other):
    """Whether two tables are the same to the last bit, in every type and order."""

    def parts(table):
        forks = [(label, f.names, f.own.dtype, f.own.tolist(), f.inside) for label, f in table.forks.items()]
        said = (dict(table.origin), dict(table.nodes), dict(table.zeros))
        return repr((table.fixed, table.outermost, forks, said))

    return parts(table) == parts(other)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", SPACES)
def test_json_round_trip(name, metric):
    table = table_of(name, metric)
    assert same(CostTable.from_json(table.to_json()), table)


floats = st.floats(allow_nan=False, allow_infinity=False)


@given(fixed=floats, own=st.lists(floats, min_size=1, max_size=4), inner=floats)
def test_json_keeps_every_bit(fixed, own, inner):
    names = tuple(f"c{k}" for k in range(len(own)))
    inside = (("inner",),) + ((),) * (len(own) - 1)
    forks = {
        "inner": ForkCost(("only",), torch.tensor([inner], dtype=torch.float64), ((),)),
        "outer": ForkCost(names, torch.tensor(own, dtype=torch.float64), inside),
    }
    origin = {"metric": "latency", "input": [3, 8, 8], "clock": inner}
    table = CostTable(fixed, ("outer",), forks, origin, {"sum": ("outer", "inner")}, {"inner": "only"})
    assert same(CostTable.from_json(table.to_json()), table)


def test_a_table_knows_what_its_forks_feed():
    space = SPACES["stitches and fusion searched"]
    table = table_of("stitches and fusion searched", "macs")
    assert table.nodes == nodes_of(space.forks())
    node = "desnow/cell0/branch1/node1"
    assert table.nodes[node] == (f"{node}/input", f"{node}/node0")
    assert "stitch/stage0" not in {label for inputs in table.nodes.values() for label in inputs}
    assert table.to(torch.device("cpu")).nodes == table.nodes


def test_a_table_knows_what_is_zero():
    """Gates called `none`, and no stitch of that name."""
    space = SPACES["stitches and fusion searched"]
    table = table_of("stitches and fusion searched", "macs")
    assert table.zeros == zeros_of(space.forks())
    assert table.zeros.keys() == {label for inputs in table.nodes.values() for label in inputs}
    assert set(table.zeros.values()) == {"none"}
    assert "none" in table.forks["stitch/stage0"].names
    assert table.to(torch.device("cpu")).zeros == table.zeros


def test_a_table_of_an_earlier_version_names_neither_nodes_nor_zeros():
    table = table_of("manas_tiny", "parameters")
    text = json.loads(table.to_json())
    assert text.pop("nodes")
    assert text.pop("zeros")
    assert same(CostTable.from_json(json.dumps(text)), replace(table, nodes={}, zeros={}))


def edited(*path, value):
    """The JSON of a table with one entry changed."""
    content = json.loads(table_of("nested", "parameters").to_json())
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        "[]",
        "{}",
        edited("format", value="manas.genotype/1"),
        edited("fixed", value="dear"),
        edited("fixed", value=float("inf")),
        edited("forks", "fork1", "c0", value=[float("nan"), []]),
        edited("forks", "fork1", "c0", value=[1.0]),
        edited("forks", "fork1", value={}),
        edited("forks", "fork2", value={"c0": [1.0, []]}),  # stands nowhere
        edited("outermost", value=["fork0", "fork1", "fork2"]),  # names what is not there
        edited("outermost", value=["fork0"]),  # leaves a fork out
        edited("forks", "fork1", "c0", value=[1.0, ["fork0"]]),  # has a fork in two places
        edited("forks", "fork0", "c0", value=[1.0, ["fork0"]]),  # has a fork inside itself
        edited("nodes", value={"sum": ["fork7"]}),  # has an input that is no fork
        edited("nodes", value={"a": ["fork0"], "b": ["fork0"]}),  # has a fork that enters two sums
        edited("nodes", value=[["fork0"]]),
        edited("zeros", value={"fork7": "c0"}),
        edited("zeros", value={"fork0": "none"}),  # is no candidate
        edited("colour", value="blue"),
    ],
)
def test_text_that_is_no_table(text):
    with pytest.raises(ManasError, match="^here: "):
        CostTable.from_json(text, where="here")


def test_cheapest_and_dearest_of_paper_size():
    table = cost_table(load_space("manas"), "parameters", SHAPE)
    assert table.cheapest() == 4_677_696  # all fusion, all none
    assert table.dearest() == 9_231_520  # all parallel, all sep_conv


def test_macs_of_an_architecture_of_paper_size():
    space = load_space("manas")
    choices = {label: "fusion" if "column" in label else "cbam" for label in space.choices()}
    assert measure(derived(space, choices), "macs", (3, 64, 64)) == 1_305_819_520


def test_the_gradient_of_the_expected_cost():
    table = cost_table(NESTED, "parameters", SHAPE)
    alphas = [torch.randn(len(fork.names), dtype=torch.float64) for fork in table.forks.values()]
    inputs = [alpha.requires_grad_() for alpha in alphas]

    def expected(*alphas):
        softmaxed = [alpha.softmax(0) for alpha in alphas]
        return table.expected(dict(zip(table.forks, softmaxed, strict=True)))

    assert torch.autograd.gradcheck(expected, inputs, eps=1e-4, atol=1e-4)
    assert all(gradient.any() for gradient in torch.autograd.grad(expected(*inputs), inputs))


def test_a_module_that_runs_several_times_costs_each_time():
    class Recursive(SearchSpace):
        def build(self, decide):
            convolutions = {"small": lambda: nn.Conv2d(3, 3, 1), "large": lambda: nn.Conv2d(3, 3, 3, padding=1)}
            shared = decide("shared", convolutions)
            return nn.Sequential(shared, nn.ReLU(), shared)

    table = cost_table(Recursive(), "macs", (3, 5, 7))
    assert table.exact({"shared": "large"}) == 2 * 5 * 7 * 81
    assert measure(Recursive().network({"shared": "large"}), "macs", (3, 5, 7)) == 2 * 5 * 7 * 81


def test_costs_beyond_24_bits_are_exact():
    class Odd(SearchSpace):
        def build(self, decide):
            return nn.Sequential(decide("a", {"x": lambda: nn.Conv2d(3, 33, 5, padding=2)}))

    macs = 97 * 89 * 3 * 33 * 25
    assert macs > 2**24
    table = cost_table(Odd(), "macs", (3, 97, 89))
    assert table.exact({"a": "x"}) == macs
