"""The model of scores: what it can express is found, and it is as sure of that as it may be."""

import itertools
import random

import numpy as np
import pytest
from architecture.toy_spaces import NESTED, Block, Tree, architectures
from cost.tables import table_of
from scipy import stats

from manas.searching.surrogate import COST, NOISE, Belief, Surrogate

ALIKE = Tree(root=Block(forks=((Block(),) * 3,) * 5))  # five forks that offer the same
PAIR = (Block(), Block())
INSIDE = Tree(root=Block(forks=((Block(forks=(PAIR,)),) * 2,) * 2))  # two forks with one in every candidate
SPACES = {"nested": NESTED, "alike": ALIKE, "inside": INSIDE}


def every(space):
    return list(architectures(space.root))


def table(space):
    rng = random.Random(0)
    return table_of(space, lambda *_: rng.randrange(1, 40))


def worth(space, seed):
    """(label, name) -> what a candidate adds to the score."""
    rng = np.random.default_rng(seed)
    return {(label, name): rng.normal() for label, names in space.choices().items() for name in names}


def total(values, choices):
    return sum(values[candidate] for candidate in choices.items())


def noisy_belief(space, count=12, seed=0):
    """The belief after scores of a truth of chance."""
    rng, truth = np.random.default_rng(seed), worth(space, seed)
    tried = list(rng.permutation(every(space))[:count])
    scores = [20 + total(truth, each) + 0.5 * rng.normal() for each in tried]
    return Surrogate(table(space)).fitted(tried, scores)


@pytest.fixture(params=SPACES)
def case(request):
    """Every architecture of a space, and the belief after scores of twelve."""
    space = SPACES[request.param]
    return every(space), noisy_belief(space)


class TestFeatures:
    @pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
    def test_only_what_is_reached_counts(self, space):
        costs = table(space)
        surrogate = Surrogate(costs)
        for choices in every(space):
            features = surrogate.features(choices)
            own = dict(zip(surrogate.place, features[surrogate.common : -surrogate.common], strict=True))
            assert {candidate for candidate, value in own.items() if value} == set(choices.items())
            cost = features[surrogate.common - 1] * costs.dearest() / COST
            assert cost == pytest.approx(costs.exact(choices))

    @pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
    def test_a_long_training_counts_what_is_in_common_once_more(self, space):
        surrogate = Surrogate(table(space))
        for choices in every(space):
            short, long = (surrogate.features(choices, long=long) for long in (False, True))
            assert not short[-surrogate.common :].any()
            assert (long[-surrogate.common :] == short[: surrogate.common]).all()
            assert (long[: -surrogate.common] == short[: -surrogate.common]).all()

    def test_what_candidates_have_in_common(self):
        """One effect of each name, one of each name at each place, and that of the cost."""
        assert [Surrogate(table(space)).common for space in (ALIKE, INSIDE)] == [3 + 3 + 1, 2 + 3 * 2 + 1]


class TestTruth:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_linear_truth_is_found_from_a_part(self, seed):
        """Also of architectures that were never tried."""
        truth, rng = worth(NESTED, seed), np.random.default_rng(seed)
        tried, untried = np.split(rng.permutation(every(NESTED)), [15])
        tried = 200 * list(tried)  # so often that nothing is left to what was believed before
        belief = Surrogate(table(NESTED)).fitted(tried, [30 + total(truth, each) for each in tried])
        apart = [belief.score(each) - 30 - total(truth, each) for each in untried]
        assert np.std([total(truth, each) for each in untried]) > 0.5
        assert np.abs(apart).max() < 0.1

    def test_an_effect_in_common_reaches_a_label_that_was_never_varied(self):
        tried = [each for each in every(ALIKE) if each["fork4"] == "c0"][::4]
        scores = [list(each.values()).count("c1") - list(each.values()).count("c2") for each in tried]
        values = Surrogate(table(ALIKE)).fitted(tried, scores).expected()
        for better, worse in itertools.pairwise(("c1", "c0", "c2")):
            assert values["fork4", better] - values["fork4", worse] == pytest.approx(1, abs=0.2)

    def test_what_stands_inside_a_candidate_reaches_it_elsewhere(self):
        """Inside c0 the first is better, inside c1 the second: at `fork1`, where no c1 was ever tried, too."""
        tried = [each for each in every(INSIDE) if each["fork1"] == "c0"]
        inner = [{label: name for label, name in each.items() if "/" in label} for each in tried]
        scores = [sum(f"/{name}/" in label for label, name in each.items()) for each in inner]
        values = Surrogate(table(INSIDE)).fitted(tried * 5, scores * 5).expected()
        assert values["fork1/c1/fork0", "c1"] - values["fork1/c1/fork0", "c0"] > 0.5
        assert values["fork1/c0/fork0", "c0"] - values["fork1/c0/fork0", "c1"] > 0.5


class TestBelief:
    def test_a_score_is_the_level_and_what_candidates_add(self, case):
        everything, belief = case
        values = belief.expected()
        rest = [belief.score(each) - total(values, each) for each in everything]
        assert rest == pytest.approx([rest[0]] * len(rest))
        scores = np.array([belief.score(each) for each in everything])
        assert scores.std() > 0.1

    def test_leads_are_antisymmetric_and_those_of_the_scores(self, case):
        everything, belief = case
        for one, other in itertools.pairwise(everything):
            lead, deviation = belief.lead(one, other)
            assert lead == pytest.approx(belief.score(one) - belief.score(other))
            assert belief.lead(other, one) == pytest.approx((-lead, deviation))
            assert deviation > 0
            assert belief.lead(one, one) == (0, 0)

    def test_it_is_that_of_bayesian_linear_regression(self, case):
        """In the space of the effects, with a level of which nothing was known."""
        everything, belief = case
        tried = np.flatnonzero(belief.prior)
        features = np.array([belief.surrogate.features(each) for each in everything])[:, tried]
        seen = belief.centred[:, tried] + belief.centre[tried]
        design = np.column_stack([np.ones(len(seen)), seen])
        precision = design.T @ design / belief.noise + np.diag([0, *1 / belief.prior[tried]])
        scores = belief.level + belief.residuals
        level, *effects = np.linalg.solve(precision, design.T @ scores / belief.noise)
        assert belief.effects[tried] == pytest.approx(effects)
        assert not np.delete(belief.effects, tried).any()
        covariance = belief.scale * np.linalg.inv(precision)[1:, 1:]
        for one, other in itertools.pairwise(range(len(everything))):
            assert belief.score(everything[one]) == pytest.approx(level + features[one] @ effects)
            apart = features[one] - features[other]
            lead, deviation = belief.lead(everything[one], everything[other])
            assert (lead, deviation**2) == pytest.approx((apart @ effects, apart @ covariance @ apart))

    def test_what_is_drawn_spreads_as_leads_do(self, case):
        everything, belief = case
        rng, draws = np.random.default_rng(0), 2000
        drawn = [belief.drawn(rng) for _ in range(draws)]
        for one, other in itertools.pairwise(everything[:: len(everything) // 8]):
            mean, deviation = belief.lead(one, other)
            leads = np.array([total(values, one) - total(values, other) for values in drawn])
            assert abs(leads.mean() - mean) < 4 * deviation / draws**0.5
            assert leads.std() == pytest.approx(deviation, rel=0.07)

    def test_boldness_is_a_factor_on_what_is_apart(self, case):
        _, belief = case
        bold, half, none = (belief.drawn(np.random.default_rng(0), boldness=b) for b in (1.0, 0.5, 0.0))
        assert none == belief.expected() != bold
        assert half == pytest.approx({each: (bold[each] + none[each]) / 2 for each in bold})


class TestLong:
    """Short trainings favour c1, long ones c2; both are tried, and the long ones are at another level."""

    def scored(self, architectures, *, long):
        return [
            25 + 4 * long + (list(each.values()).count("c2" if long else "c1") - 2) / 2
            for each in architectures
        ]

    def believed(self, count, *, long):
        rng = np.random.default_rng(0)
        short, late = np.split(rng.permutation(every(ALIKE))[: 24 + count], [24])
        scores = self.scored(short, long=False) + self.scored(late, long=True)
        are_long = [False] * 24 + [True] * count
        return Surrogate(table(ALIKE)).fitted([*short, *late], scores, are_long, long=long)

    def test_what_ends_best_is_told_from_what_learns_fast(self):
        fast, late = (self.believed(8, long=long) for long in (False, True))
        same = {name: dict.fromkeys(ALIKE.choices(), name) for name in ("c0", "c1", "c2")}
        assert max(same, key=lambda name: fast.score(same[name])) == "c1"
        assert max(same, key=lambda name: late.score(same[name])) == "c2"
        assert fast.score(same["c1"]) == pytest.approx(26.5, abs=0.5)
        assert late.score(same["c2"]) == pytest.approx(30.5, abs=1)

    def test_before_any_was_long_the_short_ones_tell(self):
        fast, late = (self.believed(0, long=long) for long in (False, True))
        for each in every(ALIKE)[::7]:
            assert fast.score(each) == pytest.approx(late.score(each))
        one, other = every(ALIKE)[0], every(ALIKE)[-1]
        assert late.lead(one, other)[1] > fast.lead(one, other)[1]

    @pytest.mark.parametrize("long", [False, True])
    def test_the_levels_take_what_is_equal_in_all_of_a_length(self, long):
        apart = self.believed(8, long=True).level - self.believed(8, long=False).level
        assert apart == pytest.approx(4, abs=1)
        belief = self.believed(8, long=long)
        assert np.abs(belief.residuals).max() < 2
        assert belief.levels == 2


class TestCertainty:
    def world(self, surrogate, tried, rng):
        """Effects and noise as they are believed to be, and the belief after scores of such a world."""
        prior = np.where(np.arange(surrogate.columns.shape[1]) < surrogate.common, 1.0, 0.1)
        effects, noise = rng.normal(size=len(prior)) * np.sqrt(prior), rng.choice(NOISE)
        features = np.array([surrogate.features(each) for each in tried])
        centred = features - features.mean(0)
        deviation = (noise * ((centred**2 @ prior).mean() or 1.0)) ** 0.5
        scores = features @ effects + deviation * rng.normal(size=len(tried))
        level = scores.mean()
        return effects, Belief(surrogate, features.mean(0), level, prior, noise, centred, scores - level)

    def shares(self, space, count, worlds):
        """The shares of leads within a deviation, where prior and noise are told, and where they are not."""
        surrogate, rng, everything, inside = Surrogate(table(space)), np.random.default_rng(0), every(space), []
        for _ in range(worlds):
            tried = list(rng.choice(everything, count))
            effects, told = self.world(surrogate, tried, rng)
            found = surrogate.fitted(tried, told.level + told.residuals)
            for one, other in itertools.pairwise(rng.permutation(everything)[:11]):
                true = (surrogate.features(one) - surrogate.features(other)) @ effects
                leads = [belief.lead(one, other) for belief in (told, found)]
                inside.append([abs(lead - true) <= deviation for lead, deviation in leads])
        return np.mean(inside, 0)

    @pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
    def test_two_of_three_leads_are_within_a_deviation(self, space):
        told, found = self.shares(space, 40, 150)
        assert told == pytest.approx(0.68, abs=0.06)
        assert 0.54 < found < 0.8

    def test_of_few_scores_fewer_by_students_t(self):
        told = np.mean([self.shares(space, 4, 250)[0] for space in SPACES.values()])
        assert told == pytest.approx(1 - 2 * stats.t(3).sf(1), abs=0.03)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_noise_is_told_by_the_scores(self, seed):
        rng, truth = np.random.default_rng(seed), worth(ALIKE, seed)
        tried = list(rng.permutation(every(ALIKE))[:40])
        scores = np.array([total(truth, each) for each in tried])
        surrogate = Surrogate(table(ALIKE))

        def noise(scores):
            belief = surrogate.fitted(tried, scores)
            return belief.noise / (belief.centred**2 @ belief.prior).mean()

        assert noise(scores) == pytest.approx(NOISE[0])
        assert noise(rng.normal(size=40)) > 2.0

    def test_more_scores_make_it_surer(self):
        deviations = []
        for count in (6, 12, 48, 192):
            belief = noisy_belief(ALIKE, count)
            one, other = every(ALIKE)[0], every(ALIKE)[-1]
            deviations.append(belief.lead(one, other)[1])
        assert deviations == sorted(deviations, reverse=True)


@pytest.mark.parametrize(
    ("architectures", "scores"),
    [
        ([0, 7, 20, 3], [25.0, 25.0, 25.0, 25.0]),
        ([0, 20], [24.0, 26.0]),
        ([0, 20], [0.1 + 0.2, 0.3]),
        ([5, 5, 5], [24.0, 25.0, 26.0]),
        ([5], [24.0]),
    ],
    ids=["equal scores", "two", "two, equal but for rounding", "one, three times", "one"],
)
def test_little_is_enough_for_finite_numbers(architectures, scores):
    belief = Surrogate(table(NESTED)).fitted([every(NESTED)[n] for n in architectures], scores)
    drawn = belief.drawn(np.random.default_rng(0))
    leads = itertools.chain(*(belief.lead(one, other) for one, other in itertools.pairwise(every(NESTED))))
    assert np.isfinite([belief.score(each) for each in every(NESTED)]).all()
    assert np.isfinite([*belief.expected().values(), *drawn.values(), *leads]).all()
    assert belief.score(every(NESTED)[architectures[0]]) == pytest.approx(np.mean(scores), abs=1)
