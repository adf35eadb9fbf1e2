"""Budgets: quantities with units, the pressure on the alphas, and derived networks that keep to them."""

import itertools
import json

import pytest
import torch
from cost.tables import fork_of
from pydantic import ValidationError
from searching.plainly import plainly
from torch import nn
from torch.nn.functional import one_hot
from training.tiny_runs import genotype_of, merged, search_config, tower

import manas
from manas.architecture.choice import Choice, architecture_parameters, choices_of, probabilities_of
from manas.architecture.forks import nodes_of, zeros_of
from manas.architecture.genotype import Genotype
from manas.config import read_config
from manas.cost.budget import BudgetConfig, Pressure, amount
from manas.cost.counting import cost_table, measure, thop_macs
from manas.cost.latency import latencies_in, latency_table
from manas.cost.selection import starved_nodes
from manas.cost.table import CostTable
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax
from manas.searching import method as search_method
from manas.searching.config import SearchConfig
from manas.searching.search import METHODS
from manas.training.distributed import Process
from manas.training.run import RunDirectory

CPU = torch.device("cpu")
ALONE = Process(0, 1, CPU)


@pytest.fixture(autouse=True)
def _plainly():
    with plainly():
        yield


class TestQuantities:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"macs": "2.0G"}, 2e9),
            ({"macs": "2G"}, 2e9),
            ({"macs": " 1.5 M "}, 1.5e6),
            ({"macs": "500k"}, 5e5),
            ({"macs": "500K"}, 5e5),
            ({"macs": "0.1T"}, 1e11),
            ({"macs": "2e9"}, 2e9),  # which YAML reads as a text
            ({"macs": "1.5e+3M"}, 1.5e9),
            ({"macs": 2_000_000}, 2e6),
            ({"parameters": "1.5M"}, 1.5e6),
            ({"parameters": 20_000.0}, 2e4),
            ({"latency": "40ms"}, 0.04),
            ({"latency": "0.04s"}, 0.04),
            ({"latency": "250us"}, 2.5e-4),
            ({"latency": 0.04}, 0.04),
        ],
    )
    def test_units(self, given, expected):
        budget = BudgetConfig(**given)
        assert budget.limit == pytest.approx(expected, rel=1e-12)
        assert budget.metric == next(iter(given))

    @pytest.mark.parametrize(
        "given",
        [
            "2.0 B",
            "40 m",
            "2X",
            "1.2.3G",
            "G",
            "-2G",
            "-1",
            "0",
            "0M",
            "nan",
            "inf",
            "",
            "many",
            None,
            [1],
            -3,
            0,
        ],
    )
    def test_what_is_no_amount(self, given):
        with pytest.raises(ValidationError):
            BudgetConfig(macs=given)

    @pytest.mark.parametrize(
        ("override", "says"),
        [
            ("budget.macs=2.0Q", "'2.0Q' has no unit that fits; write it as 2.0G, 1.5M or 500k"),
            ("budget.macs=-2", "greater than 0"),
            ("budget.macs=-2G", "valid number"),
            ("budget.macs=.inf", "finite"),
            ("budget={macs: 1G, parameters: 1M}", "give one of macs, parameters and latency"),
            ("budget={macs: 1G, latency: 1ms}", "give one of macs, parameters and latency"),
            ("budget={spend: 0.5}", "give one of macs, parameters and latency"),
            (
                "budget={parameters: 1M, size: [64, 64]}",
                "do not depend on the size of an image; leave size out",
            ),
            ("budget={macs: 1G, spend: 1}", "less than 1"),
            ("budget={macs: 1G, rate: 0}", "greater than 0"),
            ("budget.mcas=1G", "did you mean 'macs'?"),
        ],
    )
    def test_a_mistake_is_said_in_a_line(self, override, says):
        with pytest.raises(ManasError) as error:
            read_config(SearchConfig, None, [override])
        assert says in str(error.value)
        assert "budget" in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        "given", [{"latency": "2.0G"}, {"latency": "500k"}, {"macs": "40ms"}, {"parameters": "3s"}]
    )
    def test_units_of_another_kind(self, given):
        with pytest.raises(ValidationError, match="unit"):
            BudgetConfig(**given)

    @pytest.mark.parametrize("size", [[10, 9], [0, 8], [-2, 8]])
    def test_a_size_that_the_network_cannot_take(self, size, tmp_path):
        with pytest.raises(ValueError, match=r"budget\.size"):
            manas.search(search_config(run=str(tmp_path / "run"), budget={"macs": "1G", "size": size}))

    def test_the_input_of_the_table(self):
        config = search_config(budget={"macs": "1G", "size": [24, 32]})
        assert (config.metric, config.input) == ("macs", (3, 24, 32))
        assert search_config(budget={"latency": "1s"}).input == (3, 16, 16)
        assert search_config().metric == "macs"


def supernet(*alphas):
    """Choices fork0, fork1, ... with these alphas."""
    network = nn.ModuleList()
    for n, values in enumerate(alphas):
        candidates = {f"c{k}": nn.Identity() for k in range(len(values))}
        choice = Choice(f"fork{n}", candidates, Softmax())
        choice.alpha = nn.Parameter(torch.tensor(values))
        network.append(choice)
    return network


def pressure_of(limit, *costs, rate=0.5, multiplier=0.0):
    table = CostTable(
        10.0,
        tuple(f"fork{n}" for n in range(len(costs))),
        {f"fork{n}": fork_of(c) for n, c in enumerate(costs)},
    )
    pressure = Pressure(table, BudgetConfig(macs=limit, rate=rate), CPU)
    pressure.multiplier = torch.tensor(multiplier)
    return pressure


class TestPressure:
    def gradient(self, pressure, network):
        return torch.autograd.grad(pressure.loss(network), architecture_parameters(network))

    def test_none_while_there_is_room(self):
        network = supernet([1.0, 0.0], [0.0, 2.0])
        pressure = pressure_of(500, [10, 100], [10, 100], multiplier=3.0)
        assert pressure.loss(network) == 0
        assert all(not g.any() for g in self.gradient(pressure, network))

    def test_of_an_expected_cost_that_is_too_high(self):
        """Hinge: multiplier x (expected / limit - 1), the derived network being cheaper than that."""
        network = supernet([0.5, 0.0])
        pressure = pressure_of(40, [10, 100], multiplier=2.0)
        p = torch.softmax(torch.tensor([0.5, 0.0]), 0)
        expected = 10 + 10 * p[0] + 100 * p[1]
        assert pressure.loss(network).item() == pytest.approx(2 * (expected / 40 - 1).item())
        (gradient,) = self.gradient(pressure, network)
        by_hand = 2 / 40 * p * (torch.tensor([10.0, 100.0]) - (expected - 10))
        torch.testing.assert_close(gradient, by_hand)

    def test_of_a_derived_network_that_is_too_dear(self):
        """The expected cost is below, but the most probable candidate is not: it presses all the same."""
        network = supernet([0.0, 0.1])
        pressure = pressure_of(80, [10, 100], multiplier=2.0)
        expected = pressure.table.expected(probabilities_of(network))
        assert expected < 80 < 110
        assert pressure.loss(network).item() == pytest.approx(2 * (110 / 80 - 1))
        (gradient,) = self.gradient(pressure, network)
        assert gradient[1] > 0 > gradient[0]

    def test_its_direction_lowers_the_expected_cost(self):
        """Down the gradient of `loss`, with a table whose forks stand inside candidates."""
        space = tower()
        table = cost_table(space, "macs", (3, 16, 16))
        for seed in range(5):
            torch.manual_seed(seed)
            network = space.supernet()
            alphas = architecture_parameters(network)
            with torch.no_grad():
                for alpha in alphas:
                    alpha.normal_()
            pressure = Pressure(table, BudgetConfig(macs=0.5 * table.cheapest() + 0.5 * table.fixed), CPU)
            pressure.multiplier = torch.tensor(1.0)
            before = table.expected(probabilities_of(network)).item()
            gradient = torch.autograd.grad(pressure.loss(network), alphas)
            with torch.no_grad():
                for alpha, g in zip(alphas, gradient, strict=True):
                    alpha -= 0.1 * g
            assert table.expected(probabilities_of(network)).item() < before

    def test_the_multiplier_follows_the_excess(self):
        pressure = pressure_of(55, [10, 100], rate=0.5)
        dear, cheap = supernet([0.0, 50.0]), supernet([50.0, 0.0])
        seen = [pressure.multiplier.item()]
        for network in [dear] * 3 + [cheap] * 12 + [dear]:
            pressure.adapt(network)
            seen.append(pressure.multiplier.item())
        rises, falls = seen[:4], seen[3:16]
        assert rises == pytest.approx([0, 0.5, 1.0, 1.5])  # 110 of 55: one whole budget too much
        assert all(a > b or a == b == 0 for a, b in zip(falls, falls[1:], strict=False))
        assert falls[1] == pytest.approx(1.5 + 0.5 * (20 / 55 - 1))
        assert falls[-1] == 0
        assert min(seen) == 0
        assert seen[-1] == pytest.approx(0.5)

    def test_it_rises_for_the_derived_network_alone(self):
        pressure = pressure_of(80, [10, 100])
        network = supernet([0.0, 0.1])
        pressure.adapt(network)
        assert pressure.multiplier == pytest.approx(0.5 * (110 / 80 - 1))

    def test_it_keeps_no_graph(self):
        pressure = pressure_of(55, [10, 100])
        pressure.adapt(supernet([0.0, 1.0]))
        assert not pressure.multiplier.requires_grad
        assert pressure.multiplier.grad_fn is None

    def test_forks_that_are_not_reached_cost_nothing(self):
        space = tower()
        table = cost_table(space, "macs", (3, 16, 16))
        network = space.supernet()
        genotype = Genotype.sample(space, 1)
        for choice in choices_of(network):
            place = choice.names.index(genotype.choices[choice.label])
            choice.alpha.data = 80.0 * one_hot(torch.tensor(place), len(choice.names)).float()
        exact = measure(space.network(genotype), "macs", (3, 16, 16))
        pressure = Pressure(table, BudgetConfig(macs=exact / 2, rate=1), CPU)
        pressure.adapt(network)
        assert pressure.multiplier == pytest.approx(1.0)


GATES = ["none", "sep_conv_3x3", "channel_attention"]
SPACE = {"attention": {"groups": 1, "gates": GATES}}
SHAPE = (3, 16, 16)


def searched(path, metric, limit, **changes):
    """The genotype of a quick search of a small tower under a budget."""
    changes = {"space": SPACE, "epochs": 1, "steps": 2, "warmup": 0, "eigenvalue_every": 0} | changes
    manas.search(search_config(run=str(path), budget={metric: limit}, **changes))
    return genotype_of(path)


def limits_of(metric, **space):
    """A table, all costs that a derived network can have, and three budgets between them."""
    searched = tower(**(space or SPACE))
    table, forks = cost_table(searched, metric, SHAPE), searched.forks()
    names = [fork.names for fork in table.forks.values()]
    assert len(table.outermost) == len(names)  # nothing stands inside anything
    every = (dict(zip(table.forks, chosen, strict=True)) for chosen in itertools.product(*names))
    costs = sorted({table.exact(choices) for choices in every if not starved_nodes(forks, choices)})
    return table, costs, [1.03 * costs[len(costs) * n // 6] for n in (1, 3, 5)]


class TestSearchUnderABudget:
    @pytest.mark.parametrize("metric", ["macs", "parameters"])
    def test_three_budgets(self, metric, tmp_path):
        """Each derived network, measured, is within its budget, and uses most of it where it can."""
        space = {"attention": {"gates": GATES}}
        _, _, limits = limits_of(metric, **space)
        for n, limit in enumerate(limits):
            genotype = searched(tmp_path / str(n), metric, limit, space=space)
            network = genotype.network()
            counted = measure(network, metric, SHAPE)
            assert counted <= limit
            assert counted == genotype.provenance[metric]
            if metric == "macs":
                assert thop_macs(network, SHAPE) == counted
            assert counted >= 0.9 * limit
            (said,) = [line for line in genotype.provenance["verdict"] if line.startswith("budget: ")]
            shown = [amount(cost, metric) for cost in (counted, limit)]
            assert said == f"budget: {shown[0]} of {shown[1]}, {counted / limit:.1%}"

    def test_epochs_keep_to_it_too_and_the_multiplier_is_logged(self, tmp_path):
        table, _, limits = limits_of("macs")
        searched(tmp_path, "macs", limits[0], epochs=2)
        for file in sorted((tmp_path / "genotypes").iterdir()):
            assert json.loads(file.read_text())["provenance"]["macs"] <= limits[0]
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        logged = [line["alphas/multiplier"] for line in lines if "alphas/multiplier" in line]
        assert len(logged) == 4
        assert all(
            a < b for a, b in zip(logged, logged[1:], strict=False)
        )  # nearly uniform alphas are too dear
        assert [line["alphas/complexity"] > 0 for line in lines if "alphas/complexity" in line] == [
            False,
            True,
            True,
            True,
        ]
        assert json.loads((tmp_path / "cost.json").read_text())["origin"]["metric"] == "macs"
        written = CostTable.from_json((tmp_path / "cost.json").read_text())
        assert (written.cheapest(), written.dearest()) == (table.cheapest(), table.dearest())

    def test_of_the_size_that_is_asked_for(self, tmp_path):
        space = tower(**SPACE)
        limit = measure(space.network(Genotype.sample(space, 4)), "macs", (3, 32, 24))
        budget = {"macs": limit, "size": [32, 24]}
        manas.search(search_config(run=str(tmp_path), space=SPACE, epochs=1, steps=1, budget=budget))
        counted = measure(genotype_of(tmp_path).network(), "macs", (3, 32, 24))
        assert 0.9 * limit <= counted <= limit

    @pytest.mark.parametrize(
        "changes",
        [
            {"selection": {"kind": "perturbation", "tune_steps": 0}},
            {"method": {"kind": "random", "candidates": 2}, "warmup": 0.25},
            {
                "method": {"kind": "evolution", "evaluations": 4, "population": 2, "tournament": 1},
                "warmup": 0.25,
            },
        ],
    )
    def test_whatever_selects(self, changes, tmp_path):
        table, _, (limit, *_) = limits_of("macs")
        genotype = searched(tmp_path, "macs", limit, **changes)
        assert table.exact(genotype.choices) <= limit
        for file in (tmp_path / "genotypes").glob("candidate_*.json"):
            assert table.exact(json.loads(file.read_text())["choices"]) <= limit

    @pytest.mark.parametrize("method", ["gradient", "random", "evolution"])
    @pytest.mark.parametrize("metric", ["macs", "parameters"])
    def test_one_that_cannot_be_met_is_said_before_anything_is_written(self, metric, method, tmp_path):
        table = cost_table(tower(), metric, SHAPE)
        budget = {metric: table.cheapest() - 1}
        config = search_config(run=str(tmp_path / "run"), budget=budget, method=method)
        with pytest.raises(ManasError) as error:
            manas.search(config)
        for cost in (table.cheapest() - 1, table.cheapest(), table.dearest()):
            assert amount(cost, metric) in str(error.value)
        assert "the cheapest architecture of the space" in str(error.value)
        assert "raise the budget or take a smaller space" in str(error.value)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("method", ["gradient", "random"])
    def test_one_that_only_starved_nodes_keep_to(self, method, tmp_path):
        """`none` everywhere is cheapest and never derived, so the search would fail after an epoch."""
        table = cost_table(tower(**SPACE), "macs", SHAPE)
        config = search_config(
            run=str(tmp_path / "run"), space=SPACE, budget={"macs": table.cheapest() + 1}, method=method
        )
        with pytest.raises(ManasError, match="the cheapest architecture of the space"):
            manas.search(config)
        assert list(tmp_path.iterdir()) == []

    def test_exactly_the_dearest(self, tmp_path):
        """The whole space is within the budget: the search is free but for what it must spend."""
        table, _, _ = limits_of("macs")
        genotype = searched(tmp_path, "macs", table.dearest())
        assert 0.9 * table.dearest() <= table.exact(genotype.choices)

    def test_a_generous_budget_leaves_the_choice_to_the_search(self, tmp_path):
        table, _, _ = limits_of("macs")
        method = {"kind": "random", "candidates": 3}
        searched(tmp_path, "macs", 1.5 * table.dearest(), method=method, warmup=0.25)
        found = [json.loads(p.read_text())["choices"] for p in (tmp_path / "genotypes").iterdir()]
        assert any(choices != found[0] for choices in found)


class TestLatency:
    def test_a_latency_budget(self, tmp_path, monkeypatch):
        """Measured once; a run that is resumed reads the table that it wrote."""
        measured, table_of = [], search_method.latency_table

        def watched(space, shape, device):
            measured.append(shape)
            return table_of(space, shape, device, repeats=1, warmup=0)

        monkeypatch.setattr(search_method, "latency_table", watched)
        config = search_config(
            run=str(tmp_path),
            space=SPACE,
            epochs=1,
            steps=1,
            warmup=0,
            eigenvalue_every=0,
            budget={"latency": "10s", "spend": 0},
        )
        genotype = manas.search(config)
        assert measured == [(3, 16, 16)]
        text = (tmp_path / "cost.json").read_text()
        table = CostTable.from_json(text)
        assert table.origin["metric"] == "latency"
        assert {"device", "date", "torch", "threads"} <= table.origin.keys()
        assert 0 < table.exact(genotype.choices) < 10
        (said,) = [line for line in genotype.provenance["verdict"] if line.startswith("budget: ")]
        assert said.startswith(f"budget: {amount(table.exact(genotype.choices), 'latency')} of 1e+04 ms")
        assert said.endswith("measured as a whole")
        again = manas.search(config, resume=True)
        assert measured == [(3, 16, 16)]
        assert (tmp_path / "cost.json").read_text() == text
        assert again.choices == genotype.choices

    def test_latencies_that_were_measured_before(self, tmp_path, monkeypatch):
        """As by another search, maybe on another device; nothing is measured anew."""
        budget = {"latency": "10s", "spend": 0}
        common = {"space": SPACE, "epochs": 1, "steps": 1, "warmup": 0, "eigenvalue_every": 0}
        manas.search(search_config(run=str(tmp_path / "first"), **common, budget=budget))
        monkeypatch.setattr(search_method, "latency_table", None)
        table = tmp_path / "first" / "cost.json"
        settings = {**common, "budget": budget | {"table": str(table)}}
        genotype = manas.search(search_config(run=str(tmp_path / "second"), **settings))
        assert (tmp_path / "second" / "cost.json").read_text() == table.read_text()
        (said,) = [line for line in genotype.provenance["verdict"] if line.startswith("budget: ")]
        assert said.endswith(f"by {table}")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"budget": {"table": "none.json"}}, r"none\.json: cannot be read .*; give the cost\.json"),
            (
                {"budget": {"size": [32, 16]}},
                r"of \[3, 16, 16\] .*, the budget of \[3, 32, 16\]; set size",
            ),
            ({"space": {"columns": [2]}}, "has the forks of another space; leave table out"),
        ],
    )
    def test_latencies_of_something_else(self, changes, message, tmp_path):
        table = latency_table(tower(**SPACE), (3, 16, 16), CPU, repeats=1, warmup=0)
        (tmp_path / "cost.json").write_text(table.to_json())
        settings = {"space": SPACE, "budget": {"latency": "10s", "spend": 0}}
        settings["budget"]["table"] = str(tmp_path / "cost.json")
        config = search_config(run=str(tmp_path / "run"), **merged(settings, changes))
        with pytest.raises(ManasError, match=message):
            manas.search(config)
        assert not (tmp_path / "run").exists()

    def test_counts_have_no_table_to_read(self, tmp_path):
        with pytest.raises(ManasError, match="are counted, not measured; leave table out"):
            read_config(SearchConfig, None, ["budget={macs: 1G, table: cost.json}"])
        (tmp_path / "cost.json").write_text(cost_table(tower(**SPACE), "macs", (3, 16, 16)).to_json())
        with pytest.raises(ManasError, match="has macs; give a table of latencies"):
            latencies_in(tmp_path / "cost.json", tower(**SPACE), (3, 16, 16))

    def test_a_run_of_an_earlier_version_is_resumed_though_its_table_names_no_nodes(self, tmp_path):
        config = search_config(
            run=str(tmp_path), space=SPACE, epochs=1, steps=1, budget={"latency": "10s", "spend": 0}
        )
        genotype = manas.search(config)
        text = json.loads((tmp_path / "cost.json").read_text())
        del text["nodes"], text["zeros"]
        (tmp_path / "cost.json").write_text(json.dumps(text))
        directory = RunDirectory(config, config.run, ALONE, resume=True, overwrite=False)
        again = METHODS[config.method.kind](config, ALONE, directory)
        assert again.architectures.table.nodes == nodes_of(config.space.forks()) != {}
        assert again.architectures.table.zeros == zeros_of(config.space.forks()) != {}
        assert manas.search(config, resume=True).choices == genotype.choices

    def test_one_that_cannot_be_met(self, tmp_path):
        config = search_config(run=str(tmp_path / "run"), space=SPACE, budget={"latency": "1us"})
        with pytest.raises(
            ManasError, match=r"budget: 0\.001 ms cannot be met; the cheapest .* ms, the dearest"
        ):
            manas.search(config)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda table: table.write_text("{}"),
            lambda table: table.unlink(),
        ],
    )
    def test_a_table_that_is_gone_is_said_in_a_line(self, damage, tmp_path):
        budget = {"latency": "10s", "spend": 0}
        config = search_config(run=str(tmp_path), space=SPACE, epochs=1, steps=1, budget=budget)
        manas.search(config)
        damage(tmp_path / "cost.json")
        with pytest.raises(ManasError, match=r"cost\.json"):
            manas.search(config, resume=True)

    def test_the_complexity_loss_may_be_of_latency_as_well(self, tmp_path):
        config = search_config(
            run=str(tmp_path), space=SPACE, epochs=1, steps=1, warmup=0, complexity={"metric": "latency"}
        )
        manas.search(config)
        assert json.loads((tmp_path / "cost.json").read_text())["origin"]["metric"] == "latency"


@pytest.mark.parametrize(
    ("cost", "metric", "text"),
    [
        (1.93e9, "macs", "1.93 G MACs"),
        (1.5e6, "parameters", "1.5 M parameters"),
        (80420, "macs", "80.42 k MACs"),
        (512, "parameters", "512 parameters"),
        (0.04, "latency", "40 ms"),
    ],
)
def test_amounts(cost, metric, text):
    assert amount(cost, metric) == text
