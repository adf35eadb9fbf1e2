"""What the alphas pay for: entropy by its formula, cost by that of the dearest architecture."""

import itertools
import math

import pytest
import torch
from torch import nn
from training.tiny_runs import tower

from manas.architecture.choice import Choice, choices_of, groups_of, probabilities_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.cost.counting import cost_table
from manas.relaxations.softmax import Softmax
from manas.searching.objectives import (
    beta_decay,
    binary_entropy,
    complexity,
    indecision,
)


def choice(alphas, label="fork", temperature=1.0, dtype=torch.float32):
    made = Choice(label, {f"c{k}": nn.Identity() for k in range(len(alphas))}, Softmax(temperature=temperature))
    made.alpha = nn.Parameter(torch.tensor(alphas, dtype=dtype))
    return made


def formula(alphas, temperature=1.0):
    """-p ln p - (1 - p) ln(1 - p), the obvious way."""
    exponentials = [math.exp(a / temperature) for a in alphas]
    shares = [e / sum(exponentials) for e in exponentials]
    return [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in shares]


@pytest.mark.parametrize("alphas", [[0.0, 0.0], [1.0, -2.0, 0.5], [3.0, 0.0], list(range(9))], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_is_the_formula(alphas, temperature):
    entropy = binary_entropy(choice([float(a) for a in alphas], temperature=temperature))
    assert entropy.tolist() == pytest.approx(formula(alphas, temperature), rel=1e-4, abs=1e-6)


def test_its_gradient_is_the_derivative():
    made = choice([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)

    def entropy(alpha):
        made.alpha = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        del made.alpha
        made.alpha = alpha
        return binary_entropy(made)

    assert torch.autograd.gradcheck(entropy, made.alpha.detach().clone().requires_grad_())


@pytest.mark.parametrize(
    "alphas",
    [[0.0, 50.0], [0.0, 200.0], [1e4, -1e4], [0.0, 0.0, 300.0], [1e30, 0.0], [-1e30, 0.0, 0.0]],
    ids=str,
)
def test_saturated_alphas_have_finite_values_and_gradients(alphas):
    made = choice(alphas)
    entropy = binary_entropy(made)
    assert entropy.isfinite().all()
    assert (entropy >= 0).all()
    entropy.sum().backward()
    assert made.alpha.grad.isfinite().all()


@pytest.mark.parametrize("apart", [5.0, 20.0, 60.0])
def test_the_gradient_at_saturation_is_right(apart):
    """Two candidates: H = 2 h(p), dH/da = -2 a p (1 - p); in float32 also where 1 - p rounds to one."""
    made = choice([apart, 0.0])
    binary_entropy(made).sum().backward()
    p_rest = math.exp(-apart) / (1 + math.exp(-apart))
    expected = -2 * apart * p_rest * (1 - p_rest)
    assert expected < 0  # the further apart, the less entropy
    of_best, of_other = made.alpha.grad.tolist()
    assert of_other == pytest.approx(-expected, rel=1e-3, abs=0)
    assert of_best == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_groups_weigh_alike_whatever_their_number_of_forks():
    wide, narrow = [choice([1.0, 0.0, 0.0], f"w{n}") for n in range(5)], [choice([2.0, 0.0], "n")]
    network = nn.ModuleList([*wide, *narrow])
    assert {names: len(found) for names, found in groups_of(network).items()} == {
        ("c0", "c1", "c2"): 5,
        ("c0", "c1"): 1,
    }
    of_wide, of_narrow = (sum(f) / len(f) for f in (formula([1, 0, 0]), formula([2, 0])))
    assert indecision(network).item() == pytest.approx(of_wide + of_narrow, rel=1e-5)


def test_forks_of_one_candidate_are_decided():
    network = nn.ModuleList([choice([0.5]), choice([1.0, 0.0], "two")])
    total = indecision(network)
    assert total.item() == pytest.approx(sum(formula([1, 0])) / 2, rel=1e-5)
    total.backward()
    assert all(made.alpha.grad is None or made.alpha.grad.isfinite().all() for made in network)


def test_a_network_whose_forks_all_have_one_candidate_is_decided():
    assert float(indecision(nn.ModuleList([choice([0.5])]))) == 0


SPACE = tower()


@pytest.mark.parametrize("metric", ["macs", "parameters"])
class TestComplexity:
    def test_it_is_a_share_of_the_dearest(self, metric):
        supernet, table = SPACE.supernet(), cost_table(SPACE, metric, (3, 16, 16))
        for seed in range(5):
            torch.manual_seed(seed)
            for made in choices_of(supernet):
                nn.init.normal_(made.alpha, std=5)
            assert 0 < complexity(supernet, table, table.dearest()).item() <= 1

    def test_it_is_one_for_the_dearest_architecture(self, metric):
        supernet, table = SPACE.supernet(), cost_table(SPACE, metric, (3, 16, 16))
        for made in choices_of(supernet):
            with torch.no_grad():
                made.alpha.copy_(1000 * (table.forks[made.label].own == table.forks[made.label].own.max()))
        assert complexity(supernet, table, table.dearest()).item() == pytest.approx(1)

    def test_of_one_hot_weights_it_is_the_cost_of_the_genotype(self, metric):
        supernet, table = SPACE.supernet(), cost_table(SPACE, metric, (3, 16, 16))
        for seed in range(3):
            choices = Genotype.sample(SPACE, seed=seed).choices
            with relaxed_by(supernet, OneHot(choices)):
                expected = table.exact(choices) / table.dearest()
                assert complexity(supernet, table, table.dearest()).item() == pytest.approx(expected, rel=1e-5)

    def test_its_gradient_pushes_towards_the_cheap(self, metric):
        supernet, table = SPACE.supernet(), cost_table(SPACE, metric, (3, 16, 16))
        for made in choices_of(supernet):
            nn.init.zeros_(made.alpha)
        complexity(supernet, table, table.dearest()).backward()
        compared = 0
        for made in choices_of(supernet):
            own = table.forks[made.label].own
            for one, other in itertools.permutations(range(len(own)), 2):
                if own[one] < own[other]:  # descent raises the alpha of the cheaper one more
                    assert made.alpha.grad[one] < made.alpha.grad[other]
                    compared += 1
        assert compared > 10


def test_probabilities_by_label():
    network = nn.ModuleList([choice([0.0, 0.0], "even"), choice([math.log(3), 0.0], "uneven")])
    found = probabilities_of(network)
    assert found["even"].tolist() == [0.5, 0.5]
    assert found["uneven"].tolist() == pytest.approx([0.75, 0.25])


class TestBetaDecay:
    """Ye et al., CVPR 2022, eq. 12: the mean over forks of ln sum_k exp(alpha_k)."""

    VALUES = ([0.5, -1.0, 1.2], [2.0, -3.0])

    def choices(self):
        return [choice(alphas, str(n), dtype=torch.float64) for n, alphas in enumerate(self.VALUES)]

    def test_value(self):
        sums = [math.log(sum(math.exp(a) for a in alphas)) for alphas in self.VALUES]
        assert beta_decay(self.choices()).item() == pytest.approx(sum(sums) / 2)

    def test_its_gradient_is_the_softmax(self):
        choices = self.choices()
        gradients = torch.autograd.grad(beta_decay(choices), [made.alpha for made in choices])
        for gradient, alphas in zip(gradients, self.VALUES, strict=True):
            exponentials = [math.exp(a) for a in alphas]
            assert gradient.tolist() == pytest.approx([e / sum(exponentials) / 2 for e in exponentials])

    def test_the_temperature_has_no_part_in_it(self):
        hot = choice(self.VALUES[0], temperature=5.0)
        assert beta_decay([hot]) == beta_decay([choice(self.VALUES[0])])

    @pytest.mark.parametrize("alphas", [[100.0, -100.0], [-1e4, -1e4], [1e30, 0.0]], ids=str)
    def test_saturated_alphas_have_finite_values_and_gradients(self, alphas):
        made = choice(alphas)
        value = beta_decay([made])
        assert value.item() == pytest.approx(max(alphas) + (math.log(2) if alphas[0] == alphas[1] else 0))
        (gradient,) = torch.autograd.grad(value, made.alpha)
        assert gradient.isfinite().all()
