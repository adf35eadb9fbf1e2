"""What is measured of a search: entropy and shares by hand, the eigenvalue against the whole Hessian."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from architecture.toy_spaces import NESTED
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from manas.architecture.choice import Choice, architecture_parameters, choices_of, relaxed_by
from manas.architecture.weighting import OneHot
from manas.relaxations.softmax import Softmax
from manas.searching import health
from manas.searching.health import (
    Health,
    Tally,
    dominant_eigenvalue,
    entropy_by_group,
    group_name,
    group_tags,
    shares_by_group,
    tally,
)
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


def choice(label, probabilities, names=None):
    """A choice whose softmax gives these probabilities."""
    names = names or [f"c{k}" for k in range(len(probabilities))]
    made = Choice(label, {name: nn.Identity() for name in names}, Softmax())
    made.alpha = nn.Parameter(torch.tensor(probabilities).log())
    return made


class TestTags:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (("a",), "a"),
            (("parallel", "fusion"), "parallel+fusion"),
            (("none", "layer", "channel"), "none+layer+channel"),
            (("a", "b", "c", "d"), "a+..+d_4"),
            (("none", *(f"c{k}" for k in range(7)), "cbam"), "none+..+cbam_9"),
        ],
    )
    def test_of_one_group(self, names, expected):
        assert group_name(names) == expected

    def test_groups_that_would_be_called_alike_have_all_their_names(self):
        groups = [("a", "b", "c", "d"), ("a", "x", "y", "d"), ("a", "b", "c", "e"), ("a", "b")]
        network = nn.ModuleList(choice("f", [1 / len(names)] * len(names), names) for names in groups)
        assert list(group_tags(network).values()) == ["a+b+c+d", "a+x+y+d", "a+..+e_4", "a+b"]

    @given(
        st.lists(
            st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
            .flatmap(lambda some: st.permutations([*some, "y", "z"]))
            .map(tuple),
            max_size=6,
            unique=True,
        )
    )
    def test_they_are_unique(self, groups):
        network = nn.ModuleList(choice("f", [1 / len(names)] * len(names), names) for names in groups)
        tags = group_tags(network)
        assert set(tags) == set(groups)
        assert len(set(tags.values())) == len(groups)


class TestEntropy:
    def test_is_the_formula(self):
        shares = [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]
        network = nn.ModuleList([choice("x", shares[0]), choice("y", shares[1]), choice("z", [0.9, 0.1])])
        of_three = sum(-p * math.log(p) for each in shares for p in each) / 2 / math.log(3)
        of_two = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
        assert entropy_by_group(network) == {
            "c0+c1+c2": pytest.approx(of_three, rel=1e-5),
            "c0+c1": pytest.approx(of_two, rel=1e-5),
        }

    @pytest.mark.parametrize("candidates", [2, 3, 9])
    def test_from_undecided_to_decided(self, candidates):
        made = choice("x", [1 / candidates] * candidates)
        found = []
        for sharpness in (0, 1, 3, 10, 1e4):
            with torch.no_grad():
                made.alpha.copy_(sharpness * torch.arange(candidates))
            found += entropy_by_group(made).values()
        assert found[0] == pytest.approx(1)
        assert found == sorted(found, reverse=True)
        assert found[-1] == 0

    def test_rounding_takes_it_beyond_no_limit(self):
        for candidates in range(2, 60):
            (value,) = entropy_by_group(choice("x", [1 / candidates] * candidates)).values()
            assert 1 - 1e-5 < value <= 1

    @given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=2), min_size=1, max_size=5))
    def test_is_a_share(self, alphas):
        network = nn.ModuleList(choice("x", [0.5, 0.5]) for _ in alphas)
        for made, values in zip(network, alphas, strict=True):
            made.alpha = nn.Parameter(torch.tensor(values))
        assert all(0 <= value <= 1 for value in entropy_by_group(network).values())

    def test_one_candidate_has_nothing_to_decide(self):
        network = nn.ModuleList([choice("x", [1.0]), choice("y", [0.5, 0.5])])
        assert list(entropy_by_group(network)) == ["c0+c1"]

    def test_of_a_derived_network_is_zero(self):
        network = NESTED.supernet()
        with relaxed_by(network, OneHot(NESTED.sample(seed=1).choices)):
            assert set(entropy_by_group(network).values()) == {0.0}


def test_shares_are_means_over_the_group():
    network = nn.ModuleList([choice("x", [0.7, 0.3]), choice("y", [0.1, 0.9]), choice("z", [0.2, 0.3, 0.5])])
    shares = shares_by_group(network)
    assert shares == {
        "c0+c1": pytest.approx({"c0": 0.4, "c1": 0.6}),
        "c0+c1+c2": pytest.approx({"c0": 0.2, "c1": 0.3, "c2": 0.5}),
    }


class TestTally:
    CANDIDATES = {
        "a": ("none", "skip_connect", "conv"),
        "b": ("none", "skip_connect", "conv"),
        "c": ("skip_connect", "conv"),
        "d": ("parallel", "fusion"),
        "fixed": ("skip_connect",),
        "a/inside": ("none", "skip_connect", "conv"),
    }
    PATH = {"a": "skip_connect", "b": "none", "c": "skip_connect", "d": "fusion", "fixed": "skip_connect"}

    def test_counts_the_forks_on_the_path_that_offer_it(self):
        skips, nones = (tally(name, self.PATH, self.CANDIDATES) for name in ("skip_connect", "none"))
        assert (skips.chosen, skips.offered) == (2, 3)
        assert skips.chance == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
        assert skips.share == pytest.approx(2 / 3)
        assert (nones.chosen, nones.offered, nones.chance) == (1, 2, pytest.approx(1 / 3))

    @pytest.mark.parametrize("path", [{}, {"d": "fusion"}, {"fixed": "skip_connect"}], ids=str)
    def test_where_no_fork_offers_it(self, path):
        assert tally("skip_connect", path, self.CANDIDATES) == Tally(0, 0, 0)
        assert tally("skip_connect", path, self.CANDIDATES).share is None

    def test_chance_is_the_mean_share_of_random_architectures(self):
        candidates = NESTED.choices()
        drawn = [tally("c1", NESTED.sample(seed).choices, candidates) for seed in range(400)]
        expected = sum(each.chance * each.offered for each in drawn)
        assert sum(each.chosen for each in drawn) == pytest.approx(expected, rel=0.1)


class TestHealth:
    ONE = Health(3, 30.5, 28.0, {"a+b": 0.5}, Tally(1, 4, 0.25), Tally(0, 0, 0.0), 0.01, None)

    def test_what_follows_from_it(self):
        assert (self.ONE.gap, self.ONE.skip_share, self.ONE.none_share) == (2.5, 0.25, None)

    def test_survives_a_checkpoint(self, tmp_path):
        save_checkpoint(tmp_path / "c.pt", ALONE, {"history": [self.ONE.to_dict()]})
        (read,) = load_checkpoint(tmp_path / "c.pt", ALONE)["history"]
        assert Health.from_dict(read) == self.ONE


def hessian_of(function, alphas):
    """(n, n) of a function of tensors, by torch's own means."""
    sizes = [alpha.numel() for alpha in alphas]
    flat = torch.cat([alpha.detach().reshape(-1) for alpha in alphas])
    return torch.autograd.functional.hessian(lambda x: function(*x.split(sizes)), flat).numpy()


def largest(function, alphas):
    return float(np.linalg.eigvalsh(hessian_of(function, alphas))[-1])


def parameters(*sizes, dtype=torch.float64, scale=1.0):
    return [nn.Parameter(scale * torch.randn(size, dtype=dtype)) for size in sizes]


def quadratic(matrix):
    """A function of tensors whose Hessian is the symmetric `matrix`."""
    matrix = torch.as_tensor(matrix)

    def function(*alphas):
        x = torch.cat(alphas)
        return x @ (matrix @ x) / 2 + x.sum()

    return function


def found(function, alphas, **options):
    return dominant_eigenvalue(function(*alphas), alphas, **options)


def smooth(a, b, c):
    """Couples three tensors of any lengths."""
    return (
        torch.tanh(a).sum() * torch.sin(b).sum()
        + (c.softmax(0) * c.cos()).sum() * a.square().mean()
        + b.exp().mean()
    )


def rotated(eigenvalues):
    """A symmetric matrix with these eigenvalues."""
    vectors, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(eigenvalues),) * 2))
    matrix = (vectors * np.asarray(eigenvalues)) @ vectors.T
    return (matrix + matrix.T) / 2


class TestEigenvalue:
    @pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 3, 4), (9, 2, 9), (20, 7, 40)], ids=str)
    def test_is_that_of_the_whole_hessian(self, sizes):
        alphas = parameters(*sizes)
        expected = largest(smooth, alphas)
        assert found(smooth, alphas, tolerance=1e-9) == pytest.approx(expected, rel=1e-8)
        assert found(smooth, alphas) == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("spread", [1e-3, 1.0])
    def test_of_a_supernet(self, training, spread):
        network = NESTED.supernet().double().train(training)
        for made in choices_of(network):
            nn.init.normal_(made.alpha, std=spread)
        names = [name for name, _ in network.named_parameters() if name.endswith("alpha")]
        images = torch.rand(2, 3, 6, 6, dtype=torch.float64)

        def loss(*alphas):
            replaced = dict(zip(names, alphas, strict=True))
            return torch.func.functional_call(network, replaced, (images,)).square().mean()

        alphas = architecture_parameters(network)
        expected = largest(loss, alphas)
        assert expected > 1e-4
        value = dominant_eigenvalue(network(images).square().mean(), alphas, tolerance=1e-6)
        assert value == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        "eigenvalues",
        [
            [-2.0],
            [3.0],
            [-3.0, -2.0],
            [1.0, -5.0],
            [-7.0, -0.5, -1.0, -3.0],
            [-1000.0, -20.0, 0.3, 0.1, 0.2],
            [1e-3, 1e-4, -1e-4],
            [-2.0] * 30,
            [4.0] * 30,
            [1.0, *[0.0] * 29],
            [*[-1.0] * 29, 0.0],
        ],
        ids=str,
    )
    def test_is_the_largest_not_the_one_of_largest_magnitude(self, eigenvalues):
        matrix = rotated(eigenvalues)
        value = found(quadratic(matrix), parameters(len(eigenvalues)))
        assert value == pytest.approx(max(eigenvalues), rel=0.01, abs=1e-5 * np.abs(eigenvalues).max())

    @pytest.mark.parametrize("eigenvalues", [np.linspace(-1, 1, 267), -(np.linspace(0, 1, 267) ** 2)])
    def test_of_many_alphas_takes_few_products(self, eigenvalues, monkeypatch):
        products = count_products(monkeypatch)
        value = found(quadratic(rotated(eigenvalues)), parameters(200, 67))
        assert value == pytest.approx(eigenvalues.max(), abs=0.02)
        assert len(products) <= 64

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_zero_where_no_eigenvalue_is_positive(self, dtype):
        matrix = torch.from_numpy(rotated([-3.0] * 10 + [-2.0] * 10 + [-1.0] * 10 + [0.0] * 10)).to(dtype)
        assert found(quadratic(matrix), parameters(40, dtype=dtype)) == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("restarts", [1, 3])
    def test_products_are_bounded(self, restarts, monkeypatch):
        function, alphas = quadratic(rotated(np.linspace(-1, 1, 50))), parameters(50)
        products = count_products(monkeypatch)
        value = found(function, alphas, tolerance=1e-15, restarts=restarts)
        assert len(products) <= 20 * restarts
        assert math.isnan(value)

    @given(st.lists(st.floats(-10, 10), min_size=1, max_size=12))
    def test_of_any_spectrum(self, eigenvalues):
        value = found(quadratic(rotated(eigenvalues)), parameters(len(eigenvalues)), tolerance=1e-6)
        scale = max(map(abs, eigenvalues))
        assert value <= max(eigenvalues) + 1e-9 * scale
        assert value == pytest.approx(max(eigenvalues), abs=1e-4 * scale)

    def test_alphas_that_are_not_used_are_rows_of_zeros(self):
        alphas = parameters(3, 4, 2)
        bowl = -sum(a.square().sum() for a in alphas[::2])
        assert dominant_eigenvalue(bowl, alphas) == pytest.approx(0, abs=1e-4)
        assert dominant_eigenvalue(bowl, alphas[::2]) == pytest.approx(-2)
        assert dominant_eigenvalue(-3 * bowl, alphas) == pytest.approx(6)
        assert dominant_eigenvalue(-3 * bowl, alphas[1:2]) == 0

    @pytest.mark.parametrize(
        "case", ["constant", "of weights", "linear", "linear with weights", "partly linear"]
    )
    def test_without_a_second_derivative(self, case):
        weights = nn.Parameter(torch.randn(3))
        (alpha, other) = parameters(3, 2, dtype=torch.float32)
        loss = {
            "constant": torch.tensor(1.0),
            "of weights": weights.square().sum(),
            "linear": alpha.sum() + 2 * other.sum(),
            "linear with weights": (alpha * weights).sum(),
            "partly linear": alpha.sum() + other.square().sum(),
        }[case]
        expected = pytest.approx(2) if case == "partly linear" else 0
        assert dominant_eigenvalue(loss, [alpha, other]) == expected

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_hessian_that_is_not_finite(self, bad, dtype):
        alphas = parameters(2, 3, dtype=dtype)
        loss = bad * alphas[0].square().sum() + alphas[1].square().sum()
        assert math.isnan(dominant_eigenvalue(loss, alphas))
        root = (alphas[1] - alphas[1].detach()).sum().abs().sqrt()
        assert math.isnan(dominant_eigenvalue(root + loss, alphas))

    def test_in_single_precision(self):
        alphas = parameters(9, 9, 9, dtype=torch.float32)
        expected = largest(smooth, [alpha.double() for alpha in alphas])
        value = found(smooth, alphas, tolerance=1e-4)
        assert value == pytest.approx(expected, rel=1e-3)
        assert type(value) is float

    def test_the_same_again_in_every_bit_and_random_numbers_are_left_alone(self):
        alphas = parameters(40, 30, 20)
        state = torch.get_rng_state(), np.random.get_state()[1].copy()
        values = {found(smooth, alphas) for _ in range(3)}
        assert len(values) == 1
        assert torch.equal(torch.get_rng_state(), state[0])
        assert (np.random.get_state()[1] == state[1]).all()

    def test_nothing_is_left_behind(self):
        alphas = parameters(3, 4, 5)
        alphas[0].grad = mark = torch.ones_like(alphas[0])
        kept = [alpha.detach().clone() for alpha in alphas]
        inner = alphas[0].tanh()
        loss = smooth(inner, *alphas[1:])
        gone = [weakref.ref(inner), weakref.ref(loss)]
        gc.disable()
        try:
            dominant_eigenvalue(loss, alphas)
            torch.autograd.grad(loss, alphas)  # its own graph is still there
            del inner, loss
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()
        assert alphas[0].grad is mark
        assert all(alpha.grad is None for alpha in alphas[1:])
        assert all(torch.equal(alpha, before) for alpha, before in zip(alphas, kept, strict=True))


def count_products(monkeypatch):
    """A list that grows by one with every Hessian-vector product."""
    seen = []
    product = health._hessian_product
    monkeypatch.setattr(health, "_hessian_product", lambda *given: seen.append(1) or product(*given))
    return seen


def test_the_choices_of_a_network_are_measured_wherever_they_stand():
    network = NESTED.supernet()
    tags = group_tags(network)
    assert set(entropy_by_group(network)) == set(tags.values()) == {"c0+c1", "c0+c1+c2"}
    expected = [made.probabilities()[1] for made in choices_of(network) if len(made.names) == 2]
    assert len(expected) == 4
    mean = sum(p.item() for p in expected) / 4
    assert shares_by_group(network)["c0+c1"]["c1"] == pytest.approx(mean)
