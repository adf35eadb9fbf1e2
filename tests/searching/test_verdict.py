"""When a search ends early, and what is said of its result."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom

from manas.searching.growth import eigenvalue_growth
from manas.searching.health import Health, Tally
from manas.searching.verdict import Stop, StopConfig, should_stop, verdict

SOUND = Health(
    epoch=0,
    psnr_relaxed=30.0,
    psnr_one_hot=29.8,
    entropy={"parallel+fusion": 0.4, "none+..+cbam_9": 0.6},
    skips=Tally(3, 27, 1 / 9),
    zeros=Tally(2, 27, 1 / 9),
    gradient=0.01,
    eigenvalue=0.2,
)


def history(**series):
    """Sound epochs, but for the values of some attributes epoch by epoch; `skips` are of 27."""
    series = {
        name: [Tally(v, 27, 1 / 9) if name in ("skips", "zeros") else v for v in values]
        for name, values in series.items()
    }
    rows = zip(*series.values(), strict=True)
    return [replace(SOUND, epoch=n, **dict(zip(series, row, strict=True))) for n, row in enumerate(rows)]


class TestConfig:
    def test_by_default_nothing_stops(self):
        worst = history(eigenvalue=[10.0**n for n in range(20)], skips=[27] * 20, psnr_one_hot=range(20, 0, -1))
        assert should_stop(worst, StopConfig()) is None

    @pytest.mark.parametrize(
        "given", [{"eigenvalue_window": 3}, {"eigenvalue_lag": 2}, {"eigenvalue_rule": "published"}], ids=str
    )
    def test_a_window_lag_or_rule_without_growth_has_no_effect(self, given):
        with pytest.raises(ValidationError, match="no effect; give eigenvalue_growth, such as 1.3"):
            StopConfig(**given)
        assert StopConfig(**given, eigenvalue_growth=1.3)

    @pytest.mark.parametrize(
        "config", [StopConfig(), StopConfig(eigenvalue_growth=1.5, eigenvalue_lag=2, patience=3)]
    )
    def test_what_is_resolved_can_be_given_again(self, config):
        assert StopConfig.model_validate(json.loads(config.model_dump_json())) == config

    @pytest.mark.parametrize(
        "given",
        [
            {"eigenvalue_growth": 1.0},
            {"eigenvalue_growth": math.nan},
            {"eigenvalue_growth": math.inf},
            {"eigenvalue_growth": 1.3, "eigenvalue_window": 0},
            {"eigenvalue_growth": 1.3, "eigenvalue_lag": 0},
            {"skip_share": 0.0},
            {"skip_share": 1.01},
            {"skip_share": math.nan},
            {"patience": 0},
            {"pateince": 3},
        ],
        ids=str,
    )
    def test_what_cannot_be_meant(self, given):
        with pytest.raises(ValidationError):
            StopConfig(**given)


def naive_growth(values, window, lag):
    """Mean over the window now, over the mean `lag` epochs ago: by running means, as RobustDARTS."""
    means = [sum(values[i - window + 1 : i + 1]) / window for i in range(window - 1, len(values))]
    return means[-1] / means[-1 - lag]


class TestEigenvalue:
    PUBLISHED = StopConfig(eigenvalue_growth=1.3, eigenvalue_rule="published")

    def test_as_published(self):
        """Five averaged, four back, so from the ninth epoch on; 0.45 tells once it is two of the five."""
        grown = history(eigenvalue=[0.2] * 10 + [0.45] * 5)
        stops = [should_stop(grown[: n + 1], self.PUBLISHED) for n in range(len(grown))]
        assert stops[:11] == [None] * 11
        assert stops[11] == Stop(
            "the eigenvalue of the alphas grew from 0.2 to 0.3 since epoch 7; the limit is 1.3 times", 7
        )
        assert [stop.epoch for stop in stops[11:]] == [7, 8, 9, 10]

    @given(
        st.lists(st.floats(0.01, 10), min_size=1, max_size=20),
        st.integers(1, 5),
        st.integers(1, 5),
        st.floats(1.05, 4),
    )
    def test_is_the_ratio_of_running_means(self, values, window, lag, factor):
        config = StopConfig(
            eigenvalue_growth=factor, eigenvalue_window=window, eigenvalue_lag=lag, eigenvalue_rule="published"
        )
        stop = should_stop(history(eigenvalue=values), config)
        if len(values) < window + lag:
            assert stop is None
        elif naive_growth(values, window, lag) > factor * 1.000001:
            assert stop.epoch == len(values) - 1 - lag
        elif naive_growth(values, window, lag) < factor * 0.999999:
            assert stop is None

    @example(1e308, 20, 5, 4)
    @given(
        st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 20), st.integers(1, 5), st.integers(1, 5)
    )
    def test_never_on_a_constant(self, value, epochs, window, lag):
        config = StopConfig(eigenvalue_growth=1.0001, eigenvalue_window=window, eigenvalue_lag=lag)
        assert should_stop(history(eigenvalue=[value] * epochs), config) is None

    @given(
        st.lists(st.floats(-100, 0), min_size=9, max_size=9),
        st.lists(st.floats(-100, 100), min_size=9, max_size=9),
    )
    def test_never_from_what_is_not_positive(self, before, after):
        values = before + after
        for n in range(len(before), len(values) + 1):
            stop = should_stop(history(eigenvalue=values[:n]), self.PUBLISHED)
            assert stop is None or sum(values[stop.epoch - 4 : stop.epoch + 1]) > 0

    @pytest.mark.parametrize(
        "values",
        [
            [-0.1] * 9 + [-5.0] * 9,  # the ratio of negatives is 50
            [1e-12] * 9 + [1e-8] * 9,
            [0.0] * 9 + [1.0],
            [3.0] * 9 + [-9.0] * 9,
            [5.0] * 9 + [math.nan] * 9,
            [5.0] * 9 + [None] * 9,
        ],
        ids=str,
    )
    def test_what_is_no_growth(self, values):
        config = StopConfig(eigenvalue_growth=1.3, eigenvalue_window=2, eigenvalue_lag=1)
        for n in range(len(values) + 1):
            assert should_stop(history(eigenvalue=values[:n]), config) is None

    def test_epochs_without_one_are_passed_over(self):
        """Every other epoch is measured, and some go wrong: the result is an epoch that was."""
        values = [x for value in [0.2] * 5 + [0.6] * 4 for x in (value, None)]
        values[3:3] = [math.nan, math.inf]
        assert should_stop(history(eigenvalue=values), self.PUBLISHED).epoch == 10
        assert values[10] == 0.2
        assert eigenvalue_growth(history(eigenvalue=values[:-2]), 5, 4) is None

    def test_epochs_before_the_alphas_moved_do_not_count(self):
        values = [0.1] * 9 + [0.5] * 9
        resting = history(eigenvalue=values, gradient=[None] * 9 + [0.1] * 9)
        assert should_stop(resting, self.PUBLISHED) is None
        assert should_stop(history(eigenvalue=values[:12]), self.PUBLISHED) is not None


class TestSkips:
    def test_the_result_is_the_last_epoch_below(self):
        epochs = history(skips=[3, 14, 9, 13, 14, 15])
        stops = [should_stop(epochs[: n + 1], StopConfig(skip_share=14 / 27)) for n in range(6)]
        assert [stop and stop.epoch for stop in stops] == [None, 0, None, None, 3, 3]
        assert stops[4].reason == "14 of 27 forks chose skip connections; the limit is 52%"

    def test_all_of_them_is_a_limit_too(self):
        assert should_stop(history(skips=[3, 26]), StopConfig(skip_share=1)) is None
        assert should_stop(history(skips=[3, 27]), StopConfig(skip_share=1)).epoch == 0

    def test_where_it_was_never_below_the_first_of_the_search(self):
        epochs = history(skips=[0, 0, 20, 21], gradient=[None, None, 0.1, 0.1])
        assert should_stop(epochs[:2], StopConfig(skip_share=0.5)) is None
        assert should_stop(epochs[:3], StopConfig(skip_share=0.5)).epoch == 2
        assert should_stop(epochs, StopConfig(skip_share=0.5)).epoch == 2

    def test_a_path_that_offers_none_skips_nothing(self):
        none, all_of_them = Tally(0, 0, 0.0), Tally(2, 2, 0.5)
        epochs = [replace(SOUND, epoch=n, skips=s) for n, s in enumerate([all_of_them, none, all_of_them])]
        assert should_stop(epochs[:2], StopConfig(skip_share=0.1)) is None
        assert should_stop(epochs, StopConfig(skip_share=0.1)).epoch == 1

    @given(st.lists(st.integers(0, 27), min_size=1, max_size=10), st.floats(0.01, 1))
    def test_always_and_only_at_the_limit(self, skips, limit):
        stop = should_stop(history(skips=skips), StopConfig(skip_share=limit))
        assert (stop is not None) == (skips[-1] / 27 >= limit)
        if stop:
            below = [n for n, skipped in enumerate(skips) if skipped / 27 < limit]
            assert stop.epoch == (below[-1] if below else 0)


class TestPatience:
    def test_the_result_is_the_best_epoch(self):
        epochs = history(psnr_one_hot=[28.0, 29.0, 28.5, 29.0, 28.9])
        stops = [should_stop(epochs[: n + 1], StopConfig(patience=3)) for n in range(5)]
        assert stops[:4] == [None] * 4
        assert stops[4] == Stop("the one-hot PSNR has not been better than 29.00 dB for 3 epochs", 1)

    def test_what_is_no_number_is_no_improvement(self):
        epochs = history(psnr_one_hot=[math.nan, 20.0, math.nan, math.nan])
        assert should_stop(epochs[:3], StopConfig(patience=2)) is None
        assert should_stop(epochs, StopConfig(patience=2)).epoch == 1
        assert should_stop(history(psnr_one_hot=[math.nan] * 3), StopConfig(patience=2)).epoch == 0

    def test_epochs_before_the_alphas_moved_do_not_count(self):
        epochs = history(psnr_one_hot=[40.0, 20.0, 21.0, 22.0], gradient=[None, 0.1, 0.1, 0.1])
        assert should_stop(epochs, StopConfig(patience=1)) is None

    @given(st.lists(st.floats(0, 60), min_size=1, max_size=12), st.integers(1, 5))
    def test_of_any_series(self, scores, patience):
        stop = should_stop(history(psnr_one_hot=scores), StopConfig(patience=patience))
        improved = any(s > max(scores[:-patience], default=-1) for s in scores[-patience:])
        assert (stop is None) == improved
        if stop:
            assert scores[stop.epoch] == max(scores)


def test_no_rule_acts_before_the_alphas_move():
    everything = StopConfig(eigenvalue_growth=1.01, skip_share=0.01, patience=1)
    resting = history(
        eigenvalue=[2.0**n for n in range(12)],
        skips=[27] * 12,
        psnr_one_hot=range(12, 0, -1),
        gradient=[None] * 12,
    )
    assert should_stop([], everything) is None
    assert should_stop(resting, everything) is None


def test_which_rule_goes_first():
    growth = {"eigenvalue_growth": 1.3, "eigenvalue_window": 1, "eigenvalue_lag": 1}
    config = StopConfig(**growth, eigenvalue_rule="published", skip_share=0.5, patience=3)
    epochs = history(eigenvalue=[1.0, 1.0, 1.0, 2.0], skips=[0, 20, 20, 20], psnr_one_hot=[9, 8, 7, 6])
    assert should_stop(epochs, config).epoch == 2
    assert should_stop(history(skips=[0, 20, 20, 20], psnr_one_hot=[9, 8, 7, 6]), config).epoch == 0
    assert "PSNR" in should_stop(history(psnr_one_hot=[9, 8, 7, 6]), config).reason


def said(**changes):
    """What is said of one epoch that is sound otherwise."""
    return verdict([replace(SOUND, **changes)])


class TestVerdict:
    def test_of_a_sound_search(self):
        assert said() == [
            "the search ran as it should: entropy at most 0.60 of 1, 3 of 27 skip connections, derived "
            "network 29.8 dB, relaxed 30.0 dB"
        ]
        assert len(said(entropy={}, skips=Tally(0, 0, 0.0), zeros=Tally(0, 0, 0.0))) == 1

    def test_undecided_groups(self):
        assert said(entropy={"parallel+fusion": 0.98, "none+..+cbam_9": 0.94}) == [
            "the choices parallel+fusion are undecided: entropy 0.98 of 1, so the genotype is close to a "
            "random draw there; search longer or raise alphas.rate"
        ]
        assert len(said(entropy={"parallel+fusion": 0.98, "none+..+cbam_9": 0.96})) == 2

    @pytest.mark.parametrize("epochs", [1, 3])
    def test_alphas_at_rest(self, epochs):
        (sentence,) = verdict(history(gradient=[None] * epochs, psnr_one_hot=[0.0] * epochs))
        assert sentence.startswith(
            f"the alphas were at rest throughout (epochs: {epochs}), so the genotype is a"
        )
        assert "lower warmup" in sentence

    @pytest.mark.parametrize("gradients", [[None, 0.0, 0.0], [None, math.nan, 0.0], [math.inf, math.nan, None]])
    def test_alphas_without_a_gradient(self, gradients):
        (sentence,) = verdict(history(gradient=gradients, psnr_one_hot=[0.0] * 3))
        assert sentence.startswith("the gradient of the alphas was zero or not finite throughout (epochs: 2)")

    def test_one_step_is_enough_to_have_moved(self):
        assert verdict(history(gradient=[None, 1e-9, 0.0]))[0].startswith("the search ran as it should")

    @pytest.mark.parametrize(
        ("chosen", "offered", "candidates", "collapsed"),
        [
            (21, 27, 9, True),
            (19, 27, 9, True),
            (18, 27, 9, False),  # two thirds: many, but not most of the network
            (3, 3, 4, False),  # by lot once in 64
            (4, 4, 4, True),  # by lot once in 256
            (6, 6, 2, False),  # by lot once in 64
            (7, 7, 2, True),
            (19, 27, 2, False),  # by lot once in 38
            (21, 27, 2, True),
            (1, 1, 9, False),
            (0, 0, 1, False),
        ],
    )
    @pytest.mark.parametrize("what", ["skips", "zeros"])
    def test_collapse_is_what_is_large_and_not_by_chance(self, chosen, offered, candidates, collapsed, what):
        found = said(**{what: Tally(chosen, offered, 1 / candidates if offered else 0.0)})
        assert len(found) == 1
        assert found[0].startswith("collapsed to") == collapsed
        by_chance = binom.sf(chosen - 1, offered, 1 / candidates) if offered else 1
        assert collapsed == (by_chance < 0.01 and chosen > 0.7 * offered)

    def test_what_is_said_of_a_collapse(self):
        assert said(skips=Tally(21, 27, 1 / 9)) == [
            "collapsed to skip connections: 21 of 27 forks, by lot 3; the other candidates go unused; search "
            "for fewer epochs or set stop.skip_share"
        ]
        (of_zeros,) = said(zeros=Tally(21, 27, 1 / 9))
        assert of_zeros.startswith("collapsed to zeros: 21 of 27 forks, by lot 3;")
        assert "complexity.weight" in of_zeros

    def test_the_binomial_tail_bounds_that_of_forks_that_differ(self):
        """Poisson-binomial by convolution: 10 forks of 9 candidates, 4 of 2."""
        exact = [1.0]
        for p in [1 / 9] * 10 + [1 / 2] * 4:
            exact = [a * (1 - p) + b * p for a, b in zip([*exact, 0], [0, *exact], strict=True)]
        chance = (10 / 9 + 4 / 2) / 14
        for chosen in range(5, 15):
            assert sum(exact[chosen:]) <= binom.sf(chosen - 1, 14, chance) + 1e-15

    def test_a_gap(self):
        assert said(psnr_relaxed=30.4, psnr_one_hot=28.1) == [
            "the derived network is 2.3 dB below the relaxed one (28.1 and 30.4 dB): its candidates lean on "
            "the others; search longer or raise the weight architecture"
        ]
        assert said(psnr_relaxed=30.4, psnr_one_hot=29.5)[0].startswith("the search ran")
        assert said(psnr_relaxed=28.0, psnr_one_hot=33.0)[0].startswith("the search ran")

    @pytest.mark.parametrize("which", ["psnr_relaxed", "psnr_one_hot"])
    def test_a_psnr_that_is_no_number(self, which):
        assert said(**{which: math.nan})[0].startswith("the PSNR is not a number")

    def test_a_perfect_restoration_is_no_fault(self):
        assert said(psnr_relaxed=math.inf, psnr_one_hot=math.inf)[0].startswith("the search ran")

    def test_growth_of_the_eigenvalue(self):
        (sentence,) = verdict(history(eigenvalue=[0.1] * 5 + [0.4] * 4))
        assert sentence.startswith("the eigenvalue of the alphas grew from 0.1 to 0.34 since epoch 4: ")
        assert verdict(history(eigenvalue=[0.1] * 5 + [0.12] * 4))[0].startswith("the search ran")

    def test_all_that_is_found_is_said(self):
        epochs = history(eigenvalue=[0.1] * 5 + [0.4] * 4)
        worse = {
            "entropy": {"a+b": 0.99},
            "skips": Tally(20, 20, 0.2),
            "zeros": Tally(9, 9, 0.2),
            "psnr_one_hot": 0.0,
        }
        found = verdict([*epochs[:-1], replace(epochs[-1], **worse)])
        assert [sentence.split()[0] for sentence in found] == ["the", "collapsed", "collapsed", "the", "the"]

    def test_what_came_after_the_result_has_no_say(self):
        epochs = history(psnr_one_hot=[29.5, 29.4, 10.0], gradient=[None, 0.1, 0.1])
        assert verdict(epochs)[0].startswith("the derived network is 20.0 dB below")
        assert "29.4" in verdict(epochs, epoch=1)[0]
        assert "at rest throughout (epochs: 1)" in verdict(epochs, epoch=0)[0]

    @given(
        st.lists(
            st.tuples(
                st.none() | st.floats(),
                st.none() | st.floats(),
                st.floats(),
                st.floats(),
                st.floats(0, 1),
                st.integers(0, 27),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def test_something_is_said_whatever_was_measured(self, rows):
        names = ("gradient", "eigenvalue", "psnr_relaxed", "psnr_one_hot", "entropy", "skips")
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        columns["entropy"] = [{"a+b": value} for value in columns["entropy"]]
        epochs = history(**columns)
        found = verdict(epochs)
        assert found
        assert all(found)
        stop = should_stop(epochs, StopConfig(eigenvalue_growth=1.3, skip_share=0.5, patience=2))
        assert stop is None or 0 <= stop.epoch < len(epochs)
