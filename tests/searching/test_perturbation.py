"""Selection by perturbation: what is asked, in which order, and what is kept; with scores that are known."""

import itertools
import math
import random

import pytest
import torch
from architecture.toy_spaces import NESTED, architectures, node_in, trees
from cost.tables import table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from searching.plainly import plainly
from torch import nn
from torch.nn.functional import interpolate
from training.tiny_runs import search_config, tower

import manas
from manas.architecture.choice import choices_of, relaxed_by, weight_parameters
from manas.architecture.forks import every_fork
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.cost.selection import Allowance, starved_nodes
from manas.relaxations.base import Noiseless
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.sigmoid import Sigmoid
from manas.relaxations.softmax import Softmax
from manas.restoration.network import RestorationSpace
from manas.searching.perturbation import Projected, select_by_perturbation, tuning_factor
from manas.searching.perturbation_search import PerturbationSearch
from manas.searching.search_data import SearchData
from search_spaces.dual_recursive import DualRecursive


class Nodes(SearchSpace):
    """Forks of given labels between `none`, which is zero, `a` and `b`."""

    labels: tuple[str, ...] = ("node0/input", "node1/input", "node1/node0", "column0")
    names: tuple[str, ...] = ("none", "a", "b")

    def build(self, decide):
        candidates, zero = dict.fromkeys(self.names, nn.Identity), "none" if "none" in self.names else None
        return nn.ModuleList(decide(label, candidates, node=node_in(label), zero=zero) for label in self.labels)


SPACE = {"attention": {"groups": 1, "gates": ["none", "channel_attention"]}}


@pytest.fixture(autouse=True)
def _plainly():
    with plainly():
        yield


class Questions:
    """A supernet of which is known how good each candidate is; remembers what it is asked.

    It is asked without a candidate where its fork has a zero, and with it alone where the fork has none.
    """

    def __init__(self, worth):
        self.worth = worth  # (label, name) -> dB that are lost without it, or won with it alone
        self.asked = []
        self.tuned = []
        self.decided = []

    def score(self, kept, missing):
        if missing:
            self.asked.append((dict(kept), missing))
            return 30.0 - self.worth[missing]
        *before, alone = kept.items()
        self.asked.append((dict(before), alone))
        return 30.0 + self.worth[alone]

    def select(self, forks, seed=0, allowance=None):
        return select_by_perturbation(
            forks,
            self.score,
            lambda kept: self.tuned.append(dict(kept)),
            seed=seed,
            allowance=allowance,
            decided=lambda label, name: self.decided.append((label, name)),
        )


def random_worth(space, seed):
    rng = random.Random(seed)
    return {(label, name): rng.random() for label, names in space.choices().items() for name in names}


def best_of(space, worth):
    """The candidate of every fork that is missed most."""
    return {label: max(names, key=lambda name: worth[label, name]) for label, names in space.choices().items()}


@settings(max_examples=40)
@given(space=st.one_of(st.just(NESTED), trees(60)), seed=st.integers(0, 10**6))
def test_what_is_best_alone_is_kept(space, seed):
    worth = random_worth(space, seed)
    questions = Questions(worth)
    kept = questions.select(space.forks(), seed)
    space.check(kept)
    best = best_of(space, worth)
    assert kept == {label: best[label] for label in kept}


class TestWhatIsAsked:
    def test_one_fork_at_a_time_with_the_ones_before_it(self):
        questions = Questions(random_worth(NESTED, 0))
        kept = questions.select(NESTED.forks(), seed=3)
        assert dict(questions.decided) == kept
        asked = [missing for _, missing in questions.asked]
        assert len(set(asked)) == len(asked)
        order = list(dict.fromkeys(label for label, _ in asked))
        for label, (place, _) in zip(order, enumerate(order), strict=True):
            before = [given for given, missing in questions.asked if missing[0] == label]
            assert all(set(given) == {lab for lab, _ in questions.decided[:place]} for given in before)
            assert {name for lab, name in asked if lab == label} == set(NESTED.choices()[label])

    def test_forks_inside_what_was_not_chosen_are_not_asked(self):
        worth = random_worth(NESTED, 0)
        for outer in ("c0", "c1"):
            for name in ("c0", "c1"):
                worth["fork0", name] = float(name == outer)
            questions = Questions(worth)
            kept = questions.select(NESTED.forks(), seed=1)
            inside = {label for _, (label, _) in questions.asked if label.startswith("fork0/")}
            assert kept["fork0"] == outer
            assert {label.split("/")[1] for label in inside} <= {outer}
            assert bool(inside) == (outer == "c1")  # all forks of the first are inside c1
            assert {label for label, _ in questions.decided} == kept.keys()

    def test_the_supernet_is_tuned_after_every_decision(self):
        questions = Questions(random_worth(NESTED, 0))
        questions.select(NESTED.forks())
        assert questions.tuned == [dict(questions.decided[: n + 1]) for n in range(len(questions.decided))]

    def test_a_fork_of_one_candidate_is_not_asked(self):
        space = Nodes(labels=("column0", "column1"), names=("a",))
        questions = Questions({})
        assert questions.select(space.forks()) == {"column0": "a", "column1": "a"}
        assert questions.asked == []

    def test_the_order_is_a_function_of_the_seed(self):
        space = tower()
        worth = random_worth(space, 0)
        orders = []
        for seed in (0, 0, 1, 2, 3):
            questions = Questions(worth)
            questions.select(space.forks(), seed)
            orders.append([label for label, _ in questions.decided])
        assert orders[0] == orders[1]
        assert len({tuple(order) for order in orders}) == 4
        assert all(sorted(order) == sorted(space.choices()) for order in orders)

    def test_the_state_of_random_is_left_alone(self):
        random.seed(5)
        before = random.getstate()
        Questions(random_worth(NESTED, 0)).select(NESTED.forks())
        assert random.getstate() == before


class TestNodes:
    @pytest.mark.parametrize("seed", range(20))
    def test_no_node_loses_its_last_input(self, seed):
        """Also where `none` is worth most everywhere: the last input to be decided is the best other one."""
        space = tower()
        worth = random_worth(space, seed)
        worth |= {pair: 2.0 for pair in worth if pair[1] == "none"}
        questions = Questions(worth)
        kept = questions.select(space.forks(), seed)
        space.check(kept)
        assert starved_nodes(space.forks(), kept) == []
        for label, name in kept.items():
            others = [n for n in space.choices()[label] if n != "none"]
            if name != "none" and "/node" in label:
                assert name == max(others, key=lambda n: worth[label, n])

    def test_only_the_last_input_is_spared(self):
        space = Nodes()
        worth = {(label, name): 1.0 * (name == "none") for label in space.labels for name in space.names}
        for seed in range(10):
            questions = Questions(worth)
            kept = questions.select(space.forks(), seed)
            assert kept["column0"] == "none"  # no node
            assert kept["node0/input"] == "a"
            of_node1 = [name for label, name in questions.decided if label.startswith("node1/")]
            assert of_node1 == ["none", "a"]

    def test_a_node_of_none_alone_is_no_error(self):
        space = Nodes(labels=("node0/input",), names=("none",))
        assert Questions({}).select(space.forks()) == {"node0/input": "none"}

    def test_a_node_that_has_an_input_without_a_zero_is_fed(self):
        class Mixed(SearchSpace):
            def build(self, decide):
                candidates = {"none": nn.Identity, "a": nn.Identity}
                zeros = {"x": "none", "y": None}.items()
                return nn.ModuleList(decide(label, candidates, node="sum", zero=zero) for label, zero in zeros)

        worth = {(label, name): 1.0 * (name == "none") for label in "xy" for name in ("none", "a")}
        for seed in range(4):
            assert Questions(worth).select(Mixed().forks(), seed) == {"x": "none", "y": "none"}


class TestAllowance:
    @settings(max_examples=60)
    @given(
        space=st.one_of(st.just(NESTED), trees(60).filter(lambda space: space.root.forks)),
        seed=st.integers(0, 10**6),
        share=st.floats(0, 1),
    )
    def test_never_above_the_limit(self, space, seed, share):
        rng = random.Random(seed)
        table = table_of(space, lambda *_: rng.randrange(40), 10)
        limit = round(table.cheapest() + share * (table.dearest() - table.cheapest()))
        questions = Questions(random_worth(space, seed))
        kept = questions.select(space.forks(), seed, Allowance(table, limit, 0.9))
        space.check(kept)
        assert table.exact(kept) <= limit
        if share == 0:
            assert table.exact(kept) == table.cheapest()

    def test_a_limit_above_everything_changes_nothing(self):
        worth = random_worth(NESTED, 0)
        table = table_of(NESTED, lambda *_: 10.0)
        freely = Questions(worth).select(NESTED.forks(), 0)
        assert Questions(worth).select(NESTED.forks(), 0, Allowance(table, table.dearest(), 0.0)) == freely

    def test_it_spends_what_it_may(self):
        """The cheap ones are missed most, but the window is [90, 100]."""
        space = Nodes(labels=("column0", "column1", "column2"))
        table = table_of(space, lambda label, name: {"none": 0, "a": 10, "b": 45}[name])
        worth = {
            (label, name): {"none": 3.0, "a": 2.0, "b": 1.0}[name]
            for label in space.labels
            for name in space.names
        }
        for seed in range(6):
            kept = Questions(worth).select(space.forks(), seed, Allowance(table, 100, 0.9))
            assert sorted(kept.values()) == ["b", "b", "none"]
        assert Questions(worth).select(space.forks(), 0, Allowance(table, 100, 0.0)) == dict.fromkeys(
            space.labels, "none"
        )

    def test_what_does_not_fit_is_not_asked(self):
        space = Nodes(labels=("column0",))
        table = table_of(space, lambda label, name: {"none": 0, "a": 10, "b": 45}[name])
        questions = Questions(dict.fromkeys([("column0", "none"), ("column0", "a"), ("column0", "b")], 1.0))
        questions.select(space.forks(), 0, Allowance(table, 44, 0.0))
        assert [name for _, (_, name) in questions.asked] == ["none", "a"]

    def test_never_above_the_limit_for_the_last_input_of_a_node(self):
        space = Nodes()
        for seed in range(100):
            rng = random.Random(seed)
            costs = {label: {"none": 0, "a": rng.randrange(1, 40), "b": 40} for label in space.labels}
            table = table_of(space, lambda label, name, costs=costs: costs[label][name])
            worth = random_worth(space, seed)
            worth |= {pair: 2.0 for pair in worth if pair[1] == "none"}
            needed = sum(
                min(table.forks[label].own[1:].min().item() for label in labels)
                for labels in (["node0/input"], ["node1/input", "node1/node0"])
            )
            kept = Questions(worth).select(space.forks(), seed, Allowance(table, needed, 0.0))
            assert not starved_nodes(space.forks(), kept)
            assert table.exact(kept) <= needed, seed


@pytest.mark.parametrize(
    ("floor", "ends"), [(0.0, (0.1, 0.0)), (0.05, (0.1, 0.05)), (0.1, (0.1, 0.1)), (1.0, (0.1, 0.1))]
)
def test_tuning_begins_at_a_tenth_and_ends_where_the_search_did(floor, ends):
    assert (tuning_factor(0, 40, floor), tuning_factor(40, 40, floor)) == pytest.approx(ends)
    assert tuning_factor(20, 40, floor) == pytest.approx(sum(ends) / 2)


class TestProjected:
    def parts(self, relaxation=None):
        network = tower().supernet(relaxation or Softmax())
        choice = choices_of(network)[1]
        with torch.no_grad():
            choice.alpha.copy_(torch.tensor([0.5, -0.25, 1.0, 0.0]))
        return network, choice

    def test_what_is_missing_is_left_out_and_the_others_are_not_raised(self):
        _, choice = self.parts()
        whole = Softmax().weights(choice)
        for name in choice.names:
            weights = Projected(Softmax(), missing=(choice.label, name)).weights(choice)
            assert list(weights) == [other for other in choice.names if other != name]
            assert all(torch.equal(weights[other], whole[other]) for other in weights)

    def test_of_another_choice_nothing_is_missing(self):
        _, choice = self.parts()
        weights = Projected(Softmax(), missing=("elsewhere", choice.names[0])).weights(choice)
        assert list(weights) == list(choice.names)

    def test_what_is_kept_has_weight_one_and_is_alone(self):
        _, choice = self.parts(Sigmoid())
        weights = Projected(Sigmoid(), {choice.label: "skip_connect"}).weights(choice)
        assert list(weights) == ["skip_connect"]
        assert weights["skip_connect"] == 1
        assert weights["skip_connect"].dtype == choice.alpha.dtype
        assert not weights["skip_connect"].requires_grad

    def test_probabilities_are_those_of_the_relaxation(self):
        _, choice = self.parts()
        projected = Projected(Softmax(), {choice.label: "none"}, ("x", "y"))
        torch.testing.assert_close(projected.probabilities(choice), Softmax().probabilities(choice))
        for ours, expected in zip(
            projected.log_probabilities(choice), Softmax().log_probabilities(choice), strict=True
        ):
            torch.testing.assert_close(ours, expected)

    @pytest.mark.parametrize("relaxation", [Softmax(), Sigmoid(), Gumbel()])
    def test_with_everything_kept_it_is_the_derived_network(self, relaxation):
        space = tower()
        network = space.supernet(relaxation).eval()
        genotype, image = Genotype.sample(space, 2), torch.rand(1, 3, 16, 16)
        with relaxed_by(network, OneHot(genotype.choices)):
            expected = network(image)
        with relaxed_by(network, Projected(Noiseless(relaxation), genotype.choices)):
            assert torch.equal(network(image), expected)

    def test_the_output_without_a_candidate_is_less_by_its_share(self):
        """Of a linear mixture, before anything else that the network does with it."""
        _, choice = self.parts()
        choice.candidates = nn.ModuleDict({n: Times(k + 1.0) for k, n in enumerate(choice.names)})
        x = torch.rand(2, 3)
        choice.relaxation = Softmax()
        whole, weights = choice(x), Softmax().weights(choice)
        for k, name in enumerate(choice.names):
            choice.relaxation = Projected(Softmax(), missing=(choice.label, name))
            torch.testing.assert_close(choice(x), whole - weights[name] * (k + 1) * x)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class TestInASearch:
    """What the search hands to the selection."""

    def watch(self, monkeypatch):
        """Relaxations under which the supernet is judged, and those under which it learns, while it selects."""
        judged, learnt = [], []
        psnr, step = SearchData.psnr, PerturbationSearch.weight_step
        choose = PerturbationSearch._choose

        def watched_psnr(self, network, *, training):
            judged.append((choices_of(network)[0].relaxation, training))
            return psnr(self, network, training=training)

        def watched_step(self, network, *arguments):
            relaxation = choices_of(network)[0].relaxation
            rate = self.weight_descent.optimiser.param_groups[0]["lr"] / self.config.weights.rate
            learnt.append((dict(relaxation.kept) if isinstance(relaxation, Projected) else None, rate))
            return step(self, network, *arguments)

        def watched_choose(self, *arguments):
            judged.clear()
            learnt.clear()
            before = [p.detach().clone() for p in self.network.parameters()]
            chosen = choose(self, *arguments)
            moved = {
                id(p) for p, b in zip(self.network.parameters(), before, strict=True) if not torch.equal(p, b)
            }
            alphas = {id(alpha) for alpha in self.alpha_descent.parameters}
            assert moved - alphas
            assert moved & alphas == (alphas if self.config.selection.alphas == "learn" else set())
            return chosen

        monkeypatch.setattr(SearchData, "psnr", watched_psnr)
        monkeypatch.setattr(PerturbationSearch, "weight_step", watched_step)
        monkeypatch.setattr(PerturbationSearch, "_choose", watched_choose)
        return judged, learnt

    @pytest.mark.parametrize("alphas", ["learn", "rest"])
    def test_scores_and_tuning_are_of_projected_supernets(self, alphas, tmp_path, monkeypatch):
        judged, learnt = self.watch(monkeypatch)
        selection = {"kind": "perturbation", "tune_steps": 2, "alphas": alphas}
        config = search_config(run=str(tmp_path), space=SPACE, epochs=1, steps=1, warmup=0, selection=selection)
        genotype = manas.search(config)
        forks = tower(**SPACE).choices()
        assert [len(kept) for kept, _ in learnt] == [1, 1, 2, 2, 3, 3]
        assert learnt[-1][0] == genotype.choices
        cosine = [0.075 + 0.025 * math.cos(math.pi * step / 6) for step in range(6)]  # from 1/10 to the floor
        assert [rate for _, rate in learnt] == pytest.approx(cosine)
        *judged, relaxed, one_hot = judged  # and the result, for the verdict
        assert isinstance(relaxed[0], Noiseless)
        assert isinstance(one_hot[0], OneHot)
        beside_zeros = [relaxation.missing for relaxation, _ in judged if relaxation.missing]
        alone = [list(relaxation.kept.items())[-1] for relaxation, _ in judged if not relaxation.missing]
        pairs = [*beside_zeros, *alone]
        assert len(set(pairs)) == len(pairs)
        assert set(pairs) <= {(label, name) for label, names in forks.items() for name in names}
        assert {label for label, _ in alone} == {"cell0/column0"}
        assert all("none" in forks[label] for label, _ in beside_zeros)
        assert all(isinstance(relaxation.of, Noiseless) and training for relaxation, training in judged)
        assert genotype.provenance["selection"] == "perturbation"

    @pytest.mark.parametrize("order", ["first", "second", "single"])
    def test_the_alphas_of_open_forks_alone_see_the_data(self, order, tmp_path, monkeypatch):
        """Without losses of their own the alphas of decided forks have no gradient, and rest."""
        moved, tune = [], PerturbationSearch._learn

        def watched(self, step, *, alphas):
            before = {choice.label: choice.alpha.detach().clone() for choice in self.choices}
            terms = tune(self, step, alphas=alphas)
            if self.chosen:
                pairs = [(choice, before[choice.label]) for choice in self.choices]
                labels = {choice.label for choice, old in pairs if not torch.equal(choice.alpha, old)}
                moved.append((set(self.chosen), labels))
            return terms

        monkeypatch.setattr(PerturbationSearch, "_learn", watched)
        config = search_config(
            **{"run": str(tmp_path), "space": SPACE, "epochs": 1, "steps": 1, "warmup": 0, "order": order},
            selection={"kind": "perturbation", "tune_steps": 1},
            alphas={"name": "sgd", "betas": (0.0, 0.0)},
            weights={"clip": None},
            architecture=0,
            complexity={"weight": 0},
        )
        manas.search(config)
        labels = set(tower(**SPACE).choices())
        assert [len(chosen) for chosen, _ in moved] == [1, 2, 3]
        assert all(open_ == labels - chosen for chosen, open_ in moved)

    def test_smoothing_goes_on_around_what_is_chosen(self, tmp_path, monkeypatch):
        seen, step = [], PerturbationSearch.weight_step

        def watched(self, *arguments):
            seen.append([len(choice.relaxation.weights(choice)) for choice in self.choices])
            return step(self, *arguments)

        monkeypatch.setattr(PerturbationSearch, "weight_step", watched)
        config = search_config(
            **{"run": str(tmp_path), "space": SPACE, "epochs": 1, "steps": 1, "smoothing": "adversarial"},
            selection={"kind": "perturbation", "tune_steps": 1},
        )
        manas.search(config)
        assert [sorted(each) for each in seen] == [[2, 2, 2], [1, 2, 2], [1, 1, 2], [1, 1, 1]]

    def test_it_keeps_what_it_says(self, tmp_path, capsys):
        config = search_config(run=str(tmp_path), space=SPACE, epochs=1, steps=1, selection="perturbation")
        genotype = manas.search(config)
        said = capsys.readouterr().err
        for label, name in genotype.choices.items():
            assert f"{label}: {name}\n" in said

    def test_the_verdict_is_on_what_was_selected(self, tmp_path, monkeypatch):
        """The argmax of resting alphas is a random draw; what perturbation keeps is not."""
        config = search_config(
            run=str(tmp_path), space=SPACE, epochs=1, steps=1, warmup=0.99, selection="perturbation"
        )
        verdict = manas.search(config).provenance["verdict"]
        assert not any("random draw" in sentence for sentence in verdict)


def test_every_candidate_of_a_fork_that_is_asked_is_scored_under_the_same_weights():
    """Tuning is after the decision, not between the questions of a fork."""
    events = []
    select_by_perturbation(
        Nodes().forks(),
        lambda kept, missing: events.append(missing[0]) or 0.0,
        lambda kept: events.append("tune"),
        seed=0,
    )
    assert events.count("tune") == 4
    asked = [list(group) for label, group in itertools.groupby(events) if label != "tune"]
    assert len(asked) == len({group[0] for group in asked}) == 4
    assert all(len(group) > 1 for group in asked)


@pytest.mark.parametrize("space", [NESTED, Nodes()], ids=["without zeros", "with zeros"])
def test_ties_are_broken_by_order(space):
    kept = select_by_perturbation(space.forks(), lambda kept, missing: 0.0, lambda kept: None, seed=0)
    first = {label: names[0] for label, names in space.choices().items()}
    last_inputs = {label for label in kept if starved_nodes(space.forks(), {**kept, label: "none"})}
    assert all(name == ("a" if label in last_inputs else first[label]) for label, name in kept.items())


@pytest.mark.parametrize("space", [NESTED, Nodes()], ids=["without zeros", "with zeros"])
def test_a_score_that_is_no_number_is_the_worst(space):
    def score(kept, missing):
        asked = missing or list(kept.items())[-1]
        return math.nan if asked[1] in ("c0", "a") else 30.0

    kept = select_by_perturbation(space.forks(), score, lambda kept: None, seed=0)
    chosen = set(kept.values())
    assert "c0" not in chosen if space is NESTED else chosen == {"a"}  # without `a` the score is no number


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_tree_is_walked(seed):
    """Every fork on the chosen path is decided, whichever path that is."""
    for architecture in architectures(NESTED.root):
        worth = {
            (fork.label, name): float(architecture.get(fork.label) == name)
            for fork in every_fork(NESTED.forks())
            for name in fork.names
        }
        assert Questions(worth).select(NESTED.forks(), seed) == architecture


@pytest.fixture(scope="module")
def trained():
    """The space of two small DRNs with a searched fusion, its supernet after some steps, and held images."""
    torch.manual_seed(0)
    drn = DualRecursive(channels=6, stages=2, recursions=1)
    space = RestorationSpace(towers={"derain": drn, "desnow": drn}, stitch="layer", fusion="searched")
    network = space.supernet(Softmax())
    (rainy, clean), held = rain(0), rain(1)
    optimiser = torch.optim.Adam(weight_parameters(network), 3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        (network(rainy).fused - clean).square().mean().backward()
        optimiser.step()
    return space, network, held


class TestFusion:
    """No normalisation follows a fusion, and in the mean its candidates make up for each other."""

    def selected(self, space, network, held, alpha):
        with torch.no_grad():
            choices_of(network)[0].alpha.copy_(torch.tensor(alpha))

        def score(kept, missing):
            with relaxed_by(network, Projected(Noiseless(Softmax()), kept, missing)):
                return psnr(network, held)

        return select_by_perturbation(space.forks(), score, lambda kept: None, seed=0)["fusion"]

    @pytest.mark.parametrize("raised", range(-1, 3))
    @pytest.mark.parametrize("by", [0.5, 4.0])
    def test_what_restores_best_when_derived_is_kept_wherever_the_alphas_are(self, trained, raised, by):
        """Whichever candidate has an alpha that is raised."""
        space, network, held = trained
        derived = {
            name: psnr(space.inherit(network, {"fusion": name}), held) for name in space.choices()["fusion"]
        }
        best, second, *_ = sorted(derived.values(), reverse=True)
        assert best - second > 0.01
        alpha = [by * (k == raised) for k in range(3)]
        assert derived[self.selected(space, network, held, alpha)] == best


def rain(seed):
    """(8, 3, 24, 24) smooth images under bright dots, and without."""
    generator = torch.Generator().manual_seed(seed)
    clean = interpolate(torch.rand(8, 3, 6, 6, generator=generator), size=24, mode="bicubic").clamp(0, 1)
    dots = 0.4 * (torch.rand(8, 1, 24, 24, generator=generator) > 0.85)
    return (clean + dots).clamp(0, 1), clean


@torch.no_grad()
def psnr(network, images):
    rainy, clean = images
    return -10 * (network(rainy).fused - clean).square().mean().log10().item()
