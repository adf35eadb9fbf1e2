"""The dominant eigenvalue, against that of the whole Hessian."""

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

from manas.architecture.choice import architecture_parameters, choices_of
from manas.searching import eigenvalue
from manas.searching.eigenvalue import dominant_eigenvalue
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


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
    product = eigenvalue._hessian_product
    monkeypatch.setattr(eigenvalue, "_hessian_product", lambda *given: seen.append(1) or product(*given))
    return seen
