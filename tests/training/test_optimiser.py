"""Optimisers: what decays, the step by its formula, and the step that a broken gradient leaves out."""

import copy
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import architecture_parameters
from manas.architecture.decide import Relaxed
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax
from manas.restoration.cross_stitch import StitchMatrices
from manas.training.distributed import floating_buffers
from manas.training.guard import LeftOut
from manas.training.optimiser import (
    Descent,
    OptimiserConfig,
    RunningStatistics,
    after_step,
    decay_groups,
)
from manas.training.schedule import set_rate

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
    decaying, resting, stitches = ({names[id(p)] for p in group["params"]} for group in decay_groups(net))
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
        "fork.candidates.one.bias",
    }
    assert stitches == {"stitch.matrices.0"}
    alphas = {names[id(alpha)] for alpha in architecture_parameters(net)}
    assert decaying | resting | stitches | alphas == set(names.values())
    assert [group.get("weight_decay") for group in decay_groups(net)] == [None, 0, 0]


def test_a_group_that_would_be_empty_is_left_out():
    assert len(decay_groups(nn.Conv2d(3, 3, 1, bias=False))) == 1
    assert len(decay_groups(nn.BatchNorm2d(3))) == 1


class TestStitches:
    def network(self):
        return nn.ModuleDict({"weights": nn.Conv2d(3, 4, 1), "stitch": StitchMatrices(2, (4,), "channel")})

    def moved(self, name, rate, *, pulled=True, decay=0.5):
        """How far one step moves a network's weights, biases and stitches, under a schedule of a half."""
        net = self.network()
        before = weights(net)
        config = OptimiserConfig(name=name, rate=0.01, decay=decay)
        optimiser = config.build(decay_groups(net, rate))
        set_rate(optimiser, 0.5)
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, float(pulled))
        Descent(optimiser, RunningStatistics(net), None).step()
        after = zip(before, weights(net), strict=True)
        return [(ours - theirs).abs().max().item() for ours, theirs in after]

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
    def test_the_first_step_moves_them_by_the_factor_more(self, name, rate):
        _, bias, stitch = self.moved(name, rate, decay=0.0)
        assert bias == pytest.approx(0.005, rel=1e-4)
        assert stitch == pytest.approx(rate * bias, rel=1e-4)

    @pytest.mark.parametrize("name", NAMES)
    def test_they_never_decay(self, name):
        weight, bias, stitch = self.moved(name, 10.0, pulled=False)
        assert weight > 0
        assert bias == stitch == 0

    def test_searched_ones_too(self):
        candidates = {g: partial(StitchMatrices, 2, (4,), g) for g in ("none", "layer", "channel")}
        net = nn.ModuleDict({"stitch/stage0": Relaxed(Softmax())("stitch/stage0", candidates)})
        (group,) = decay_groups(net, 10.0)
        assert [tuple(p.shape) for p in group["params"]] == [(2, 2, 1), (2, 2, 4)]
        assert (group["weight_decay"], group["rate_factor"]) == (0, 10)

    def test_a_checkpoint_brings_their_rate_back(self):
        states = []
        for factor in (10.0, 1.0):
            net = self.network()
            descent = Descent(OptimiserConfig().build(decay_groups(net, factor)), RunningStatistics(net), None)
            states.append(descent)
        states[1].load_state_dict(states[0].state_dict())
        assert [group["base_lr"] for group in states[1].optimiser.param_groups] == [1e-3, 1e-3, 1e-2]


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
        assert [step.check().steps for step in steps] == [1, 0]

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
        assert step.check().steps == 1
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
        assert step.check().steps == 4  # never three in a row
        pull(net, 9, broken=float("nan"))
        step.step()
        with pytest.raises(
            ManasError,
            match=r"last 3 steps \(parameter 0\.0 5\); lower the learning rate, or set precision=float32",
        ):
            step.check()


class TestAfterStep:
    """It is what `step` of the very optimiser does, but differentiable."""

    def optimiser(self, name, *, steps=0, betas=(0.9, 0.999), decay=0.1, groups=None):
        """Of weights in float64, after some steps."""
        generator = torch.Generator().manual_seed(0)
        net = network().double()
        groups = groups(net) if groups else [{"params": list(net.parameters())}]
        optimiser = OptimiserConfig(name=name, rate=0.05, betas=betas, decay=decay).build(groups)
        parameters = list(net.parameters())
        for _ in range(steps):
            for p in parameters:
                p.grad = torch.randn(p.shape, dtype=p.dtype, generator=generator)
            optimiser.step()
            optimiser.zero_grad()
        return optimiser, parameters

    def check(self, optimiser, parameters):
        """Compares three steps, each from the state that the one before has left."""
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            gradients = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
            before = [p.detach().clone() for p in parameters]
            found = after_step(optimiser, parameters, gradients)
            assert equal(before, parameters)
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g
            optimiser.step()
            for f, p, b in zip(found, parameters, before, strict=True):
                assert (f - p).abs().max() <= 1e-12 * (p - b).abs().max()

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    @pytest.mark.parametrize("steps", [0, 3])
    def test_every_optimiser(self, name, decay, steps):
        self.check(*self.optimiser(name, steps=steps, decay=decay))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("betas", [(0.0, 0.75), (0.5, 0.0)], ids=str)
    def test_without_a_memory(self, name, betas):
        self.check(*self.optimiser(name, betas=betas, steps=1))

    @pytest.mark.parametrize("name", NAMES)
    def test_groups_that_decay_differently_in_any_order(self, name):
        optimiser, parameters = self.optimiser(name, steps=2, groups=decay_groups)
        assert len(optimiser.param_groups) == 2
        self.check(optimiser, parameters[::-1])
        self.check(optimiser, parameters[1::2])

    @pytest.mark.parametrize("name", NAMES)
    def test_at_the_rate_of_the_schedule(self, name):
        optimiser, parameters = self.optimiser(name, steps=1)
        for group in optimiser.param_groups:
            group["lr"] = 0.3
        self.check(optimiser, parameters)

    @pytest.mark.parametrize("name", NAMES)
    def test_from_a_checkpoint(self, name):
        optimiser, parameters = self.optimiser(name, steps=3)
        resumed, _ = self.optimiser(name)
        resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        gradients = [torch.full_like(p, 0.3) for p in parameters]
        own = [p for group in resumed.param_groups for p in group["params"]]
        with torch.no_grad():
            for p, q in zip(own, parameters, strict=True):
                p.copy_(q)
        assert equal(after_step(resumed, own, gradients), after_step(optimiser, parameters, gradients))

    @pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
    def test_optimisers_that_are_not_fused(self, kind):
        p = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.check(kind([p], 0.05, weight_decay=0.1), [p])

    def test_adamw_of_the_oldest_torch(self):
        """There it has no key `decoupled_weight_decay`, and is not derived from Adam."""
        optimiser, parameters = self.optimiser("adamw", steps=1)
        gradients = [torch.ones_like(p) for p in parameters]
        expected = after_step(optimiser, parameters, gradients)
        for group in optimiser.param_groups:
            group.pop("decoupled_weight_decay", None)
        assert equal(after_step(optimiser, parameters, gradients), expected)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("steps", [0, 3])
    def test_parameters_without_gradient_stay(self, name, steps):
        """Where a gradient of zero would move them by their momentum, and by their decay."""
        optimiser, parameters = self.optimiser(name, steps=steps)
        gradients = [None if k % 2 else torch.ones_like(p) for k, p in enumerate(parameters)]
        found = after_step(optimiser, parameters, gradients)
        for k, (f, p) in enumerate(zip(found, parameters, strict=True)):
            assert torch.equal(f, p) == bool(k % 2)
            assert not f.requires_grad

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("steps", [0, 3])
    def test_nothing_is_changed(self, name, steps):
        optimiser, parameters = self.optimiser(name, steps=steps)
        mark = torch.ones_like(parameters[0])
        parameters[0].grad = mark
        weights_before, state = weights(nn.ParameterList(parameters)), copy.deepcopy(optimiser.state_dict())
        gradients = [torch.randn_like(p).requires_grad_() for p in parameters]
        found = after_step(optimiser, parameters, gradients)
        torch.autograd.grad(sum(f.sum() for f in found), gradients)
        assert equal(weights_before, parameters)
        assert parameters[0].grad is mark
        assert all(p.grad is None for p in parameters[1:])
        after = optimiser.state_dict()
        assert after["param_groups"] == state["param_groups"]
        assert after["state"].keys() == state["state"].keys()
        for key, values in state["state"].items():
            assert all(torch.equal(values[name], after["state"][key][name]) for name in values)

    @pytest.mark.parametrize("name", NAMES)
    def test_it_does_not_lead_back_to_the_parameters(self, name):
        optimiser, parameters = self.optimiser(name)
        gradients = [torch.randn_like(p).requires_grad_() for p in parameters]
        found = after_step(optimiser, parameters, gradients)
        assert all(f.requires_grad for f in found)
        through = torch.autograd.grad(sum(f.sum() for f in found), parameters, allow_unused=True)
        assert through == (None,) * len(parameters)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("steps", [0, 3])
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_its_derivative(self, name, steps, decay):
        optimiser, parameters = self.optimiser(name, steps=steps, decay=decay)
        for group in optimiser.param_groups:
            group["eps"] = 0.01  # a first step of Adam is otherwise a sign, whose derivative is nothing to see
        gradients = [torch.randn_like(p).requires_grad_() for p in parameters[:2]]
        assert torch.autograd.gradcheck(
            lambda *gradients: after_step(optimiser, parameters[:2], gradients), gradients
        )
        found = after_step(optimiser, parameters[:2], gradients)
        slopes = torch.autograd.grad(sum(f.sum() for f in found), gradients)
        assert all(slope.abs().max() > 1e-5 for slope in slopes)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("steps", [0, 3])
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("size", [0.0, 1e-30, -1e-21, 1e-15])
    def test_the_derivative_at_zero_is_finite(self, name, steps, decay, dtype, size):
        """As of the weights of a candidate whose output is zero."""
        optimiser, parameters = self.optimiser(name, steps=steps, decay=decay)
        p = nn.Parameter(parameters[0].detach().to(dtype))
        own = OptimiserConfig(name=name, rate=0.05, decay=decay).build([{"params": [p]}])
        for key, value in optimiser.state[parameters[0]].items() if steps else ():
            own.state[p][key] = value if key == "step" else value.to(dtype)
        gradient = torch.full_like(p, size).requires_grad_()
        (found,) = after_step(own, [p], [gradient])
        (slope,) = torch.autograd.grad(found.sum(), gradient)
        assert found.isfinite().all()
        assert slope.isfinite().all()
        assert (slope <= 0).all() or steps
        p.grad = gradient.detach().clone()
        own.step()
        torch.testing.assert_close(found.detach(), p.detach())

    def test_the_first_step_of_adam_from_zero(self):
        """U(g) = p - rate g / (|g| + eps) for a single number, so that U'(0) = -rate / eps."""
        p = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimiser = OptimiserConfig(name="adam", rate=0.05).build([{"params": [p]}])
        for group in optimiser.param_groups:
            group["eps"] = 0.01
        gradient = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(after_step(optimiser, [p], [gradient])[0], gradient)
        assert slope.item() == pytest.approx(-5)


def test_a_network_without_statistics_steps_on_every_device():
    """DRN has no buffers: nothing may be made for them on the CPU. The meta device refuses that as GPUs do."""
    net = nn.Conv2d(3, 3, 1, device="meta")
    statistics = RunningStatistics(net)
    statistics.settle(torch.zeros((), device="meta"))
    statistics.remember()


class TestGuard:
    """A gradient far beyond what it was breaks the step, finite or not, and is named."""

    def pair(self, steps, **options):
        """Two equal networks and their descents after some steps."""
        networks = [network() for _ in range(2)]
        descents = [named_descent(net, **options) for net in networks]
        for net, step in zip(networks, descents, strict=True):
            for seed in range(steps):
                pull(net, seed)
                step.step()
        return networks, descents

    @pytest.mark.parametrize("clip", [None, 1.0])
    @pytest.mark.parametrize("steps", [1, 5])
    def test_one_layer_beyond_all_measure_is_left_out_and_named(self, steps, clip):
        (with_break, without), descents = self.pair(steps, clip=clip)
        pull(with_break, 9)
        with_break[2].weight.grad *= 1e8
        assert descents[0].step().isfinite()
        assert equal(weights(with_break), weights(without))
        assert equal(floating_buffers(with_break), floating_buffers(without))
        for net, step in zip((with_break, without), descents, strict=True):
            pull(net, 10)
            step.step()
        assert equal(weights(with_break), weights(without))
        assert [step.check() for step in descents] == [LeftOut(1, {"2.weight": 1}), LeftOut(0, {})]

    def test_the_first_step_may_be_the_broken_one(self):
        net = network()
        step, before = named_descent(net), weights(net)
        pull(net, 0)
        net[0].weight.grad *= 1e20
        step.step()
        assert equal(weights(net), before)
        assert step.check() == LeftOut(1, {"0.weight": 1})

    def test_steps_that_are_as_usual_are_not(self):
        net = network()
        step = named_descent(net)
        for seed in range(20):
            pull(net, seed)
            for parameter in net.parameters():
                parameter.grad *= 10.0 ** (seed % 5)
            step.step()
        assert step.check() == LeftOut()

    def test_zeros_and_missing_gradients_are_no_evidence(self):
        """As behind a head that begins at zero, and at candidates that are not sampled."""
        net = network()
        step = named_descent(net)
        for seed in range(5):
            pull(net, seed)
            net[0].weight.grad.zero_()
            net[1].weight.grad = None
            step.step()
        pull(net, 9)
        step.step()
        assert step.check() == LeftOut()

    def test_no_gradient_at_all(self):
        step = named_descent(network())
        assert step.step() == 0
        assert step.check() == LeftOut()

    def test_a_gradient_that_was_next_to_nothing_may_grow(self):
        net = network()
        step = named_descent(net)
        for seed in range(4):
            pull(net, seed)
            for parameter in net.parameters():
                parameter.grad = torch.full_like(parameter, 1.0)
            if seed < 3:
                net[2].bias.grad *= 1e-12
            step.step()
        assert step.check() == LeftOut()

    def test_broken_steps_are_not_what_is_usual(self):
        net = network()
        step = named_descent(net)
        for seed in range(6):
            pull(net, seed)
            net[2].weight.grad *= 1e8 if seed > 1 else 1
            step.step()
        assert step.check() == LeftOut(4, {"2.weight": 4})

    def test_it_goes_on_from_a_checkpoint(self):
        def course(resumed):
            net = network()
            step = named_descent(net)
            for seed in range(6):
                if resumed and seed == 3:
                    step, old = named_descent(net), step
                    step.load_state_dict(copy.deepcopy(old.state_dict()))
                pull(net, seed)
                net[2].weight.grad *= 1e8 if seed in (2, 4) else 1e-3
                step.step()
            return weights(net), step

        (one, first), (other, second) = course(resumed=False), course(resumed=True)
        assert equal(one, other)
        assert first.check() == second.check() == LeftOut(2, {"2.weight": 2})
        assert torch.equal(first.guard.means, second.guard.means)

    def test_older_checkpoints_have_no_guard(self):
        net = network()
        step = named_descent(net)
        state = step.state_dict()
        del state["guard"]
        for group in state["optimiser"]["param_groups"]:
            del group["param_names"]
        step.load_state_dict(state)
        pull(net, 0)
        net[2].weight.grad *= 1e8
        step.step()
        assert step.check().names == {"2.weight": 1}

    def test_many_in_a_row_are_an_error_that_names_them(self):
        net = network()
        step = named_descent(net, patience=3)
        for seed in range(3):
            pull(net, seed)
            net[2].weight.grad *= 1e8
            step.step()
        with pytest.raises(ManasError, match=r"far beyond what it was, in the last 3 steps \(2\.weight 3\)"):
            step.check()


def named_descent(net, **options):
    optimiser = OptimiserConfig(rate=0.01).build(decay_groups(net))
    return Descent(optimiser, RunningStatistics(net), **{"clip": None} | options)


class TestLeftOut:
    def test_in_words(self):
        assert str(LeftOut(1, {"a": 1})) == "1 step left out so far (a 1)"
        left_out = LeftOut(9, {"a": 2, "b": 3, "c": 1, "d": 1, "e": 9})
        assert str(left_out) == "9 steps left out so far (e 9, b 3, a 2 and 2 others)"
        assert left_out.sentence.startswith("9 steps were left out, since the gradient")
        assert LeftOut(1, {"a": 1}).sentence.startswith("1 step was left out, since")

    def test_of_weights_and_alphas(self):
        assert LeftOut(1, {"a": 1}) + LeftOut(2, {"a": 1, "b": 2}) == LeftOut(3, {"a": 2, "b": 2})
