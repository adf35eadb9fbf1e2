"""The search by a surrogate as a whole: what it trains, what it makes of what is broken, and what it tells."""

import math
import random
from collections import Counter

import pytest
import torch
from searching.plainly import plainly
from training.tiny_runs import genotype_of, identical, merged, search_config

import manas
from manas.cost.architectures import Architectures
from manas.cost.selection import starved_nodes
from manas.reporting.report.page import write_report
from manas.searching.alone import TrainingAlone
from manas.searching.surrogate import Belief
from manas.searching.surrogate_search import SurrogateSearch
from manas.training.checkpoint import load_checkpoint

SETTINGS = {
    "space": {"attention": {"groups": 2, "gates": ["none", "skip_connect", "channel_attention"]}},
    "method": {"kind": "surrogate", "drawn": 0.5},
    "budget": {"parameters": 1095},
    "epochs": 6,
    "steps": 2,
    "seed": 3,
    "data": {"validation_images": 1},
}
DRAWN = 3


def config(path, **changes):
    return search_config(**merged(SETTINGS, changes), run=str(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory, the architectures of the searching process, and each network's start and batches."""
    path, trainings = tmp_path_factory.mktemp("surrogate") / "run", []
    begin, step = SurrogateSearch.begin_epoch, SurrogateSearch.weight_step

    def watched_begin(self, epoch, progress):
        begin(self, epoch, progress)
        start = [p.detach().clone() for p in self.training.network.parameters()]
        trainings.append({"search": self, "start": start, "batches": []})

    def watched_step(self, network, descent, batch, done):
        trainings[-1]["batches"].append((batch.clean, batch.degraded))
        return step(self, network, descent, batch, done)

    with plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SurrogateSearch, "begin_epoch", watched_begin)
        patch.setattr(SurrogateSearch, "weight_step", watched_step)
        manas.search(config(path))
    return path, trainings


def searched(path, monkeypatch, scores, **changes):
    """The genotype, architectures and scores of a search whose trainings score as told, by their number."""
    told = iter(range(100))
    monkeypatch.setattr(TrainingAlone, "score", lambda self: scores(next(told), self.network))
    with plainly():
        genotype = manas.search(config(path, **changes))
    state = load_checkpoint(path / "checkpoint.pt")
    return genotype, state["tried"], state["scores"]


class TestTrainings:
    def test_the_first_are_the_random_ones_of_the_seed(self, run):
        path, trainings = run
        architectures = trainings[0]["search"].architectures
        expected = [architectures.sample(random.Random(f"3/{n}")) for n in range(DRAWN)]
        tried = load_checkpoint(path / "checkpoint.pt")["tried"]
        assert len(tried) == 6
        assert tried[:DRAWN] == expected

    def test_every_one_keeps_to_the_budget_and_its_nodes_have_inputs(self, run):
        path, trainings = run
        table, space = trainings[0]["search"].architectures.table, config(path).space
        assert table.dearest() > 1.1 * 1095
        for choices in load_checkpoint(path / "checkpoint.pt")["tried"]:
            space.check(choices)
            assert not starved_nodes(space.forks(), choices)
            assert 0.9 * 1095 <= table.exact(choices) <= 1095

    def test_each_has_a_start_of_its_own_and_sees_the_same(self, run):
        _, trainings = run
        first, *others = (each["start"][0] for each in trainings)  # of the stem, before any fork
        assert not any(torch.equal(first, other) for other in others)
        assert all(len(each["batches"]) == 2 for each in trainings)
        assert all(identical(each["batches"], trainings[0]["batches"]) for each in trainings)

    def test_it_goes_where_scores_are_high(self, tmp_path, monkeypatch):
        """Of candidates that are worth the more the more parameters they have."""

        def size(number, network):
            return sum(p.numel() for p in network.parameters()) / 100

        options = {"budget": None, "epochs": 12, "steps": 1, "method": {"drawn": 0.5}}
        genotype, tried, scores = searched(tmp_path, monkeypatch, size, **options)
        assert min(scores[-3:]) > sum(scores[:6]) / 6
        assert genotype.choices == tried[scores.index(max(scores))]


class TestResult:
    def test_the_genotype_is_one_that_was_trained(self, run):
        path, trainings = run
        genotype, state = genotype_of(path), load_checkpoint(path / "checkpoint.pt")
        number = genotype.provenance["candidate"]
        assert genotype.choices == state["tried"][number]
        assert genotype.provenance["psnr"] == state["scores"][number]
        belief = trainings[0]["search"].belief()
        assert number == max(range(6), key=lambda n: belief.score(state["tried"][n]))

    def test_every_fork_on_its_path_has_a_reason(self, run):
        genotype = genotype_of(run[0])
        decided = genotype.provenance["decided_by"]
        assert decided.keys() == genotype.choices.keys()
        assert set(decided.values()) <= {"the data", "nothing", "other losses"}

    def test_a_clear_effect_is_decided_by_the_data(self, tmp_path, monkeypatch):
        """That of one candidate wherever it stands, which the number of its layers tells."""

        def score(number, network):
            layers = Counter(type(module).__name__ for module in network.modules())
            return 20.0 + 3 * layers["ChannelGate"]

        options = {"budget": None, "epochs": 16, "steps": 1}
        genotype, _, scores = searched(tmp_path, monkeypatch, score, **options)
        assert len(set(scores)) > 2
        decided = genotype.provenance["decided_by"]
        by_name = {genotype.choices[label] for label, reason in decided.items() if reason == "the data"}
        assert by_name == {"channel_attention"}

    def test_the_report_has_its_title(self, run):
        assert "Search of multi_scale_attentive by a surrogate" in write_report(run[0]).read_text()


class TestBrokenTrainings:
    def test_what_has_diverged_is_not_chosen(self, tmp_path, monkeypatch):
        """Not even where the model holds it for as good as all others."""
        monkeypatch.setattr(Belief, "score", lambda self, choices: 0.0)

        def score(number, network):
            return 20.0 if number else math.nan

        genotype, tried, scores = searched(tmp_path, monkeypatch, score)
        assert math.isnan(scores[0])
        assert not any(map(math.isnan, scores[1:]))
        assert (genotype.choices, genotype.provenance["candidate"]) == (tried[1], 1)

    @pytest.mark.parametrize("broken", [math.nan, -math.inf])
    def test_it_is_a_little_worse_than_all_others(self, run, broken, monkeypatch):
        search, levels = run[1][0]["search"], {}
        for name, last in (("broken", broken), ("worse", 19.0), ("perfect", math.inf), ("better", 26.0)):
            monkeypatch.setattr(search, "scores", [20.0, 25.0, 21.0, 22.0, 23.0, last])
            levels[name] = search.belief().residuals
        assert levels["broken"] == pytest.approx(levels["worse"])
        assert levels["perfect"] == pytest.approx(levels["better"])

    def test_a_search_in_which_all_diverge_comes_to_an_end(self, tmp_path, monkeypatch):
        genotype, tried, _ = searched(tmp_path, monkeypatch, lambda *_: math.nan)
        assert genotype.choices in tried

    def test_a_network_without_weights_is_scored_as_it_is(self, known_answer, pairs, tmp_path, monkeypatch):
        nothing = dict.fromkeys(known_answer.RIGHT, "skip_connect")
        monkeypatch.setattr(Architectures, "sample", lambda self, rng: dict(nothing))
        settings = {"method": "surrogate", "epochs": 3, "steps": 2, "log_every": 1}
        with plainly():
            genotype = manas.search(known_answer.config(pairs, tmp_path / "run", 0, **settings))
        state = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
        assert state["tried"][:2] == [nothing] * 2
        assert state["scores"][0] == state["scores"][1] > 0
        assert genotype.choices in state["tried"]
