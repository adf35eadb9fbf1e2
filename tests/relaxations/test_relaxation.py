"""What every relaxation promises, its formulas, and its logarithms where they are saturated."""

import copy
import math
from decimal import Decimal, localcontext

import pytest
import torch
from architecture.toy_spaces import NESTED, architectures
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import Choice, Moment, architecture_parameters, choices_of, relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.relaxations.base import Noiseless, scheduled
from manas.relaxations.dirichlet import LOWEST_CONCENTRATION, Dirichlet
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.sigmoid import Sigmoid
from manas.relaxations.softmax import Softmax
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive

alphas = st.lists(st.floats(-200, 200), min_size=2, max_size=9)

RELAXATIONS = {
    "softmax": Softmax(),
    "warm softmax": Softmax(temperature=4.0),
    "scheduled softmax": Softmax(temperature=(4.0, 0.5)),
    "gumbel": Gumbel(),
    "dirichlet": Dirichlet(),
    "sigmoid": Sigmoid(),
}
of_every_relaxation = pytest.mark.parametrize("relaxation", RELAXATIONS.values(), ids=RELAXATIONS)


def choice_with(
    alpha, *, temperature=1.0, dtype=torch.float64, relaxation=None, names=None, label="label", zero=None
):
    names = names or [f"c{k}" for k in range(len(alpha))]
    relaxation = relaxation or Softmax(temperature=temperature)
    choice = Choice(label, {name: nn.Identity() for name in names}, relaxation, zero=zero)
    choice.alpha = nn.Parameter(torch.tensor(alpha, dtype=dtype))
    return choice


def settled(relaxation, *choices, **moment):
    """Gives the choices the relaxation of a moment."""
    drawn = relaxation.at(Moment(**moment), choices)
    for choice in choices:
        choice.relaxation = drawn
    return drawn


def exact_share(relaxation, alpha):
    """What is proportional to p, with as many digits as it takes."""
    if isinstance(relaxation, Sigmoid):
        return 1 / (1 + (-alpha).exp())
    if isinstance(relaxation, Dirichlet):
        return (alpha + 1 if alpha > 0 else alpha.exp()) + Decimal(LOWEST_CONCENTRATION)
    return (alpha / Decimal(scheduled(getattr(relaxation, "temperature", 1.0), 0))).exp()


def exact_logarithms(relaxation, alpha):
    """ln p and ln(1 - p) by their definitions."""
    if isinstance(relaxation, Gumbel):  # the probabilities of the sample, whatever its temperature
        relaxation = Softmax()
    with localcontext() as context:
        context.prec = 300
        shares = [exact_share(relaxation, Decimal(a)) for a in alpha]
        probabilities = [share / sum(shares) for share in shares]
        return [float(p.ln()) for p in probabilities], [float((1 - p).ln()) for p in probabilities]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_probabilities(temperature):
    choice = choice_with([0.3, -1.0, 2.0], temperature=temperature)
    exponentials = [math.exp(value / temperature) for value in (0.3, -1.0, 2.0)]
    expected = torch.tensor([e / sum(exponentials) for e in exponentials], dtype=torch.float64)
    torch.testing.assert_close(choice.probabilities(), expected, rtol=1e-14, atol=0)


def test_softmax_weights_are_the_probabilities_by_name():
    choice = choice_with([0.3, -1.0, 2.0])
    weights = choice.relaxation.weights(choice)
    assert list(weights) == ["c0", "c1", "c2"]
    assert all(weight.shape == () for weight in weights.values())
    assert torch.equal(torch.stack(list(weights.values())), choice.probabilities())


@pytest.mark.parametrize("alpha", [[0.0, 0.0], [0.3, -1.0, 2.0], [5.0, -5.0, 0.1, 0.0, 1.0]])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_log_probabilities_equal_the_direct_formula(alpha, temperature):
    choice = choice_with(alpha, temperature=temperature)
    p = choice.probabilities()
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_p, p.log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_rest, (1 - p).log(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities_of_saturated_alphas(dtype):
    choice = choice_with([200.0, -200.0, 0.0], dtype=dtype)
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_p, torch.tensor([0.0, -400.0, -200.0], dtype=dtype))
    torch.testing.assert_close(log_rest, torch.tensor([-200.0, 0.0, 0.0], dtype=dtype))


@given(alphas)
def test_log_probabilities_and_their_gradients_are_finite(alpha):
    choice = choice_with(alpha)
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    assert log_p.isfinite().all()
    assert log_rest.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0)
    torch.testing.assert_close(log_p.exp() + log_rest.exp(), torch.ones_like(log_p))
    (gradient,) = torch.autograd.grad((log_p + log_rest).sum(), choice.alpha)
    assert gradient.isfinite().all()


@given(st.floats(-200, 200))
def test_of_two_candidates_each_is_the_rest_of_the_other(difference):
    choice = choice_with([difference, 0.0])
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    torch.testing.assert_close(log_rest, log_p.flip(0), rtol=1e-12, atol=1e-300)


@of_every_relaxation
@given(alphas)
def test_probabilities_and_their_logarithms_agree(relaxation, alpha):
    choice = choice_with(alpha)
    settled(relaxation, choice)
    p = choice.probabilities()
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    assert (p >= 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(log_p.exp(), p, rtol=1e-10, atol=1e-300)
    torch.testing.assert_close(log_rest.exp(), 1 - p, rtol=0, atol=1e-12)
    assert (log_rest <= 1e-12).all()


SATURATED = [[100.0, -100.0], [-100.0, -100.0, -100.0], [100.0, 100.0, -100.0], [0.0, -100.0, 100.0, 3.0]]


@of_every_relaxation
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [*SATURATED, [0.3, -1.0, 2.0]], ids=str)
def test_logarithms_by_their_definition(relaxation, alpha, dtype):
    choice = choice_with(alpha, dtype=dtype)
    settled(relaxation, choice)
    found = choice.relaxation.log_probabilities(choice)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for logarithms, expected in zip(found, exact_logarithms(relaxation, alpha), strict=True):
        assert logarithms.dtype == dtype
        assert logarithms.tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)


@of_every_relaxation
@pytest.mark.parametrize("alpha", SATURATED, ids=str)
def test_nothing_overflows_where_alphas_are_saturated(relaxation, alpha):
    choice = choice_with(alpha, dtype=torch.float32)
    settled(relaxation, choice)
    weighting = choice.relaxation
    for values in (
        *weighting.log_probabilities(choice),
        weighting.probabilities(choice),
        torch.stack(list(weighting.weights(choice).values())),
        torch.stack(list(weighting.mean_weights(choice).values())),
        *(loss[None] for loss in weighting.losses([choice]).values()),
    ):
        assert values.isfinite().all()
        (gradient,) = torch.autograd.grad(values.square().sum(), choice.alpha, retain_graph=True)
        assert gradient.isfinite().all()


@of_every_relaxation
def test_the_gradient_of_the_logarithms_is_their_derivative(relaxation):
    choice = choice_with([0.3, -1.2, 2.0, -0.1])
    settled(relaxation, choice)

    def logarithms(alpha):
        del choice.alpha
        choice.alpha = alpha
        return choice.relaxation.log_probabilities(choice)

    assert torch.autograd.gradcheck(logarithms, choice.alpha.detach().clone().requires_grad_())


@given(alphas, st.sampled_from(["softmax", "warm softmax", "scheduled softmax", "dirichlet"]))
def test_weights_that_compete_sum_to_one(alpha, name):
    choice = choice_with(alpha)
    settled(RELAXATIONS[name], choice)
    weights = choice.relaxation.weights(choice)
    assert tuple(weights) == choice.names
    assert all(weight.shape == () and weight >= 0 for weight in weights.values())
    assert sum(weights.values()).item() == pytest.approx(1, abs=1e-12)


class TestSigmoid:
    def test_weights_beside_a_zero_are_independent(self):
        values = [0.3, -1.0, 2.0, 0.0]
        one, other = choice_with(values, zero="c3"), choice_with([0.3, 5.0, 2.0, 0.0], zero="c3")
        weights = [Sigmoid().weights(choice) for choice in (one, other)]
        expected = {f"c{k}": 1 / (1 + math.exp(-a)) for k, a in enumerate(values)}
        assert {name: weight.item() for name, weight in weights[0].items()} == pytest.approx(expected)
        assert weights[0]["c0"] == weights[1]["c0"]
        assert weights[0]["c2"] == weights[1]["c2"]
        assert weights[0]["c1"] != weights[1]["c1"]
        (gradient,) = torch.autograd.grad(weights[0]["c0"], one.alpha)
        share = expected["c0"]
        assert gradient.tolist() == pytest.approx([share * (1 - share), 0, 0, 0])

    @pytest.mark.parametrize("label", ["stitch/stage0", "fusion"])
    def test_stitches_and_fusions_are_means(self, label):
        """A stitch called `none` is the identity: it has a weight and an alpha like the others."""
        drn = DualRecursive(channels=2, stages=1, recursions=1)
        space = RestorationSpace(towers={"a": drn, "b": drn}, stitch="searched", fusion="searched")
        choice = {made.label: made for made in choices_of(space.supernet(Sigmoid()))}[label]
        with torch.no_grad():
            choice.alpha.copy_(torch.tensor([3.0, 0.0, 0.0]))
        weights = torch.stack(list(Sigmoid().weights(choice).values()))
        first = 1 / (1 + math.exp(-3))
        expected = [first / (first + 1), 0.5 / (first + 1), 0.5 / (first + 1)]  # 0.488, 0.256, 0.256
        assert weights.tolist() == pytest.approx(expected)
        assert weights.tolist() == pytest.approx(choice.probabilities().tolist())
        (gradient,) = torch.autograd.grad(weights[0], choice.alpha)
        slope = first * (1 - first) / (first + 1) ** 2  # of s / (s + 1), where s' = s (1 - s)
        assert gradient.tolist() == pytest.approx([slope, *[-first * 0.25 / (first + 1) ** 2] * 2], rel=1e-4)

    @given(values=alphas)
    def test_without_a_zero_they_sum_to_one(self, values):
        assert sum(Sigmoid().weights(choice_with(values)).values()).item() == pytest.approx(1)

    def test_probabilities_are_the_shares_of_the_weights(self):
        choice = choice_with([0.3, -1.0, 2.0], relaxation=Sigmoid(), zero="c1")
        weights = torch.stack(list(Sigmoid().weights(choice).values()))
        torch.testing.assert_close(choice.probabilities(), weights / weights.sum(), rtol=1e-14, atol=0)

    def test_a_zero_is_held_at_one_half(self):
        """Its output is zero whatever its weight, so that only the other weights can be learned."""
        relaxation, names = Sigmoid(zero_one=3.0), ["skip", "nothing", "gate"]
        choice = choice_with([0.3, 7.0, -2.0], relaxation=relaxation, names=names, zero="nothing")
        weights = relaxation.weights(choice)
        shares = [1 / (1 + math.exp(-0.3)), 0.5, 1 / (1 + math.exp(2.0))]
        assert [weights[name].item() for name in names] == pytest.approx(shares)
        expected = [share / sum(shares) for share in shares]
        assert choice.probabilities().tolist() == pytest.approx(expected)
        loss = relaxation.losses([choice])["zero_one"]
        assert loss.item() == pytest.approx(-3 * sum((share - 0.5) ** 2 for share in shares) / 3)
        (gradient,) = torch.autograd.grad(loss + choice.probabilities()[0], choice.alpha)
        assert gradient[1] == 0
        assert gradient[0] != 0
        assert choice.alpha.tolist() == [0.3, 7.0, -2.0]

    def test_zero_one_loss(self):
        """Over all weights alike, so that a choice of many candidates counts for more."""
        values = [[0.3, -1.0, 2.0], [0.5, -4.0]]
        choices = [choice_with(alpha) for alpha in values]
        losses = Sigmoid(zero_one=3.0).losses(choices)
        assert list(losses) == ["zero_one"]
        shares = [[1 / (1 + math.exp(-a)) for a in alpha] for alpha in values]
        distances = [(share - 0.5) ** 2 for each in shares for share in each]
        assert losses["zero_one"].item() == pytest.approx(-3 * sum(distances) / 5)
        gradients = torch.autograd.grad(losses["zero_one"], [choice.alpha for choice in choices])
        for gradient, each in zip(gradients, shares, strict=True):
            slopes = [-3 * 2 * (s - 0.5) * s * (1 - s) / 5 for s in each]
            assert gradient.tolist() == pytest.approx(slopes)

    def test_it_pushes_away_from_one_half(self):
        choice = choice_with([0.3, -0.3])
        (gradient,) = torch.autograd.grad(Sigmoid().losses([choice])["zero_one"], choice.alpha)
        assert gradient[0] < 0 < gradient[1]


@pytest.mark.parametrize("relaxation", [Softmax(), Gumbel()], ids=["softmax", "gumbel"])
def test_relaxations_without_a_loss_of_their_own(relaxation):
    assert relaxation.losses([choice_with([0.3, -1.0])]) == {}


class TestSchedule:
    @pytest.mark.parametrize(("progress", "expected"), [(0, 4.0), (0.25, 3.25), (0.5, 2.5), (1, 1.0)])
    def test_temperature_is_linear_in_progress(self, progress, expected):
        choice, relaxation = choice_with([0.3, -1.0, 2.0]), Softmax(temperature=(4.0, 1.0))
        settled(relaxation, choice, progress=progress)
        expected = torch.softmax(choice.alpha / expected, 0)
        torch.testing.assert_close(choice.probabilities(), expected, rtol=1e-14, atol=0)

    @pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
    def test_a_constant_stays(self, progress):
        assert scheduled(2.5, progress) == 2.5
        assert Softmax(temperature=2.5).at(Moment(progress), []).temperature == 2.5

    def test_before_its_first_moment_it_stands_at_its_beginning(self):
        choice = choice_with([0.3, -1.0], relaxation=Softmax(temperature=(4.0, 1.0)))
        torch.testing.assert_close(choice.probabilities(), torch.softmax(choice.alpha / 4, 0))

    @of_every_relaxation
    def test_the_configured_relaxation_never_changes(self, relaxation):
        choice = choice_with([0.3, -1.0, 2.0])
        before, fields = copy.deepcopy(relaxation), relaxation.model_dump()
        drawn = [settled(relaxation, choice, progress=p, draw=d) for p, d in ((0.0, 1), (0.5, 2), (1.0, 3))]
        choice.relaxation.weights(choice)
        assert relaxation.model_dump() == fields
        assert relaxation == before
        assert all(type(each) is type(relaxation) for each in drawn)
        with pytest.raises(ValidationError, match="frozen"):
            drawn[0].kind = "other"

    def test_a_supernet_begins_at_the_beginning(self):
        supernet = NESTED.supernet(Softmax(temperature=(4.0, 1.0)))
        assert {choice.relaxation.temperature for choice in choices_of(supernet)} == {4.0}
        NESTED.supernet(Gumbel())(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *(
            (Softmax, {"temperature": t})
            for t in (0, -1.0, math.inf, math.nan, (1.0, 0.0), (1.0, 2.0, 3.0), "x")
        ),
        *((Gumbel, {"temperature": t}) for t in (0, -0.1, math.inf, (math.inf, 0.1), (10.0, -0.1), (10.0,))),
        *((Sigmoid, {"zero_one": w}) for w in (-1, math.inf, math.nan)),
        *((Dirichlet, {"anchor": w}) for w in (-1e-3, math.inf, math.nan)),
        (Dirichlet, {"distance": "l1"}),
        *((kind, {"tau": 2.0}) for kind in (Softmax, Gumbel, Dirichlet, Sigmoid)),
        *((kind, {"kind": "other"}) for kind in (Softmax, Gumbel, Dirichlet, Sigmoid)),
    ],
    ids=str,
)
def test_bad_options_are_refused(kind, fields):
    with pytest.raises(ValidationError):
        kind(**fields)


def test_a_schedule_is_read_from_a_list():
    assert Gumbel.model_validate({"temperature": [5, 0.5]}).temperature == (5.0, 0.5)


class TestMean:
    EXPECTED = {
        "softmax": lambda a: torch.softmax(a, 0),
        "warm softmax": lambda a: torch.softmax(a / 4, 0),
        "scheduled softmax": lambda a: torch.softmax(a / 2.25, 0),
        "gumbel": lambda a: torch.softmax(a, 0),
        "dirichlet": lambda a: (nn.functional.elu(a) + 1.001) / (nn.functional.elu(a) + 1.001).sum(),
        "sigmoid": lambda a: a.sigmoid() / a.sigmoid().sum(),
    }

    @pytest.mark.parametrize("name", RELAXATIONS)
    def test_weights_without_noise(self, name):
        choice = choice_with([0.3, -1.0, 2.0])
        found = []
        for draw in range(5):
            drawn = RELAXATIONS[name].at(Moment(0.5, draw=draw), [choice])
            found.append(torch.stack(list(Noiseless(drawn).weights(choice).values())))
            torch.testing.assert_close(found[-1], self.EXPECTED[name](choice.alpha), rtol=1e-14, atol=0)
        assert all(torch.equal(found[0], each) for each in found)

    @pytest.mark.parametrize("name", RELAXATIONS)
    def test_probabilities_are_those_of_the_relaxation(self, name):
        choice, relaxation = choice_with([0.3, -1.0, 2.0]), RELAXATIONS[name]
        mean = Noiseless(relaxation)
        assert torch.equal(mean.probabilities(choice), relaxation.probabilities(choice))
        for found, expected in zip(
            mean.log_probabilities(choice), relaxation.log_probabilities(choice), strict=True
        ):
            assert torch.equal(found, expected)


class Forbidden(nn.Module):
    def forward(self, x):
        pytest.fail("a candidate that was not chosen ran")


def test_one_hot_runs_only_the_chosen_candidate():
    candidates = {"a": Forbidden(), "b": nn.Identity(), "c": Forbidden()}
    choice = Choice("label", candidates, OneHot({"label": "b", "other": "a"}))
    x = torch.randn(2, 3)
    assert torch.equal(choice(x), x)
    assert torch.equal(choice.probabilities(), torch.tensor([0.0, 1.0, 0.0]))


def test_one_hot_runs_only_the_chosen_candidate_of_nested_forks():
    inner = Choice("inner", {"a": nn.Identity(), "b": Forbidden()}, OneHot({}))
    outer = Choice("outer", {"a": inner, "b": Forbidden()}, OneHot({}))
    inner.relaxation = outer.relaxation = OneHot({"outer": "a", "inner": "a"})
    assert torch.equal(outer(torch.ones(2)), torch.ones(2))


def test_one_hot_gives_a_fork_that_is_not_reached_no_probability():
    choice = Choice("label", {"a": nn.Identity(), "b": nn.Identity()}, OneHot({}))
    assert torch.equal(choice.probabilities(), torch.zeros(2))


def test_one_hot_gives_finite_logarithms():
    choice = choice_with([0.3, -1.0, 2.0], relaxation=OneHot({"label": "c1"}))
    log_p, log_rest = choice.relaxation.log_probabilities(choice)
    assert log_p.isfinite().all()
    assert log_rest.isfinite().all()
    assert log_p.exp().tolist() == [0, 1, 0]
    assert log_rest.exp().tolist() == [1, 0, 1]


def test_one_hot_does_not_look_at_the_alphas():
    choice = choice_with([math.nan, 0.0], relaxation=OneHot({"label": "c1"}))
    assert choice.probabilities().tolist() == [0, 1]
    assert choice(torch.tensor(3.0)) == 3


class TestInvariant:
    """The supernet of any relaxation equals, under `OneHot`, the derived network with its weights."""

    def check(self, space, supernet, genotypes, image):
        supernet.double().eval()
        relaxed, searched = supernet(image), {}
        for choices in genotypes:
            network = space.inherit(supernet, choices).eval()
            with torch.no_grad(), relaxed_by(supernet, OneHot(choices)):
                output = supernet(image)
            scale = max(1.0, output.abs().max().item())
            assert (output - network(image)).abs().max().item() <= 1e-12 * scale
            searched[round(output.square().sum().item(), 6)] = choices
        assert len(searched) > 2
        assert torch.equal(supernet(image), relaxed)

    @of_every_relaxation
    def test_nested_forks(self, relaxation, randomised):
        supernet = randomised(NESTED.supernet(relaxation))
        relax(supernet, relaxation.at(Moment(0.7, draw=3), choices_of(supernet)))
        self.check(NESTED, supernet, architectures(NESTED.root), torch.randn(2, 3, 8, 8).double())

    @of_every_relaxation
    def test_a_tower(self, relaxation, small_tower, randomised):
        supernet = randomised(small_tower.supernet(relaxation))
        relax(supernet, relaxation.at(Moment(0.7, draw=3), choices_of(supernet)))
        genotypes = [Genotype.sample(small_tower, seed).choices for seed in range(3)]
        self.check(small_tower, supernet, genotypes, torch.rand(1, 3, 16, 16).double())


@of_every_relaxation
def test_a_supernet_is_copied_after_it_has_run(relaxation):
    """What a relaxation keeps carries no graph."""
    supernet = NESTED.supernet(relaxation)
    relax(supernet, relaxation.at(Moment(0.5, draw=1), choices_of(supernet)))
    image = torch.rand(2, 3, 8, 8)
    supernet(image).sum().backward()
    supernet.eval()
    output = supernet(image)
    twin = copy.deepcopy(supernet)
    assert torch.equal(twin(image), output)
    with torch.no_grad():
        for alpha in architecture_parameters(twin):
            alpha.add_(torch.randn_like(alpha))
    twin(image)
    assert torch.equal(supernet(image), output)
