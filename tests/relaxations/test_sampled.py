"""Relaxations that draw: what they draw, how often, with which gradient, and that nothing else is disturbed."""

import copy
import itertools
import random
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from architecture.toy_spaces import NESTED
from scipy.special import gammaln, polygamma, psi
from scipy.stats import chisquare
from torch import nn

from manas.architecture.choice import Choice, Moment, choices_of, relax
from manas.relaxations.base import noise_of
from manas.relaxations.dirichlet import LOWEST_CONCENTRATION, Dirichlet
from manas.relaxations.gumbel import Gumbel

ALPHA = [0.5, -1.0, 1.2, 0.0]
NOTHING = "nothing"  # a zero by what its choice says, not by its name
WITHOUT_ZERO, WITH_ZERO = ("a", "b", "c", "none"), ("a", NOTHING, "c", "d")
GDAS = Gumbel(runs="sampled")


class Counting(nn.Module):
    """x -> factor x; counts how often it runs."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.runs = factor, 0

    def forward(self, x):
        self.runs += 1
        return self.factor * x


class Forbidden(nn.Module):
    def forward(self, x):
        pytest.fail("a candidate that was not sampled ran")


def choice_with(alpha=ALPHA, names=WITHOUT_ZERO, label="label", dtype=torch.float64):
    factors = {name: 0.0 if name == NOTHING else 1.0 + k for k, name in enumerate(names[: len(alpha)])}
    candidates = {name: Counting(factor) for name, factor in factors.items()}
    choice = Choice(label, candidates, Gumbel(), zero=NOTHING if NOTHING in candidates else None)
    choice.alpha = nn.Parameter(torch.tensor(alpha, dtype=dtype))
    return choice


def sampled(choice, relaxation=None, **moment):
    """The name of the candidate that a Gumbel relaxation samples."""
    weights = (relaxation or Gumbel()).at(Moment(**moment), [choice]).weights(choice)
    (name,) = (name for name, weight in weights.items() if weight > 0.5)
    return name


def drawn_weights(relaxation, choice, **moment):
    """(K,)"""
    return torch.stack(list(relaxation.at(Moment(**moment), [choice]).weights(choice).values()))


def soft_sample(choice, temperature, **moment):
    """(K,) GDAS, eq. 3: softmax((log softmax(alpha) + g) / temperature)."""
    noise = torch.from_numpy(noise_of(Moment(**moment), choice).gumbel(size=len(choice.names)))
    return torch.softmax((torch.log_softmax(choice.alpha, 0) + noise) / temperature, 0)


@contextmanager
def untouched():
    """Every global source of random numbers is left as it was."""

    def states():
        _, keys, *rest = np.random.get_state()
        return random.getstate(), keys.tolist(), rest, torch.get_rng_state().tolist()

    before = states()
    yield
    assert states() == before


class TestGumbelWeights:
    @pytest.mark.parametrize("names", [WITHOUT_ZERO, WITH_ZERO], ids=["without zero", "with zero"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_they_are_exactly_zero_and_one(self, names, dtype):
        choice, found = choice_with(names=names, dtype=dtype), []
        for draw in range(100):
            weights = Gumbel(temperature=1.0, runs="sampled").at(Moment(draw=draw), [choice]).weights(choice)
            assert all(weight.dtype == dtype and weight.shape == () for weight in weights.values())
            found.append(sorted(weight.item() for weight in weights.values()))
        expected = [1.0] if names == WITHOUT_ZERO else [0.0, 0.0, 0.0, 1.0]
        assert found == [expected] * 100

    @pytest.mark.parametrize(
        ("relaxation", "moment", "names"),
        [(GDAS, Moment(), WITHOUT_ZERO), (Gumbel(), Moment(alphas_learn=False), WITH_ZERO)],
        ids=["GDAS's own rule", "where the alphas do not learn"],
    )
    def test_only_the_sampled_candidate_is_run(self, relaxation, moment, names):
        choice, seen = choice_with(names=names), set()
        for draw in range(40):
            choice.relaxation = relaxation.at(replace(moment, draw=draw), [choice])
            name = sampled(choice, draw=draw)
            for other in choice.candidates.values():
                other.forward = Forbidden().forward
            del choice.candidates[name].forward
            output = choice(torch.tensor(2.0, dtype=torch.float64))
            assert output.item() == pytest.approx(2 * choice.candidates[name].factor)
            seen.add(name)
        assert seen == set(names)

    @pytest.mark.parametrize(
        ("relaxation", "names"),
        [(Gumbel(), WITHOUT_ZERO), (Gumbel(), WITH_ZERO), (GDAS, WITH_ZERO)],
        ids=["without a zero", "with a zero", "GDAS's own rule beside a zero"],
    )
    def test_where_the_alphas_learn_all_are_run(self, relaxation, names):
        choice = choice_with(names=names)
        for draw in range(10):
            choice.relaxation = relaxation.at(Moment(draw=draw), [choice])
            choice(torch.tensor(1.0))
        assert [candidate.runs for candidate in choice.candidates.values()] == [10] * 4

    def test_where_the_zero_is_sampled_every_alpha_has_a_gradient(self):
        choice = choice_with([0.0, 3.0, 0.0, 0.0], names=WITH_ZERO)
        draw = next(draw for draw in range(100) if sampled(choice, draw=draw) == NOTHING)
        choice.relaxation = Gumbel().at(Moment(0.5, draw=draw), [choice])
        output = choice(torch.ones(3, dtype=torch.float64))
        assert output.tolist() == [0, 0, 0]
        (gradient,) = torch.autograd.grad(output.sum(), choice.alpha)
        assert (gradient != 0).all()

    def test_nothing_inside_a_candidate_that_is_not_sampled_is_run(self):
        supernet = NESTED.supernet(Gumbel())
        choices = {choice.label: choice for choice in choices_of(supernet)}
        with torch.no_grad():
            choices["fork0"].alpha.copy_(torch.tensor([100.0, -100.0]))
        relax(supernet, Gumbel().at(Moment(alphas_learn=False), list(choices.values())))
        choices["fork0/c1/fork0"].register_forward_hook(lambda *_: pytest.fail("it ran"))
        supernet(torch.rand(1, 3, 8, 8))


class TestGumbelSamples:
    @pytest.mark.parametrize("temperature", [10.0, 0.1])
    @pytest.mark.parametrize("names", [WITHOUT_ZERO, WITH_ZERO], ids=["without zero", "with zero"])
    def test_frequencies_are_the_probabilities(self, names, temperature):
        """Whatever the temperature: it is of the gradient, not of the sample."""
        choice, relaxation = choice_with(names=names), Gumbel(temperature=temperature)
        drawn = [sampled(choice, relaxation, draw=draw) for draw in range(1500)]
        expected = relaxation.probabilities(choice).detach()
        torch.testing.assert_close(expected, torch.softmax(choice.alpha.detach(), 0))
        counts = [drawn.count(name) for name in names]
        assert chisquare(counts, 1500 * expected.numpy()).pvalue > 0.01

    def test_forks_are_drawn_independently(self):
        one, other = choice_with([0.0, 0.0], label="one"), choice_with([0.0, 0.0], label="other")
        pairs = []
        for draw in range(1000):
            drawn = GDAS.at(Moment(draw=draw), [one, other])
            pairs.append((*drawn.weights(one), *drawn.weights(other)))
        counts = [pairs.count((a, b)) for a in "ab" for b in "ab"]
        assert chisquare(counts).pvalue > 0.01

    def test_a_draw_is_a_function_of_seed_number_and_label(self):
        moments = [{"seed": seed, "draw": draw} for seed in range(3) for draw in range(20)]

        def names(label="label"):
            choice = choice_with([0.0] * 4, label=label)
            return [sampled(choice, **moment) for moment in moments]

        assert names() == names()
        of_seeds = names()[:20], names()[20:40], names()[40:]
        assert of_seeds[0] != of_seeds[1] != of_seeds[2] != of_seeds[0]
        assert names("label") != names("labe1")
        assert set(of_seeds[0]) == set(WITHOUT_ZERO)

    def test_a_draw_does_not_depend_on_the_other_forks(self):
        choices = [choice_with([0.0] * 4, label=f"fork{n}") for n in range(3)]

        def names(asked):
            drawn = GDAS.at(Moment(0.3, 1, 2), asked)
            return {choice.label: list(drawn.weights(choice)) for choice in asked}

        together = names(choices)
        assert names(choices[::-1]) == together
        assert names(choices[1:]) == {label: name for label, name in together.items() if label != "fork0"}

    def test_two_ranks_draw_alike(self):
        """Their global sources stand elsewhere, their weights are equal."""
        outputs = []
        for rank in range(2):
            torch.manual_seed(0)
            network = NESTED.supernet(Gumbel()).eval()
            torch.manual_seed(rank)
            np.random.seed(rank)
            random.seed(rank)
            torch.rand(rank + 1)
            outputs.append([])
            for draw in range(6):
                relax(network, Gumbel().at(Moment(0.5, 7, draw), choices_of(network)))
                outputs[rank].append(network(torch.full((1, 3, 8, 8), 0.5)))
        assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
        assert not torch.equal(outputs[0][0], outputs[0][1])

    def test_no_global_source_of_random_numbers_is_touched(self):
        choice = choice_with(names=WITH_ZERO)
        with untouched():
            choice.relaxation = Gumbel().at(Moment(0.5, 1, 2), [choice])
            choice(torch.ones(2)).sum().backward()

    def test_a_drawn_relaxation_keeps_its_draw(self):
        choice = choice_with()
        first = GDAS.at(Moment(draw=0), [choice])
        before = list(first.weights(choice))
        for draw in range(1, 20):
            first.at(Moment(draw=draw), [choice])
        assert list(first.weights(choice)) == before


class TestGumbelGradient:
    @pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
    @pytest.mark.parametrize("draw", range(4))
    def test_it_is_that_of_the_soft_sample(self, progress, draw):
        choice, slopes = choice_with(names=WITH_ZERO), torch.tensor([0.3, -2.0, 1.0, 0.7]).double()
        weights = drawn_weights(Gumbel(temperature=(4.0, 0.5)), choice, progress=progress, seed=5, draw=draw)
        soft = soft_sample(choice, 4.0 - 3.5 * progress, seed=5, draw=draw)
        found, expected = (torch.autograd.grad((slopes * w).sum(), choice.alpha)[0] for w in (weights, soft))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
        assert weights.argmax() == soft.argmax()
        assert expected.abs().max() > 1e-6

    @pytest.mark.parametrize("draw", range(4))
    def test_of_the_sampled_candidate_alone(self, draw):
        choice = choice_with()
        relaxation = Gumbel(temperature=2.0, runs="sampled").at(Moment(draw=draw), [choice])
        ((name, weight),) = relaxation.weights(choice).items()
        (found,) = torch.autograd.grad(weight, choice.alpha)
        soft = soft_sample(choice, 2.0, draw=draw)[choice.names.index(name)]
        (expected,) = torch.autograd.grad(soft, choice.alpha)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("alpha", [[100.0, -100.0, 0.0, 100.0], [-100.0] * 4], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_it_is_finite_where_alphas_are_saturated(self, alpha, dtype):
        choice = choice_with(alpha, names=WITH_ZERO, dtype=dtype)
        for draw in range(20):
            weights = drawn_weights(Gumbel(temperature=0.1), choice, draw=draw)
            (gradient,) = torch.autograd.grad((weights * torch.arange(4)).sum(), choice.alpha)
            assert weights.isfinite().all()
            assert gradient.isfinite().all()


class TestGumbelOnATie:
    """Two candidates do the same, so that the loss depends on no alpha."""

    def gradients(self, relaxation):
        """(draws, 2) as shares of <dL/dy, y>, which is 1 here."""
        choice = choice_with([0.3, -0.2])
        weights = [relaxation.at(Moment(draw=draw), [choice]).weights(choice) for draw in range(50)]
        found = [torch.autograd.grad(sum(each.values()), choice.alpha)[0] for each in weights]
        return torch.stack(found)

    def test_no_draw_moves_an_alpha(self):
        assert self.gradients(Gumbel()).abs().max() < 1e-15

    def test_by_the_rule_of_gdas_every_draw_does(self):
        drift = self.gradients(GDAS).abs().amax(1)
        assert drift.min() > 0.02
        assert drift.max() == pytest.approx(0.025, rel=0.01)  # s (1 - s) / temperature, where s is 1/2


class TestGumbelGradientOfTheExpectedLoss:
    """Three forks of five candidates in a row, each a residual layer; all 125 architectures are enumerated."""

    FORKS, NAMES = 3, ("a", "b", "c", "d", "e")

    def losses(self, seed):
        """The loss as a function of the weights of the candidates (3, 5)."""
        generator = torch.Generator().manual_seed(seed)
        layers = 0.5 * torch.randn(self.FORKS, len(self.NAMES), 6, 6, generator=generator).double()
        images, targets = torch.randn(2, 8, 6, generator=generator).double()

        def loss(weights):
            features = images
            for layer, weight in zip(layers, weights, strict=True):
                features = features + torch.einsum("k,kne->ne", weight, (features @ layer).tanh())
            return (features - targets).square().mean()

        return loss

    def cosine(self, relaxation, seed):
        """Between the mean gradient of many draws and the exact one."""
        torch.manual_seed(seed)
        loss = self.losses(seed)
        alphas = (0.5 * torch.randn(self.FORKS, len(self.NAMES))).tolist()
        choices = [choice_with(alpha, self.NAMES, f"fork{n}") for n, alpha in enumerate(alphas)]
        parameters = [choice.alpha for choice in choices]
        probabilities = [torch.softmax(alpha, 0) for alpha in parameters]
        slopes, expected = {}, 0.0
        for places in itertools.product(range(len(self.NAMES)), repeat=self.FORKS):
            weights = torch.eye(len(self.NAMES)).double()[list(places)].requires_grad_()
            value = loss(weights)
            (slopes[places],) = torch.autograd.grad(value, weights)
            chance = torch.stack([p[place] for p, place in zip(probabilities, places, strict=True)]).prod()
            expected = expected + chance * value.detach()
        exact = torch.cat(torch.autograd.grad(expected, parameters))
        found = 0.0
        for draw in range(100):
            drawn = relaxation.at(Moment(0.0, seed, draw), choices)
            weights = [drawn.weights(choice) for choice in choices]
            places = [self.NAMES.index(max(each, key=each.get)) for each in weights]
            steep = [dict(zip(self.NAMES, row, strict=True)) for row in slopes[tuple(places)]]
            terms = [
                row[name] * w for row, each in zip(steep, weights, strict=True) for name, w in each.items()
            ]
            found = found + torch.cat(torch.autograd.grad(torch.stack(terms).sum(), parameters))
        return torch.cosine_similarity(found, exact, dim=0).item()

    def test_where_all_run_it_is_nearer(self):
        found = {
            rule: [self.cosine(Gumbel(runs=rule), seed) for seed in range(8)] for rule in ("all", "sampled")
        }
        assert np.mean(found["all"]) > 0.84
        assert np.mean(found["sampled"]) < 0.75


def concentration(alpha):
    """elu(alpha) + 1, and the floor that keeps samples finite."""
    alpha = np.asarray(alpha)
    return np.where(alpha > 0, alpha + 1, np.exp(np.minimum(alpha, 0))) + LOWEST_CONCENTRATION


@pytest.fixture(scope="module")
def draws():
    """(N, K) samples of one choice."""
    choice = choice_with()
    drawn = [drawn_weights(Dirichlet(), choice, seed=3, draw=draw) for draw in range(1500)]
    return torch.stack(drawn).detach().numpy()


class TestDirichletWeights:
    def test_they_are_on_the_simplex(self, draws):
        assert (draws >= 0).all()
        assert draws.sum(1) == pytest.approx(1)

    def test_their_mean_is_that_without_noise(self, draws):
        choice = choice_with()
        mean = torch.stack(list(Dirichlet().mean_weights(choice).values())).detach().numpy()
        error = draws.std(0) / len(draws) ** 0.5
        assert (abs(draws.mean(0) - mean) < 4 * error).all()
        assert torch.equal(torch.from_numpy(mean), Dirichlet().probabilities(choice).detach())

    @pytest.mark.parametrize("alpha", [[0.0, -9.0, -20.0], [-8.0, -9.0, 3.0], [-60.0, -60.0, -7.0]], ids=str)
    def test_their_mean_is_the_probabilities_also_where_the_floor_counts(self, alpha):
        """In closed form: the mean of a Dirichlet distribution is its concentrations over their sum."""
        expected = concentration(alpha) / concentration(alpha).sum()
        choice = choice_with(alpha)
        assert Dirichlet().probabilities(choice).tolist() == pytest.approx(expected, rel=1e-12)
        log_p, log_rest = Dirichlet().log_probabilities(choice)
        assert log_p.exp().tolist() == pytest.approx(expected, rel=1e-12)
        assert log_rest.exp().tolist() == pytest.approx(1 - expected, rel=1e-9)

    def test_their_covariance_is_that_of_the_concentrations(self, draws):
        c = concentration(ALPHA)
        mean = c / c.sum()
        expected = (np.diag(mean) - np.outer(mean, mean)) / (c.sum() + 1)
        assert np.cov(draws.T) == pytest.approx(expected, rel=0.15, abs=1e-3)

    def test_two_forwards_of_one_moment_see_the_same_draw(self):
        choice = choice_with()
        choice.relaxation = Dirichlet().at(Moment(0.5, 1, 2), [choice])
        x = torch.ones(3).double()
        first = choice(x)
        torch.rand(5)
        torch.manual_seed(99)
        assert torch.equal(choice(x), first)
        twin = drawn_weights(Dirichlet(), choice, progress=0.9, seed=1, draw=2)
        assert torch.equal(twin, torch.stack(list(choice.relaxation.weights(choice).values())))

    @pytest.mark.parametrize("other", [{"draw": 3}, {"seed": 2}, {"label": "labe1"}], ids=str)
    def test_another_moment_or_fork_is_another_draw(self, other):
        moment = {"seed": 1, "draw": 2}
        there = choice_with(label=other.get("label", "label"))
        here = drawn_weights(Dirichlet(), choice_with(), **moment)
        moment |= {key: value for key, value in other.items() if key != "label"}
        assert (drawn_weights(Dirichlet(), there, **moment) - here).abs().max() > 1e-3

    def test_no_global_source_of_random_numbers_is_touched(self):
        choice = choice_with()
        with untouched():
            drawn_weights(Dirichlet(), choice, seed=1).square().sum().backward()

    def test_copies_draw_alike(self):
        choice = choice_with()
        choice.relaxation = Dirichlet().at(Moment(draw=4), [choice])
        output = choice(torch.ones(2).double())
        assert torch.equal(copy.deepcopy(choice)(torch.ones(2).double()), output)

    @pytest.mark.parametrize("alpha", [[100.0, -100.0, 0.0], [-100.0] * 4, [-9.0, -5.0, -7.0]], ids=str)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_samples_and_gradients_are_finite_where_alphas_are_saturated(self, alpha, dtype):
        choice = choice_with(alpha, dtype=dtype)
        for draw in range(100):
            weights = drawn_weights(Dirichlet(), choice, draw=draw)
            (gradient,) = torch.autograd.grad((weights * torch.arange(len(alpha))).sum(), choice.alpha)
            assert weights.isfinite().all()
            assert weights.sum().item() == pytest.approx(1, abs=1e-5)
            assert gradient.isfinite().all()


def test_the_gradient_of_a_dirichlet_sample_is_that_of_its_mean():
    """E[s . w + w^T w] = s . m + sum c (c + 1) / (C (C + 1)), differentiated by finite differences."""
    slopes, draws = np.array([0.3, -2.0, 1.0, 0.7]), 800

    def expected(alpha):
        c = concentration(alpha)
        whole = c.sum()
        return slopes @ c / whole + (c * (c + 1)).sum() / (whole * (whole + 1))

    choice, gradients = choice_with(), []
    for draw in range(draws):
        w = drawn_weights(Dirichlet(), choice, draw=draw)
        value = (torch.from_numpy(slopes) * w).sum() + w.square().sum()
        gradients.append(torch.autograd.grad(value, choice.alpha)[0].numpy())
    steps = 1e-5 * np.eye(4)
    derivative = [(expected(ALPHA + h) - expected(ALPHA - h)) / 2e-5 for h in steps]
    error = np.std(gradients, 0) / draws**0.5
    assert (abs(np.mean(gradients, 0) - derivative) < 4 * error).all()
    assert (error < 0.15 * abs(np.array(derivative)).max()).all()


class TestAnchor:
    VALUES = ([0.5, -1.0, 1.2, 0.0], [2.0, -3.0])

    def loss(self, **options):
        choices = [choice_with(alpha, label=str(n)) for n, alpha in enumerate(self.VALUES)]
        losses = Dirichlet(**options).losses(choices)
        assert list(losses) == ["anchor"]
        gradients = torch.autograd.grad(losses["anchor"], [choice.alpha for choice in choices])
        return losses["anchor"].item(), [gradient.numpy() for gradient in gradients]

    def slope(self, alpha):
        """Of the concentration."""
        return np.where(np.asarray(alpha) > 0, 1.0, np.exp(alpha))

    def test_half_the_squared_distance(self):
        value, gradients = self.loss(anchor=0.3, distance="l2")
        cs = [concentration(alpha) for alpha in self.VALUES]
        assert value == pytest.approx(0.3 * sum(((c - 1) ** 2).sum() / 2 for c in cs))
        for gradient, c, alpha in zip(gradients, cs, self.VALUES, strict=True):
            assert gradient == pytest.approx(0.3 * (c - 1) * self.slope(alpha))

    def test_the_divergence(self):
        value, gradients = self.loss(anchor=0.3, distance="kl")
        cs = [concentration(alpha) for alpha in self.VALUES]

        def divergence(c):
            whole = c.sum()
            normaliser = gammaln(whole) - gammaln(c).sum() - gammaln(len(c))
            return normaliser + ((c - 1) * (psi(c) - psi(whole))).sum()

        assert value == pytest.approx(0.3 * sum(divergence(c) for c in cs))
        for gradient, c, alpha in zip(gradients, cs, self.VALUES, strict=True):
            of_c = (c - 1) * polygamma(1, c) - (c.sum() - len(c)) * polygamma(1, c.sum())
            assert gradient == pytest.approx(0.3 * of_c * self.slope(alpha))

    @pytest.mark.parametrize("distance", ["l2", "kl"])
    def test_it_pulls_towards_the_uniform_distribution(self, distance):
        choice = choice_with([1.0, -1.0])
        (gradient,) = torch.autograd.grad(Dirichlet(distance=distance).losses([choice])["anchor"], choice.alpha)
        assert gradient[0] > 0 > gradient[1]
        near = choice_with([0.0, 0.0])
        assert Dirichlet(distance=distance).losses([near])["anchor"].item() == pytest.approx(0, abs=1e-8)

    def test_it_can_be_left_out(self):
        value, gradients = self.loss(anchor=0.0)
        assert value == 0
        assert all((gradient == 0).all() for gradient in gradients)
