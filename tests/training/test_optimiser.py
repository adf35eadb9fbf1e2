"""Optimisers: what decays, and the step that a gradient which is not finite leaves out."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import Relaxed, architecture_parameters
from manas.architecture.relaxation import Softmax
from manas.errors import ManasError
from manas.restoration.cross_stitch import StitchMatrices
from manas.training.distributed import floating_buffers
from manas.training.optimiser import Descent, OptimiserConfig, RunningStatistics, decay_groups

NAMES = ["adam", "adamw", "sgd"]
ORACLES = {
    "adam": lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.9), weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.9), weight_decay=0.01),
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.01),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))


def descent(net, name, **options):
    config = OptimiserConfig(name=name, rate=0.1, betas=(0.8, 0.9), decay=0.01)
    optimiser = config.build([{"params": list(net.parameters())}])
    return Descent(optimiser, RunningStatistics(net), **{"clip": None} | options)


def pull(net, seed, *, broken=None):
    """Gradients and running statistics of a forward pass, of which one weight's gradient is `broken`."""
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    net(images).square().mean().backward()
    if broken is not None:
        net[0].weight.grad[0, 0, 0, 0] = broken


def weights(net):
    return [parameter.detach().clone() for parameter in net.parameters()]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def garbage():
    """Memory that nobody wrote holds NaN, and not by chance zeros."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


class TestBuild:
    @pytest.mark.parametrize("name", NAMES)
    def test_steps_are_those_of_torch(self, name):
        ours, theirs = (nn.Sequential(network()[0], nn.Tanh(), network()[2]) for _ in range(2))
        step, oracle = descent(ours, name), ORACLES[name](theirs.parameters())
        for seed in range(4):
            pull(ours, seed)
            step.step()
            pull(theirs, seed)
            oracle.step()
            oracle.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

    def test_a_group_may_have_its_own_decay(self):
        groups = [{"params": [nn.Parameter(torch.ones(1))]}, {"params": [nn.Parameter(torch.ones(1))]}]
        groups[1]["weight_decay"] = 0.5
        optimiser = OptimiserConfig(decay=0.25, rate=0.01).build(groups)
        assert [group["weight_decay"] for group in optimiser.param_groups] == [0.25, 0.5]
        assert [group["base_lr"] for group in optimiser.param_groups] == [0.01, 0.01]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": "lion"},
            {"rate": 0},
            {"decay": -1},
            {"clip": 0},
            {"momentum": 0.9},
            {"betas": (1.5, 0.9)},
            {"betas": (0.9, -0.1)},
        ],
        ids=str,
    )
    def test_values_out_of_range(self, wrong):
        with pytest.raises(ValidationError):
            OptimiserConfig(**wrong)


def test_what_decays():
    candidates = {"one": lambda: nn.Conv2d(3, 3, 1), "two": lambda: nn.Conv2d(3, 3, 3, bias=False)}
    net = nn.ModuleDict(
        {
            "convolution": nn.Conv2d(3, 4, 3),
            "norm": nn.BatchNorm2d(4),
            "linear": nn.Linear(4, 4),
            "layer": nn.LayerNorm(4),
            "stitch": StitchMatrices(2, (4,), "channel"),
            "fork": Relaxed(Softmax())("fork", candidates),
        }
    )
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decaying, resting = ({names[id(p)] for p in group["params"]} for group in decay_groups(net))
    assert decaying == {
        "convolution.weight",
        "linear.weight",
        "fork.candidates.one.weight",
        "fork.candidates.two.weight",
    }
    assert resting == {
        "convolution.bias",
        "norm.weight",
        "norm.bias",
        "linear.bias",
        "layer.weight",
        "layer.bias",
        "stitch.matrices.0",
        "fork.candidates.one.bias",
    }
    alphas = {names[id(alpha)] for alpha in architecture_parameters(net)}
    assert decaying | resting | alphas == set(names.values())
    assert "weight_decay" not in decay_groups(net)[0]
    assert decay_groups(net)[1]["weight_decay"] == 0


def test_a_group_that_would_be_empty_is_left_out():
    assert len(decay_groups(nn.Conv2d(3, 3, 1, bias=False))) == 1
    assert len(decay_groups(nn.BatchNorm2d(3))) == 1


class TestDescent:
    def test_it_clips_and_tells_the_norm_before(self):
        net = nn.Linear(2, 1, bias=False)
        before = net.weight.detach().clone()
        step = Descent(torch.optim.SGD(net.parameters(), 1.0, fused=True), RunningStatistics(net), 0.5)
        net.weight.grad = torch.tensor([[3.0, 4.0]])
        assert step.step() == pytest.approx(5)
        assert torch.allclose(before - net.weight, torch.tensor([[0.3, 0.4]]), atol=1e-5)
        assert net.weight.grad is None

    @pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("clip", [None, 1.0])
    @pytest.mark.parametrize("name", NAMES)
    def test_a_broken_gradient_changes_nothing(self, name, clip, broken):
        """Neither weights nor momentum, step counters included: the same as if the step had not been."""
        with_break, without = network(), network()
        steps = [descent(net, name, clip=clip) for net in (with_break, without)]
        for net, step in zip((with_break, without), steps, strict=True):
            for seed in range(2):
                pull(net, seed)
                step.step()
        before = weights(with_break)
        pull(with_break, 9, broken=broken)
        assert not steps[0].step().isfinite()
        assert equal(weights(with_break), before)
        for net, step in zip((with_break, without), steps, strict=True):
            pull(net, 3)
            step.step()
        assert equal(weights(with_break), weights(without))
        assert [step.check() for step in steps] == [1, 0]

    @pytest.mark.parametrize("name", NAMES)
    def test_a_first_gradient_that_is_broken_changes_nothing(self, name, garbage):
        """Momentum begins in memory that nobody has written."""
        with_break, without = network(), network()
        steps = [descent(net, name) for net in (with_break, without)]
        pull(with_break, 9, broken=float("nan"))
        steps[0].step()
        for seed in range(2):
            for net, step in zip((with_break, without), steps, strict=True):
                pull(net, seed)
                step.step()
        assert equal(weights(with_break), weights(without))

    def test_parameters_without_gradient_are_left_alone(self):
        net = network()
        step = descent(net, "adam")
        net[2].weight.grad = torch.ones_like(net[2].weight)
        before = weights(net)
        step.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
        assert moved == [parameter is net[2].weight for parameter in net.parameters()]

    def test_running_statistics_that_broke_are_put_back(self):
        net = network()
        step = descent(net, "sgd")
        pull(net, 0)
        step.step()
        step.check()
        good = [buffer.clone() for buffer in floating_buffers(net)]
        net(torch.full((2, 3, 6, 6), float("nan"))).sum().backward()
        step.step()
        assert step.check() == 1
        assert equal(floating_buffers(net), good)

    def test_two_descents_of_one_network_do_not_remember_what_broke(self):
        """As in a search: what broke in a step of one is not what the other puts back later."""
        net = network()
        first, second = descent(net, "sgd"), descent(net, "sgd")

        def breaks(step):
            net(torch.full((2, 3, 6, 6), float("nan"))).sum().backward()
            step.step()
            first.check()
            second.check()
            assert all(buffer.isfinite().all() for buffer in floating_buffers(net))

        breaks(second)
        breaks(first)
        breaks(second)

    def test_many_broken_gradients_in_a_row_are_an_error(self):
        net = network()
        step = descent(net, "adam", patience=3)
        for seed, broken in enumerate([float("nan")] * 2 + [None] + [float("nan")] * 2):
            pull(net, seed, broken=broken)
            step.step()
        assert step.check() == 4  # never three in a row
        pull(net, 9, broken=float("nan"))
        step.step()
        with pytest.raises(
            ManasError, match=r"last 3 steps; lower the learning rate, or set precision=float32"
        ):
            step.check()
