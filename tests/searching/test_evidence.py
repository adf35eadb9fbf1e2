"""The reasons of choices: sums against arrays, tests against scipy, equal candidates against a clear winner."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from searching.plainly import plainly
from torch import nn

import manas
from manas.architecture.choice import Choice
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax
from manas.searching.evidence import Evidence, Pull, read_evidence, write_evidence
from manas.searching.reasons import Reason, agreement, lead_reason, preference, sentence
from manas.searching.repeats import consensus

NAMES = ("a", "b", "c")


def choice(label, *names):
    return Choice(label, {name: nn.Identity() for name in names}, Softmax())


def pull(data, other=(0.0, 0.0, 0.0), error=0.0, steps=100):
    errors = tuple((error,) * len(data) for _ in data)
    names = NAMES[: len(data)]
    return Pull(
        names=names,
        steps=steps,
        data=tuple(data),
        other=tuple(other[: len(data)]),
        errors=errors,
        log_probabilities=(0.0,) * len(data),
    )


class TestSums:
    @pytest.fixture
    def gradients(self):
        """(20 steps) of a fork of three candidates that is reached in 15 of them, and of one of two."""
        rng = torch.Generator().manual_seed(0)
        reached = [torch.randn(3, generator=rng) if n % 4 else None for n in range(20)]
        return list(zip(reached, torch.randn(20, 2, generator=rng), strict=True))

    def test_means_and_errors_are_those_of_the_steps(self, gradients):
        evidence = Evidence([choice("x", *NAMES), choice("y", "a", "b")])
        for each in gradients:
            evidence.add(each, [None if g is None else 2 * g for g in each])
        pulls = evidence.pulls()
        for label, place, steps in (("x", 0, 15), ("y", 1, 20)):
            rows = np.array([each[place].numpy() for each in gradients if each[place] is not None])
            found = pulls[label]
            assert found.steps == steps == len(rows)
            assert found.data == pytest.approx(-rows.mean(0), abs=1e-5)
            assert found.other == pytest.approx(-2 * rows.mean(0), abs=1e-5)
            between = stats.sem(rows[:, 0] - rows[:, 1])
            assert found.errors[0][1] == pytest.approx(between, rel=1e-4)

    def test_a_broken_step_spoils_nothing(self, gradients):
        evidence = Evidence([choice("x", *NAMES), choice("y", "a", "b")])
        evidence.add(*[[torch.tensor([float("nan")] * 3), torch.tensor([float("inf"), 1.0])]] * 2)
        pulls = evidence.pulls()
        assert np.isfinite([*pulls["x"].data, *pulls["y"].data, *np.ravel(pulls["y"].errors)]).all()

    def test_the_sums_go_on_from_a_checkpoint_and_through_a_file(self, gradients, tmp_path):
        choices = [choice("x", *NAMES), choice("y", "a", "b")]
        whole, part, rest = (Evidence(choices) for _ in range(3))
        for number, each in enumerate(gradients):
            whole.add(each, each)
            (part if number < 7 else rest).add(each, each)
            if number == 6:
                rest.load_state(part.state())
        write_evidence(whole.pulls(), tmp_path)
        for label, found in read_evidence(tmp_path).items():
            assert found == whole.pulls()[label]
            assert found.data == pytest.approx(rest.pulls()[label].data, abs=1e-6)

    def test_a_folder_without_evidence_is_an_error(self, tmp_path):
        with pytest.raises(ManasError, match="evidence.json: cannot read"):
            read_evidence(tmp_path)


class TestReasons:
    @pytest.mark.parametrize("seed", range(20))
    def test_agreement_is_the_t_test_over_searches(self, seed):
        rng = np.random.default_rng(seed)
        rows = rng.normal([0.8, 0, -0.5], 0.6, (4, 3))
        pulls = [pull(row) for row in rows]
        p = [stats.ttest_1samp(rows[:, 0] - rows[:, k], 0).pvalue for k in (1, 2)]
        leads = rows[:, :1].mean() - rows[:, 1:].mean(0)
        expected = all(lead > 0 for lead in leads) and max(p) < 0.05 / 2
        assert (agreement(pulls, "a") is Reason.DATA) == expected

    def test_equal_candidates_are_undecided_in_19_of_20_searches(self):
        """Whatever luck is large: the winner is taken after the fact, as a search does."""
        rng = np.random.default_rng(0)
        decided = 0
        for _ in range(2000):
            rows = rng.normal(0, 1, (3, 2)) * rng.exponential(size=(3, 1))
            pulls = [pull(row, error=1e-3) for row in rows]
            decided += agreement(pulls, NAMES[rows.mean(0).argmax()]) is Reason.DATA
        assert decided / 2000 < 0.05

    def test_a_clear_winner_is_decided_in_19_of_20_searches(self):
        rng = np.random.default_rng(0)
        rows = rng.normal([5, 0], 0.5, (500, 3, 2))
        decided = [agreement([pull(row) for row in each], "a") is Reason.DATA for each in rows]
        assert np.mean(decided) > 0.95

    def test_one_search_tells_chance_but_not_luck(self):
        lucky = pull((1.0, 0.0), error=0.01)
        assert preference(lucky, "a") is Reason.DATA
        assert preference(pull((1.0, 0.0), error=0.6), "a") is Reason.NOTHING
        assert preference(pull((1.0, 0.0), error=0.01), "b") is Reason.NOTHING
        assert preference(pull((1.0, 0.0), steps=1), "a") is Reason.NOTHING
        assert preference(pull((0.0, 0.0)), "a") is Reason.NOTHING

    def test_other_losses_decide_where_they_outweigh_the_data(self):
        assert preference(pull((0.0, 1e-3), other=(2e-3, 0)), "a") is Reason.OTHER
        assert preference(pull((0.0, 1e-3), other=(5e-4, 0), error=1e-2), "a") is Reason.OTHER
        assert preference(pull((1e-3, 0.0), other=(5e-4, 0), error=1e-2), "a") is Reason.NOTHING
        assert agreement([pull((0.0, 0.1), other=(0.2, 0))] * 3, "a") is Reason.OTHER

    def test_a_fork_of_one_candidate_has_no_reason(self):
        assert preference(pull((0.3,)), "a") is Reason.NOTHING

    @pytest.mark.parametrize(
        ("leads", "reason"),
        [
            ([(2.0, 1.0)], Reason.DATA),  # 1.96 deviations are what chance explains
            ([(1.9, 1.0)], Reason.NOTHING),
            ([(2.1, 1.0), (2.1, 1.0)], Reason.NOTHING),  # 2.24 of two rivals
            ([(2.3, 1.0), (0.3, 0.1)], Reason.DATA),
            ([(9.0, 1.0), (0.1, 1.0)], Reason.NOTHING),
            ([(9.0, 1.0), (-0.1, 1.0)], Reason.LIMIT),
            ([(0.0, 0.0)], Reason.NOTHING),
            ([], Reason.NOTHING),
        ],
    )
    def test_leads_decide_where_each_is_more_than_chance(self, leads, reason):
        assert lead_reason(leads) is reason

    def test_the_best_of_equal_candidates_leads_by_chance_in_19_of_20_cases(self):
        """Over the two that are left, whose leads share the luck of the first."""
        scores = np.sort(np.random.default_rng(0).normal(size=(2000, 3)))
        leads = scores[:, 2:] - scores[:, :2]
        decided = [lead_reason([(lead, 2**0.5) for lead in each]) is Reason.DATA for each in leads]
        assert np.mean(decided) < 0.05

    def test_the_sentences(self):
        reasons = {"x": Reason.DATA, "y": Reason.OTHER, "z": Reason.NOTHING}
        assert sentence(reasons, 1).startswith("of 3 choices the data of this search preferred 1, other losses")
        assert sentence(reasons, 1).endswith("search with repeats=3 to know")
        assert sentence(reasons, 3) == (
            "over 3 searches the data decided 1 of 3 choices (x); "
            "other losses alone decided 1, nothing decided 1"
        )
        assert sentence({"y": Reason.OTHER}, 3).startswith("nothing was found")
        many = {f"f{n}": Reason.DATA for n in range(9)}
        assert "(f0, f1, f2, f3, f4, f5, and 3 more)" in sentence(many, 2)

    def test_the_consensus_is_the_geometric_mean(self):
        logs = [np.log([0.9, 0.1]), np.log([0.2, 0.8])]
        pulls = [{"x": pull((0, 0)).model_copy(update={"log_probabilities": tuple(each)})} for each in logs]
        found = consensus(pulls)["x"]
        assert found == pytest.approx({"a": (0.9 * 0.2) ** 0.5, "b": (0.1 * 0.8) ** 0.5})


class TestSearches:
    def search(self, known_answer, pairs, run, seed=0, **options):
        settings = known_answer.gradient_settings("softmax", "first", "argmax") | {"repeats": 3}
        with plainly():
            return manas.search(known_answer.config(pairs, run, seed, **settings), **options)

    def test_a_clear_winner_is_decided_by_the_data(self, known_answer, pairs, tmp_path):
        genotype = self.search(known_answer, pairs, tmp_path / "run")
        assert genotype.choices == known_answer.RIGHT
        assert set(genotype.provenance["decided_by"].values()) == {"the data"}
        assert genotype.provenance["verdict"][-1].startswith("over 3 searches the data decided 3 of 3 choices")
        assert (
            manas.Genotype.read(tmp_path / "run" / "genotype.json", space=known_answer.KnownAnswer) == genotype
        )

    def test_on_ties_nothing_is_found(self, known_answer, pairs, tmp_path, monkeypatch):
        twins = dict.fromkeys(("a", "b"), partial(known_answer.Filter, (3, 3)))
        monkeypatch.setattr(known_answer, "CANDIDATES", twins)
        genotype = self.search(known_answer, pairs, tmp_path / "run")
        assert "the data" not in genotype.provenance["decided_by"].values()
        assert genotype.provenance["verdict"][-1].startswith("nothing was found")
        # One search alone takes luck for merit: its word is a preference, and it says so.
        alone = manas.Genotype.read(
            tmp_path / "run" / "repeat0" / "genotype.json", space=known_answer.KnownAnswer
        )
        assert "one search cannot tell" in alone.provenance["verdict"][-1]

    def test_an_interrupted_series_goes_on(self, known_answer, pairs, tmp_path, monkeypatch):
        whole = self.search(known_answer, pairs, tmp_path / "whole")
        kept = read_evidence

        def interrupted(run):
            raise KeyboardInterrupt

        monkeypatch.setattr("manas.searching.repeats.read_evidence", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.search(known_answer, pairs, tmp_path / "run")
        monkeypatch.setattr("manas.searching.repeats.read_evidence", kept)
        resumed = self.search(known_answer, pairs, tmp_path / "run", resume=True)
        assert resumed.choices == whole.choices
        with pytest.raises(ManasError, match="holds a run already"):
            self.search(known_answer, pairs, tmp_path / "run")
