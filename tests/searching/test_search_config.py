"""The configuration of a search: what stands beside what, what it is resolved to, and what reads back."""

import itertools
import json

import pytest
import torch
from training.tiny_runs import search_config, tower, write_yaml

import manas
from manas.architecture.finding import load_space
from manas.config import read_config
from manas.errors import ManasError
from manas.relaxations.base import Relaxation
from manas.relaxations.dirichlet import Dirichlet
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.sigmoid import Sigmoid
from manas.relaxations.smoothing import SmoothingConfig
from manas.relaxations.softmax import Softmax
from manas.searching.config import (
    ArgmaxConfig,
    GradientConfig,
    RandomConfig,
    SearchConfig,
    SurrogateConfig,
)
from manas.searching.evolution import EvolutionConfig
from manas.searching.perturbation import PerturbationConfig
from manas.training.distributed import Process
from manas.training.run import RunDirectory

ALONE = Process(0, 1, torch.device("cpu"))
BY_GRADIENT = {"method": "gradient"}
NO_CLIP = {"weights": {"clip": None}}
RELAXATIONS = ("softmax", "gumbel", "dirichlet", "sigmoid")

# Each case: settings that exclude each other in a search by gradient, if no method is among them, and what the
# line must say.
CONFLICTS = {
    "second order and clipping": ({"order": "second"}, ["order=second", "clipping", "set weights.clip=null"]),
    "second order and accumulation": (
        {"order": "second", "accumulate": 2} | NO_CLIP,
        ["order=second", "accumulate saves nothing", "set it to 1"],
    ),
    "single level and running statistics": (
        {"order": "single", "alpha_statistics": "running"},
        ["order=single", "alpha_statistics=running cannot be had"],
    ),
    "single level and smoothing": (
        {"order": "single", "smoothing": "random"},
        ["order=single", "leave smoothing out"],
    ),
    "smoothing of gumbel": (
        {"relaxation": "gumbel", "smoothing": "random"},
        ["smoothing", "not of gumbel", "leave one of them out"],
    ),
    "smoothing of dirichlet": (
        {"relaxation": "dirichlet", "smoothing": "adversarial"},
        ["smoothing", "not of dirichlet", "leave one of them out"],
    ),
    "smoothing of sigmoid": (
        {"relaxation": "sigmoid", "smoothing": "random"},
        ["smoothing", "not of sigmoid", "leave one of them out"],
    ),
    "beta decay of dirichlet": (
        {"relaxation": "dirichlet", "beta_decay": 1.0},
        ["beta_decay", "not on dirichlet", "leave one of them out"],
    ),
    "scheduled beta decay of sigmoid": (
        {"relaxation": "sigmoid", "beta_decay": [0, 50]},
        ["beta_decay", "not on sigmoid", "leave one of them out"],
    ),
    "a budget and complexity": (
        {"budget": {"macs": "1G"}, "complexity": {"weight": 0.1}},
        ["budget takes the place of complexity", "leave one of them out"],
    ),
    "growth of an eigenvalue that is not measured": (
        {"stop": {"eigenvalue_growth": 1.3}, "eigenvalue_every": 0},
        ["stop.eigenvalue_growth", "set eigenvalue_every=1"],
    ),
    "an earlier genotype and perturbation": (
        {"stop": {"patience": 2}, "selection": "perturbation"},
        ["stop returns the genotype of an earlier epoch", "perturbation", "leave one of them out"],
    ),
    "random search and accumulation": (
        {"method": "random", "accumulate": 2},
        ["method=random", "leave accumulate and checkpointing out"],
    ),
    "random search and checkpointing": (
        {"method": "random", "checkpointing": True},
        ["method=random", "leave accumulate and checkpointing out"],
    ),
    "a surrogate and accumulation": (
        {"method": "surrogate", "accumulate": 2},
        ["method=surrogate", "leave accumulate and checkpointing out"],
    ),
    "a surrogate and checkpointing": (
        {"method": "surrogate", "checkpointing": True},
        ["method=surrogate", "leave accumulate and checkpointing out"],
    ),
    "a surrogate and several searches": (
        {"method": "surrogate", "repeats": 2},
        ["repeats", "needs method=gradient"],
    ),
}
OF_THE_GRADIENT = {
    "relaxation": "gumbel",
    "order": "single",
    "selection": "perturbation",
    "alpha_statistics": "running",
    "architecture": 0.5,
    "complexity": {"weight": 0.5},
    "beta_decay": 1.0,
    "smoothing": "random",
    "alphas": {"rate": 0.5},
    "stop": {"patience": 2},
}


def by_gradient(**settings):
    """The configuration of a search by gradient, unless another method is given."""
    return read_config(SearchConfig, BY_GRADIENT | settings)


def refusal(settings, ground=BY_GRADIENT):
    """The one line with which settings are refused: in a search by gradient, unless they say another method."""
    with pytest.raises(ManasError) as error:
        read_config(SearchConfig, ground | settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("case", CONFLICTS)
def test_what_excludes_each_other(case):
    settings, says = CONFLICTS[case]
    message = refusal(settings)
    for part in says:
        assert part in message


@pytest.mark.parametrize("case", CONFLICTS)
def test_it_is_the_pair_that_is_refused(case):
    settings, _ = CONFLICTS[case]
    pair = [name for name in settings if name != "weights"]
    for left_out in pair if len(pair) > 1 else ():
        by_gradient(**{name: given for name, given in settings.items() if name != left_out})


def test_second_order_without_clipping():
    assert by_gradient(order="second", **NO_CLIP).weights.clip is None


class TestWithoutAMethod:
    """A search without options is one by a surrogate in `frontier`."""

    def test_what_is_searched_and_how(self):
        config = read_config(SearchConfig, None)
        assert config.method == SurrogateConfig()
        assert config.space == load_space("frontier")

    @pytest.mark.parametrize("method", [None, "surrogate", {"kind": "surrogate"}, SurrogateConfig()], ids=str)
    def test_a_surrogate_has_few_long_trainings(self, method):
        settings = {"method": method} if method else {}
        config = read_config(SearchConfig, settings)
        assert (config.epochs, config.steps, config.alpha_share) == (24, 150, 0.25)
        config = read_config(SearchConfig, settings | {"steps": 7})
        assert (config.epochs, config.steps) == (24, 7)

    @pytest.mark.parametrize("method", ["gradient", "random", "evolution"])
    def test_other_methods_have_epochs_of_their_own(self, method):
        config = read_config(SearchConfig, {"method": method})
        assert (config.epochs, config.steps) == (10, 40)

    @pytest.mark.parametrize("name", OF_THE_GRADIENT)
    def test_it_has_no_alphas(self, name):
        message = refusal({name: OF_THE_GRADIENT[name]}, ground={})
        assert f"method=surrogate has no alphas, so {name} would have no effect" in message


@pytest.mark.parametrize("method", ["random", "evolution", "surrogate"])
@pytest.mark.parametrize("name", OF_THE_GRADIENT)
def test_a_baseline_has_no_alphas(method, name):
    message = refusal({"method": method, name: OF_THE_GRADIENT[name]})
    assert f"method={method} has no alphas, so {name} would have no effect; leave it out" in message
    assert "or set method=gradient" in message
    by_gradient(**{name: OF_THE_GRADIENT[name]})


def test_all_that_a_baseline_has_no_use_for_is_named_at_once():
    message = refusal({"method": "random", "order": "single", "alphas": {"rate": 1.0}})
    assert "so order, alphas would have no effect" in message


def test_what_is_given_as_it_is_by_default_is_no_conflict():
    """A resolved configuration holds every field."""
    for method in ("random", "evolution", "surrogate"):
        given = read_config(SearchConfig, {"method": method}).model_dump(mode="json")
        assert read_config(SearchConfig, given) == read_config(SearchConfig, {"method": method})
    by_gradient(budget={"macs": "1G"}, complexity={"weight": 0.01, "metric": "macs"})


@pytest.mark.parametrize("method", ["random", "evolution", "surrogate"])
def test_a_baseline_measures_no_eigenvalue(method):
    assert "eigenvalue_every" in refusal({"method": method, "eigenvalue_every": 3})


def test_the_warmup_of_random_search_has_an_effect():
    """All trainings cost what the search by gradient with the same configuration would: warm-up included."""
    read_config(SearchConfig, {"method": "random", "warmup": 0.5})


def test_the_warmup_of_a_surrogate_has_none():
    assert "so warmup would have no effect" in refusal({"method": "surrogate", "warmup": 0.5})


def test_resting_alphas_without_a_step_in_which_they_would_rest():
    message = refusal({"selection": {"kind": "perturbation", "tune_steps": 0, "alphas": "rest"}})
    assert "alphas=rest has no effect" in message


def test_ascents_of_random_smoothing():
    refusal({"smoothing": {"kind": "random", "ascents": 3}})


@pytest.mark.parametrize("method", ["random", "evolution", "surrogate"])
def test_the_rate_of_a_budget_without_alphas(method):
    refusal({"method": method, "budget": {"macs": "1G", "rate": 0.5}})


def test_a_share_of_skips_in_a_space_that_offers_none():
    message = refusal({"stop": {"skip_share": 0.5}, "space": space_of(["none", "cbam"])})
    assert "skip_connect" in message


def space_of(gates):
    return tower(attention={"gates": gates}).model_dump(mode="json")


class TestShorthand:
    @pytest.mark.parametrize(
        ("key", "name", "expected"),
        [
            ("relaxation", "softmax", Softmax()),
            ("relaxation", "gumbel", Gumbel()),
            ("relaxation", "dirichlet", Dirichlet()),
            ("relaxation", "sigmoid", Sigmoid()),
            ("method", "gradient", GradientConfig()),
            ("method", "random", RandomConfig()),
            ("method", "evolution", EvolutionConfig()),
            ("method", "surrogate", SurrogateConfig()),
            ("selection", "argmax", ArgmaxConfig()),
            ("selection", "perturbation", PerturbationConfig()),
            ("smoothing", "random", SmoothingConfig()),
            ("smoothing", "adversarial", SmoothingConfig(kind="adversarial")),
        ],
    )
    def test_a_name_is_the_part_with_its_defaults(self, key, name, expected):
        ground = {} if key == "method" else BY_GRADIENT
        by_name = read_config(SearchConfig, ground, [f"{key}={name}"])
        assert getattr(by_name, key) == expected
        assert by_name == read_config(SearchConfig, ground, [f"{key}.kind={name}"])
        assert by_name == read_config(SearchConfig, ground | {key: {"kind": name}})

    def test_a_part_in_part_keeps_the_default_kind(self):
        in_part = read_config(SearchConfig, BY_GRADIENT, ["relaxation.temperature=[2, 0.5]"])
        assert in_part.relaxation == Softmax(temperature=(2.0, 0.5))
        assert by_gradient(smoothing={"radius": 0.1}).smoothing == SmoothingConfig(radius=0.1)

    def test_names_that_are_none(self):
        for key, known in (("relaxation", "gumbel"), ("method", "evolution"), ("selection", "perturbation")):
            message = refusal({key: "gumble"})
            assert key in message
            assert "'gumble'" in message
            assert f"'{known}'" in message
        assert "'random' or 'adversarial'" in refusal({"smoothing": "adverse"})

    @pytest.mark.parametrize(
        ("settings", "key", "near"),
        [
            ({"relaxation": {"kind": "sigmoid", "zero_on": 1}}, "zero_on", "zero_one"),
            ({"method": {"kind": "evolution", "evalutions": 3}}, "method.evalutions", "evaluations"),
            ({"method": {"kind": "surrogate", "draw": 0.5}}, "method.draw", "drawn"),
            ({"selection": {"kind": "perturbation", "tune_step": 3}}, "selection.tune_step", "tune_steps"),
        ],
    )
    def test_unknown_keys_of_a_part(self, settings, key, near):
        message = refusal(settings)
        assert next(iter(settings)) in message
        assert f"unknown key '{key}'" in message
        assert f"did you mean '{near}'?" in message

    @pytest.mark.parametrize(
        "settings",
        [
            {"relaxation": {"kind": "gumbel", "temperature": 0}},
            {"relaxation": {"kind": "softmax", "temperature": [1, 0]}},
            {"relaxation": {"kind": "dirichlet", "anchor": -1}},
            {"relaxation": {"kind": "dirichlet", "distance": "l1"}},
            {"relaxation": {"kind": "sigmoid", "zero_one": -1}},
            {"relaxation": {"kind": "sigmoid", "temperature": 1}},
            {"method": {"kind": "random", "candidates": 0}},
            {"method": {"kind": "surrogate", "drawn": 0}},
            {"method": {"kind": "surrogate", "drawn": 1.1}},
            {"selection": {"kind": "perturbation", "tune_steps": -1}},
            {"smoothing": {"radius": -0.1}},
            {"smoothing": {"kind": "adversarial", "ascents": 0}},
            {"beta_decay": -1},
            {"stop": {"eigenvalue_growth": 1}},
            {"stop": {"skip_share": 0}},
            {"stop": {"patience": 0}},
            {"stop": {"eigenvalue_lag": 3}},
            {"stop": {"eigenvalue_growth": 1.3, "eigenvalue_rule": "other"}},
            {"order": "third"},
            {"eigenvalue_every": -1},
            {"accumulate": 0},
        ],
    )
    def test_values_out_of_range(self, settings):
        assert next(iter(settings)) in refusal(settings)


class Squared(Relaxation):
    """A relaxation of one's own: w = softmax(power alpha^2)."""

    power: float = 1.0

    def logits(self, choice):
        return self.power * choice.alpha.square()


class TestARelaxationOfOnesOwn:
    PATH = f"{__name__}:Squared"

    def test_it_is_named_by_its_path_and_reads_back(self, tmp_path):
        config = search_config(relaxation={"kind": self.PATH, "power": 2})
        assert config.relaxation == Squared(power=2)
        again = read_config(SearchConfig, write_yaml(tmp_path / "c.yaml", config.model_dump(mode="json")))
        assert again == config
        assert again.relaxation.kind == self.PATH

    def test_its_facts_say_what_it_cannot_stand_beside(self):
        assert "beta_decay" in refusal({"relaxation": self.PATH, "beta_decay": 1})
        assert "smoothing" in refusal({"relaxation": self.PATH, "smoothing": "random"})

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            (f"{__name__}:Missing", "cannot import the relaxation"),
            (f"{__name__}:CONFLICTS", "is no Relaxation"),
            ("nothing.here:Squared", "cannot import the relaxation"),
        ],
    )
    def test_what_is_none_is_refused(self, kind, said):
        assert said in refusal({"relaxation": kind})

    def test_it_searches(self, tmp_path):
        config = search_config(run=str(tmp_path / "run"), relaxation=self.PATH)
        genotype = manas.search(config)
        assert set(genotype.choices) == set(config.space.choices())
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert any(json.loads(line).get("alphas/gradient", 0) > 0 for line in lines)


class TestReadsBack:
    """Whatever is valid: the config.yaml of its run is the same configuration."""

    def back(self, config, folder):
        RunDirectory(config, str(folder), ALONE, resume=False, overwrite=False).open()
        return read_config(SearchConfig, folder / "config.yaml")

    def test_every_relaxation_order_and_selection(self, tmp_path):
        parts = itertools.product(RELAXATIONS, ("first", "second", "single"), ("argmax", "perturbation"))
        seen = set()
        for n, (relaxation, order, selection) in enumerate(parts):
            config = search_config(relaxation=relaxation, order=order, selection=selection, **NO_CLIP)
            assert self.back(config, tmp_path / str(n)) == config
            seen.add((config.relaxation.kind, config.order, config.selection.kind))
        assert len(seen) == 24

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"method": "random"},
            {"method": {"kind": "random", "candidates": 3}, "budget": {"latency": "40ms"}},
            {"method": {"kind": "evolution", "evaluations": 9, "population": 3, "tournament": 2}},
            {"method": {"kind": "surrogate", "drawn": 1}, "budget": {"macs": "2.0G"}},
            {"relaxation": {"kind": "softmax", "temperature": [5, 0.1]}, "smoothing": "adversarial"},
            {"smoothing": {"kind": "adversarial", "radius": [0, 0.25], "ascents": 2}},
            {"relaxation": {"kind": "gumbel", "temperature": 2}, "beta_decay": [0, 50]},
            {"relaxation": {"kind": "dirichlet", "anchor": 0.0, "distance": "kl"}},
            {"relaxation": {"kind": "sigmoid", "zero_one": 0}},
            {"budget": {"macs": "2.0G", "size": [64, 96], "spend": 0.5, "rate": 0.2}},
            {"budget": {"parameters": "1.5M"}},
            {"budget": {"latency": 0.04}},
            {"complexity": {"metric": "latency", "weight": 0.0}},
            {"stop": {"eigenvalue_growth": 1.3, "eigenvalue_window": 3, "eigenvalue_lag": 2}},
            {"stop": {"eigenvalue_growth": 1.3, "eigenvalue_rule": "published"}},
            {"stop": {"skip_share": 0.5, "patience": 3}},
            {"accumulate": 2, "checkpointing": True, "precision": "bf16", "alpha_statistics": "running"},
            {"correlation": 8},
            {"correlation": {"architectures": 5, "steps": 9, "seeds": 3}},
            {"eigenvalue_every": 0, "beta_decay": 1.5},
        ],
    )
    def test_whatever_else_is_set(self, changes, tmp_path):
        config = search_config(**changes)
        again = self.back(config, tmp_path)
        assert again == config
        assert again.model_dump() == config.model_dump()

    def test_the_short_and_the_whole_form_are_one_run(self, tmp_path):
        """So that a run which was started by the one can be resumed by the other."""
        forms = ({"relaxation": "gumbel"}, {"relaxation": {"kind": "gumbel", "temperature": [10, 0.1]}})
        texts = []
        for n, form in enumerate(forms):
            given = BY_GRADIENT | form | {"space": tower().model_dump(mode="json")}
            path = write_yaml(tmp_path / f"{n}.yaml", given)
            config = read_config(SearchConfig, path)
            self.back(config, tmp_path / str(n))
            texts.append((tmp_path / str(n) / "config.yaml").read_text())
        assert texts[0] == texts[1]


def test_when_the_alphas_begin():
    config = search_config(epochs=4, steps=5, warmup=0.25)
    assert (config.total_steps, config.first_alpha_step) == (20, 5)
    assert search_config(warmup=0).first_alpha_step == 0
