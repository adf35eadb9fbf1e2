"""The search by a surrogate as a whole: which architectures it trains, how, and what it says of them."""

import itertools
import math
import random

import pytest
import torch
from pydantic import ValidationError
from searching.plainly import plainly
from training.tiny_runs import genotype_of, identical, merged, search_config, search_settings

import manas
from manas.architecture.genotype import Genotype
from manas.commands.main import _front
from manas.config import read_config
from manas.cost.architectures import Architectures
from manas.cost.counting import cost_table
from manas.errors import ManasError
from manas.reporting.report.page import write_report
from manas.searching.alone import TrainingAlone
from manas.searching.config import SearchConfig
from manas.searching.surrogate_search import SurrogateSearch
from manas.training.checkpoint import load_checkpoint
from manas.training.distributed import Process
from manas.training.run import RunDirectory
from search_spaces.blocks import BLOCKS
from search_spaces.frontier import Frontier

ALONE = Process(0, 1, torch.device("cpu"))

SEARCH = {
    "space": {
        "attention": {"groups": 1, "gates": ["none", "skip_connect", "sep_conv_3x3", "channel_attention"]}
    },
    "method": {"kind": "surrogate", "drawn": 0.5},
    "epochs": 8,
    "steps": 2,
    "data": {"validation_images": 1},
}
BUDGET = {"macs": 150_000, "spend": 0.5}  # which half of the 18 architectures keep to
COLUMN, LEFT, RIGHT = "cell0/column0", "cell0/branch0/node0/input", "cell0/branch1/node0/input"


@pytest.fixture(autouse=True)
def _plainly():
    with plainly():
        yield


def config(path, **changes):
    return search_config(**merged(SEARCH, changes), run=str(path))


def end_of(path):
    """The architectures that were tried, and their scores."""
    state = load_checkpoint(path / "checkpoint.pt")
    return state["tried"], state["scores"]


@pytest.fixture
def told(monkeypatch):
    """A function that lets trainings score what it says of their number and their choices."""

    def told(score):
        def scored(self):
            return score(len(self.method.tried) - 1, self.method.tried[-1])

        monkeypatch.setattr(TrainingAlone, "score", scored)

    return told


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """The run directory of a search within a budget; of each training the first weights and the batches."""
    path, trainings, step = tmp_path_factory.mktemp("surrogate") / "run", [], SurrogateSearch.weight_step

    def watched(self, network, descent, batch, progress):
        if progress == 0:
            trainings.append({"stem": next(network.parameters()).detach().clone(), "batches": []})
        trainings[-1]["batches"].append(batch.clean)
        return step(self, network, descent, batch, progress)

    with plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SurrogateSearch, "weight_step", watched)
        manas.search(config(path, budget=BUDGET))
    return path, trainings


class TestTrainings:
    def test_the_first_are_the_random_ones_of_the_seed(self, search):
        given = config(search[0], budget=BUDGET)
        architectures = Architectures(given.space, cost_table(given.space, "macs", given.input), given.budget)
        drawn = [architectures.sample(random.Random(f"{given.seed}/{number}")) for number in range(4)]
        assert end_of(search[0])[0][:4] == drawn

    def test_all_keep_to_the_budget(self, search):
        files = sorted((search[0] / "genotypes").iterdir())
        assert [file.stem for file in files] == [f"candidate_000{number}" for number in range(8)]
        assert [Genotype.read(file).choices for file in files] == end_of(search[0])[0]
        assert all(75_000 <= Genotype.read(file).provenance["macs"] <= 150_000 for file in files)

    def test_each_begins_with_weights_of_its_own_and_sees_the_same(self, search):
        _, trainings = search
        assert len(trainings) == 8
        for one, other in itertools.combinations(trainings, 2):
            assert not torch.equal(one["stem"], other["stem"])
            seen = min(len(one["batches"]), len(other["batches"]))
            assert identical(one["batches"][:seen], other["batches"][:seen])

    def test_the_last_ones_are_longer(self, search):
        assert [len(training["batches"]) for training in search[1]] == 6 * [2] + 2 * [6]

    def test_one_without_weights_is_judged_as_it_is(self, known_answer, pairs, tmp_path, monkeypatch):
        plain = dict.fromkeys(known_answer.RIGHT, "skip_connect")
        monkeypatch.setattr(SurrogateSearch, "propose", lambda self, number: plain)
        settings = {"method": "surrogate", "epochs": 3, "steps": 10}
        genotype = manas.search(known_answer.config(pairs, tmp_path / "run", 0, **settings))
        assert genotype.choices == plain
        assert len(set(end_of(tmp_path / "run")[1])) == 1


class TestResult:
    def test_it_is_an_architecture_that_was_trained_with_what_is_known_of_it(self, search):
        path, _ = search
        genotype, (tried, scores) = genotype_of(path), end_of(path)
        number = genotype.provenance["candidate"]
        assert genotype.choices == tried[number]
        assert genotype.provenance["psnr"] == scores[number]
        assert genotype.provenance["decided_by"].keys() == genotype.choices.keys()
        assert set(genotype.provenance["decided_by"].values()) <= {"the data", "a limit", "nothing"}
        lead, choices, *_ = genotype.provenance["verdict"]
        assert "by the scores of 8 trainings it is " in lead
        reached = f"{min(scores[:4]):.2f} to {max(scores[:4]):.2f} dB after 2 steps"
        assert f"were drawn at random, which reached {reached}" in lead
        assert choices.startswith("of 3 choices, each taken alone, the data decided")

    def test_the_title_of_its_report(self, search):
        text = write_report(search[0]).read_text(encoding="utf-8")
        assert "<h1>Search of multi_scale_attentive by a surrogate</h1>" in text

    def test_scores_that_are_a_sum_lead_to_the_best(self, told, tmp_path):
        """One of 18, of which four are drawn; the column makes no difference, and nobody says that it does."""
        told(
            lambda number, choices: (
                30 + 2 * (choices[LEFT] == "sep_conv_3x3") - (choices[RIGHT] == "skip_connect")
            )
        )
        genotype = manas.search(config(tmp_path, epochs=16, method={"drawn": 0.25, "finals": 0}))
        assert genotype.choices[LEFT] == "sep_conv_3x3"
        assert genotype.choices[RIGHT] != "skip_connect"
        assert genotype.provenance["decided_by"][LEFT] == "the data"
        assert genotype.provenance["decided_by"][COLUMN] != "the data"
        assert genotype.provenance["verdict"][0].startswith("decided: by the scores of 16 trainings")
        chosen = end_of(tmp_path)[0][4:]
        assert sum(choices[LEFT] == "sep_conv_3x3" for choices in chosen) > len(chosen) / 2

    def test_scores_that_are_luck_decide_nothing(self, told, tmp_path):
        told(lambda number, choices: random.Random(number).gauss(30, 1))
        genotype = manas.search(config(tmp_path))
        lead, choices, *_ = genotype.provenance["verdict"]
        assert lead.startswith("undecided: ")
        assert lead.endswith("search with more epochs, or longer ones")
        assert choices.startswith("of 3 choices, each taken alone, the data decided 0, ")


class TestLong:
    def test_what_learns_fast_is_not_what_is_chosen(self, told, tmp_path):
        """Short trainings are for a convolution, the six long ones against it."""
        sign = {number: -1 if number >= 18 else 1 for number in range(24)}
        told(lambda number, choices: 30 + 3 * sign[number] * (choices[LEFT] == "sep_conv_3x3"))
        genotype = manas.search(config(tmp_path, epochs=24))
        assert sum(choices[LEFT] == "sep_conv_3x3" for choices in end_of(tmp_path)[0][12:18]) >= 4
        assert genotype.choices[LEFT] != "sep_conv_3x3"
        assert genotype.provenance["candidate"] >= 18

    def test_one_with_a_short_training_is_not_chosen(self, told, tmp_path):
        told(lambda number, choices: 40.0 if number == 3 else 30.0)
        assert manas.search(config(tmp_path)).provenance["candidate"] in (6, 7)

    def test_without_finals_all_are_of_one_length(self, told, tmp_path):
        told(lambda number, choices: 40.0 if number == 3 else 30.0)
        genotype = manas.search(config(tmp_path, method={"finals": 0}))
        assert genotype.provenance["candidate"] == 3


FRONTIER = {
    "space": {"kind": "frontier", "stages": 3, "width": 8, "optional": True},
    "method": {"kind": "surrogate"},
}
BY_HAND = Frontier(stages=3, width=8, optional=True).by_hand()


class TestByHand:
    def choices(self, tmp_path, **changes):
        settings = search_settings(**SEARCH) | FRONTIER | {"run": str(tmp_path)}
        manas.search(SearchConfig.model_validate(merged(settings, changes)))
        return end_of(tmp_path)[0]

    def test_the_search_begins_with_them_in_long_trainings(self, told, tmp_path):
        steps = []
        told(lambda number, choices: 30.0)
        with pytest.MonkeyPatch.context() as patch:
            whole = TrainingAlone.__init__

            def watched(self, method, choices, count, **more):
                steps.append(count)
                whole(self, method, choices, count, **more)

            patch.setattr(TrainingAlone, "__init__", watched)
            assert self.choices(tmp_path)[:3] == list(BY_HAND.values())
        assert steps == 3 * [6] + 3 * [2] + 2 * [6]

    def test_one_may_be_chosen(self, told, tmp_path):
        told(lambda number, choices: 40.0 if number == 1 else 30.0)
        self.choices(tmp_path)
        assert genotype_of(tmp_path).choices == BY_HAND["U-Net"]

    def test_they_are_cut_to_the_budget(self, told, tmp_path):
        told(lambda number, choices: 30.0)
        space = Frontier(stages=3, width=8, optional=True)
        macs = cost_table(space, "macs", (3, 16, 16))
        limit = 0.9 * macs.exact(BY_HAND["RCAN"])
        tried = self.choices(tmp_path, budget={"macs": limit, "size": [16, 16], "spend": 0})
        assert [tried[0][f"stage{n}/full"] for n in range(3)].count("blocks") == 2
        assert all(BY_HAND["RCAN"].get(label) == name or name == "none" for label, name in tried[0].items())

    def test_of_a_front_the_best_follows_within_the_larger_budgets(self, told, tmp_path):
        told(lambda number, choices: 40.0 if number == 2 else 30.0)
        space = Frontier(stages=3, width=8, optional=True)
        table = cost_table(space, "macs", (3, 16, 16))
        costs = [table.exact(BY_HAND["NAFNet"]) * share for share in (0.7, 0.85, 1.0)]
        tried = self.choices(tmp_path, epochs=11, front={"macs": costs, "size": [16, 16]})
        kinds = [{name for name in choices.values() if name in BLOCKS} for choices in tried[:5]]
        assert kinds[2:] == 3 * [{"naf"}]
        spent = [table.exact(choices) for choices in tried[2:5]]
        assert all(cost <= limit * 1.000001 for cost, limit in zip(spent, costs, strict=True))
        assert spent[0] < spent[2] == pytest.approx(costs[2])

    def test_they_can_be_left_out(self, told, tmp_path):
        told(lambda number, choices: 30.0)
        tried = self.choices(tmp_path, method={"by_hand": False})
        assert not any(choices in tried for choices in BY_HAND.values())

    @pytest.mark.parametrize(("epochs", "known"), [(2, 0), (3, 0), (4, 1), (5, 2), (6, 2), (7, 3)])
    def test_in_a_short_search_there_are_fewer(self, told, tmp_path, epochs, known):
        told(lambda number, choices: 30.0)
        tried = self.choices(tmp_path, epochs=epochs)
        assert [choices in BY_HAND.values() for choices in tried[: known + 1]] == known * [True] + [False]


class TestDiverged:
    def test_what_makes_trainings_diverge_is_avoided(self, told, tmp_path):
        told(lambda number, choices: math.nan if choices[LEFT] == "sep_conv_3x3" else 30.0)
        genotype = manas.search(config(tmp_path, epochs=12))
        tried, scores = end_of(tmp_path)
        assert any(math.isnan(score) for score in scores[:6])
        assert sum(math.isnan(score) for score in scores[6:]) <= 1
        assert genotype.choices[LEFT] != "sep_conv_3x3"
        assert not any("nan" in sentence for sentence in genotype.provenance["verdict"])

    @pytest.mark.parametrize("broken", [math.nan, -math.inf])
    def test_it_counts_as_a_little_worse_than_all_others(self, broken, tmp_path):
        """And one that is perfect, of infinite PSNR, as a little better."""
        given = config(tmp_path)
        directory = RunDirectory(given, str(tmp_path), ALONE, resume=False, overwrite=False)
        search = SurrogateSearch(given, ALONE, directory)
        search.tried = [search.architectures.sample(random.Random(number)) for number in range(4)]

        def believed(last):
            search.scores = [20.0, 25.0, 21.0, last]
            return search.belief(long=False).residuals

        assert believed(broken) == pytest.approx(believed(19.0))
        assert believed(math.inf) == pytest.approx(believed(26.0))

    def test_one_that_diverged_is_not_chosen_though_the_model_likes_it(self, told, tmp_path):
        """The first two are of the best architecture; only the second of them came to an end."""
        best = {COLUMN: "fusion", LEFT: "sep_conv_3x3", RIGHT: "sep_conv_3x3"}
        told(lambda number, choices: 30.0 + 5 * (choices == best) if number else math.nan)
        with pytest.MonkeyPatch.context() as patch:
            sample = Architectures.sample
            first = iter([best, best])
            patch.setattr(Architectures, "sample", lambda self, rng: next(first, None) or sample(self, rng))
            genotype = manas.search(config(tmp_path))
        assert math.isfinite(genotype.provenance["psnr"])

    def test_if_all_have_diverged_the_search_ends_all_the_same(self, told, tmp_path):
        told(lambda number, choices: math.nan)
        genotype = manas.search(config(tmp_path, epochs=4))
        assert genotype.choices in end_of(tmp_path)[0]
        assert genotype.provenance["verdict"][0].startswith("undecided: ")


LIMITS = (100_000, 150_000)


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """The run directory of one search for two budgets."""
    path = tmp_path_factory.mktemp("front") / "run"
    with plainly():
        manas.search(config(path, front={"macs": list(LIMITS[::-1])}))
    return path


class TestFront:
    def test_each_budget_has_a_genotype_that_keeps_to_it(self, front):
        genotype = genotype_of(front)
        for limit, entry in zip(LIMITS, genotype.provenance["front"], strict=True):
            found = Genotype.read(front / "genotypes" / f"{entry['genotype']}.json")
            assert entry["genotype"] == f"front_{limit // 1000}k"
            assert found.provenance["macs"] <= limit
            assert found.choices == end_of(front)[0][entry["candidate"]]
        assert genotype.choices == found.choices  # that of the largest budget

    def test_the_budgets_take_turns(self, front):
        tried = [Genotype.read(front / "genotypes" / f"candidate_000{n}.json") for n in range(8)]
        for number, genotype in enumerate(tried):
            assert genotype.provenance["macs"] <= LIMITS[number % 2]

    def test_what_is_said_is_said_of_each(self, front):
        verdict = genotype_of(front).provenance["verdict"]
        assert [sentence.split(":")[0] for sentence in verdict[:4]] == ["100 k MACs"] * 2 + ["150 k MACs"] * 2
        write_report(front)
        assert "blue: those chosen for the budgets" in (front / "report.html").read_text()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"front": {}}, "one budget at least"),
            ({"front": {"macs": ["1M"], "latency": ["3ms"]}}, "of one kind"),
            ({"front": {"macs": ["1M"]}, "budget": {"macs": "1M"}}, "takes the place of a budget"),
            ({"front": {"macs": ["1M"]}, "method": "random"}, "set method=surrogate"),
            ({"front": {"macs": [100]}}, "cannot be met"),
        ],
    )
    def test_a_front_that_cannot_be(self, changes, words, tmp_path):
        with pytest.raises((ManasError, ValidationError), match=words):
            manas.search(config(tmp_path / "run", **changes))

    def test_the_command_line_says_it_in_one_word(self):
        overrides = _front("macs=1M,2M")
        settings = read_config(SearchConfig, None, overrides)
        assert [budget.limit for budget in settings.budgets] == [1e6, 2e6]
        assert (settings.method.kind, settings.epochs, settings.steps) == ("surrogate", 24, 150)
