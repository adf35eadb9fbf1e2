"""SmoothDARTS: perturbed weights stay weights, and the adversary is the published one, step by step."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import Choice, Moment, choices_of, relax, weight_parameters
from manas.architecture.decide import Decide
from manas.architecture.space import SearchSpace
from manas.relaxations.base import noise_of
from manas.relaxations.smoothing import Perturbed, SmoothingConfig, on_simplex, perturb
from manas.relaxations.softmax import Softmax
from manas.searching.perturbation import Projected
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))
RANDOM = SmoothingConfig(kind="random", radius=0.1)
ADVERSARIAL = SmoothingConfig(kind="adversarial", radius=0.1)


class Smooth(SearchSpace):
    """Two forks over smooth candidates, with running statistics."""

    def build(self, decide: Decide) -> nn.Module:
        def candidates():
            convolution = nn.Conv2d(3, 3, 3, padding=1)
            return {
                "convolution": lambda: nn.Sequential(convolution, nn.BatchNorm2d(3), nn.Tanh()),
                "gate": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid()),
                "skip": nn.Identity,
            }

        return nn.Sequential(*(decide(f"fork{n}", candidates()) for n in range(2)))


@pytest.fixture
def network(randomised):
    return randomised(Smooth().supernet()).double()


def loss_of(network, calls=None):
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    target = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2)).double()

    def loss():
        if calls is not None:
            calls.append(1)
        return (network.eval()(images) - target).square().mean()

    return loss


def perturbed(network, config, *, loss=None, moment=None, process=ALONE, relaxation=None):
    """The relaxation that a supernet is given; all its choices have the same."""
    moment = moment or Moment(0.5, 1, 2)
    relax(network, relaxation or Softmax())
    perturb(network, config, moment, loss or loss_of(network), process.average)
    (found,) = {id(choice.relaxation): choice.relaxation for choice in choices_of(network)}.values()
    return found


def same(ours, theirs):
    return all(torch.equal(ours.others[label], weights) for label, weights in theirs.others.items())


def simplex(weights):
    """The same rule in numpy: clipped to [0, 1], divided by the sum; the largest alone, if nothing is left."""
    clipped = np.clip(weights, 0, 1)
    if not clipped.sum():
        clipped[np.argmax(weights)] = 1
    return clipped / clipped.sum()


def fork(alpha, label="label"):
    choice = Choice(label, {f"c{k}": nn.Identity() for k in range(len(alpha))}, Softmax())
    choice.alpha = nn.Parameter(torch.tensor(alpha, dtype=torch.float64))
    return choice


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=9))
def test_weights_are_put_on_the_simplex(values):
    found = on_simplex(torch.tensor(values, dtype=torch.float64))
    assert found.tolist() == pytest.approx(simplex(np.array(values)).tolist())
    assert (found >= 0).all()
    assert found.sum().item() == pytest.approx(1)


class TestPerturbed:
    def test_each_fork_has_its_own_weights(self):
        others = {"one": torch.tensor([0.6, 0.4]).double(), "other": torch.tensor([0.3, 0.7]).double()}
        both = [fork([0.0, 0.0], label) for label in others]
        weights = [list(Perturbed(Softmax(), others).weights(choice).values()) for choice in both]
        assert [weight.item() for weight in weights[0]] == pytest.approx([0.6, 0.4])
        assert [weight.item() for weight in weights[1]] == pytest.approx([0.3, 0.7])

    def test_a_fork_that_is_decided_stays_decided(self, network):
        """As while perturbation selects: it has one weight, and that is 1."""
        found = perturbed(network, ADVERSARIAL, relaxation=Projected(Softmax(), {"fork0": "gate"}))
        decided, open_ = choices_of(network)
        assert {name: weight.item() for name, weight in found.weights(decided).items()} == {"gate": 1.0}
        assert set(found.weights(open_)) == set(open_.names)

    def test_probabilities_are_those_of_the_relaxation(self):
        choice, relaxation = fork([0.3, -1.0]), Softmax(temperature=2.0)
        found = Perturbed(relaxation, {"label": torch.tensor([0.3, 0.7]).double()})
        assert torch.equal(found.probabilities(choice), relaxation.probabilities(choice))
        for a, b in zip(found.log_probabilities(choice), relaxation.log_probabilities(choice), strict=True):
            assert torch.equal(a, b)

    def test_they_depend_on_no_alpha(self, network):
        perturbed(network, RANDOM)
        alphas = [choice.alpha for choice in choices_of(network)]
        assert torch.autograd.grad(loss_of(network)(), alphas, allow_unused=True) == (None, None)


class TestRandom:
    @pytest.mark.parametrize(("progress", "radius"), [(0.0, 0.03), (0.5, 0.165), (1.0, 0.3)])
    def test_noise_fills_the_radius_of_the_moment(self, progress, radius, network):
        config = SmoothingConfig(kind="random", radius=(0.03, 0.3))
        for draw in range(20):
            moment = Moment(progress, 1, draw)
            found = perturbed(network, config, moment=moment)
            for choice in choices_of(network):
                noise = noise_of(moment, choice).uniform(-radius, radius, 3)
                plain = torch.softmax(choice.alpha, 0).detach().numpy()
                assert found.others[choice.label].tolist() == pytest.approx(simplex(plain + noise).tolist())

    def test_they_are_a_function_of_seed_draw_and_label(self, network):
        def weights(seed=1, draw=2):
            torch.rand(3)
            return perturbed(network, RANDOM, moment=Moment(0.5, seed, draw)).others

        first = weights()
        assert first.keys() == {"fork0", "fork1"}
        assert all(torch.equal(first[label], each) for label, each in weights().items())
        assert not torch.equal(first["fork0"], first["fork1"])
        for other in (weights(seed=2), weights(draw=3)):
            assert not any(torch.equal(first[label], each) for label, each in other.items())

    def test_no_global_source_of_random_numbers_is_touched(self, network):
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        perturbed(network, ADVERSARIAL)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]

    def test_the_loss_is_not_asked_for(self, network):
        perturbed(network, RANDOM, loss=lambda: pytest.fail("a forward pass"))


class Constant(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self):
        return self.values


class Sum(nn.Module):
    """Two forks between four constants of five numbers each, which are summed."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.constants = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator)
        self.target = torch.randn(5, dtype=torch.float64, generator=generator)
        self.forks = nn.ModuleList()
        for n, rows in enumerate(self.constants):
            choice = Choice(f"fork{n}", {f"c{k}": Constant(row) for k, row in enumerate(rows)}, Softmax())
            choice.alpha = nn.Parameter(2 * torch.randn(4, dtype=torch.float64, generator=generator))
            self.forks.append(choice)

    def loss(self, sign):
        return sign * (sum(choice() for choice in self.forks) - self.target).square().sum()


def published(network, start, radius, ascents, sign):
    """The adversary of the authors' code a second time: in numpy, with the gradient of the sum of squares.

    Returns the weights, and whether the loss had fallen.
    """
    constants, target = network.constants.numpy(), network.target.numpy()

    def residual(weights):
        return np.einsum("fk,fkd->d", weights, constants) - target

    plain = np.stack([torch.softmax(choice.alpha, 0).detach().numpy() for choice in network.forks])
    weights = start
    for _ in range(ascents):
        slope = 2 * sign * np.einsum("d,fkd->fk", residual(weights), constants)
        moved = weights + 2 * radius / ascents * np.sign(slope)
        weights = np.stack([simplex(row) for row in plain + np.clip(moved - plain, -radius, radius)])
    before, after = (sign * (residual(each) ** 2).sum() for each in (plain, weights))
    return (plain, True) if before > after else (weights, False)


@pytest.mark.parametrize("sign", [1, -1], ids=["convex", "concave"])
@pytest.mark.parametrize("ascents", [1, 7])
@pytest.mark.parametrize("radius", [0.03, 0.3])
def test_it_is_the_published_adversary(radius, ascents, sign):
    fallen, config = [], SmoothingConfig(kind="adversarial", radius=radius, ascents=ascents)
    for seed in range(20):
        network = Sum(seed)
        given = {"loss": partial(network.loss, sign), "moment": Moment(0.5, seed)}
        start = perturbed(network, SmoothingConfig(kind="random", radius=radius), **given).others
        start = np.stack([weights.numpy() for weights in start.values()])
        found = torch.stack(list(perturbed(network, config, **given).others.values()))
        expected, fell = published(network, start, radius, ascents, sign)
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
        fallen.append(fell)
    assert not all(fallen)
    if (radius, ascents, sign) == (0.3, 1, -1):
        assert any(fallen)


def test_a_clipped_candidate_comes_back():
    """Where the loss grows with its weight: every one, and not 1 in 7."""
    config, back = SmoothingConfig(kind="adversarial", radius=0.3), []
    for draw in range(60):
        choice = Choice("label", {f"c{k}": Constant(torch.eye(3)[k].double()) for k in range(3)}, Softmax())
        choice.alpha = nn.Parameter(torch.tensor([2.0, -1.0, -1.0], dtype=torch.float64))
        given = {"loss": lambda choice=choice: choice()[1], "moment": Moment(0.5, 1, draw)}
        start = perturbed(choice, SmoothingConfig(kind="random", radius=0.3), **given).others["label"]
        if start[1] == 0:
            back.append((perturbed(choice, config, **given).others["label"][1] > 0).item())
    assert len(back) > 10
    assert all(back)


class TestAdversarial:
    def value(self, network, weighting):
        with torch.no_grad():
            relax(network, weighting)
            return loss_of(network)().item()

    @pytest.mark.parametrize("seed", range(4))
    def test_it_raises_the_loss(self, seed, network):
        moment = Moment(0.5, seed, 2)
        plain = self.value(network, Softmax())
        start = self.value(network, perturbed(network, RANDOM, moment=moment))
        found = self.value(network, perturbed(network, ADVERSARIAL, moment=moment))
        assert found > plain
        assert found > start

    def test_the_loss_is_asked_for_once_an_ascent_and_before_and_after(self, network):
        calls = []
        perturbed(
            network,
            SmoothingConfig(kind="adversarial", radius=0.1, ascents=5),
            loss=loss_of(network, calls),
        )
        assert len(calls) == 7

    def test_a_radius_of_zero_perturbs_nothing(self, network):
        config = SmoothingConfig(kind="adversarial", radius=(0.0, 0.3))
        found = perturbed(
            network, config, moment=Moment(0.0), loss=lambda: pytest.fail("a forward pass for nothing")
        )
        for choice in choices_of(network):
            weights, plain = found.weights(choice), Softmax().weights(choice)
            assert all(torch.allclose(weights[name], plain[name]) for name in plain)

    def test_nothing_else_is_changed(self, network):
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        buffers = dict(network.named_buffers())
        mark = torch.ones_like(weight_parameters(network)[0])
        weight_parameters(network)[0].grad = mark
        perturbed(network, ADVERSARIAL)
        assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
        assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
        assert [p.grad for p in network.parameters() if p.grad is not None] == [mark]
        assert all(p.requires_grad for p in network.parameters())

    def test_a_loss_that_fails_moves_no_running_statistics(self, network):
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}

        def failing():
            loss_of(network)()
            raise RuntimeError("out of memory")

        with pytest.raises(RuntimeError, match="out of memory"):
            perturbed(network, ADVERSARIAL, loss=failing)
        assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())

    def test_what_it_leaves_carries_no_graph(self, network):
        found = perturbed(network, ADVERSARIAL)
        assert not any(weights.requires_grad for weights in found.others.values())
        copy.deepcopy(network)

    def test_a_fork_that_the_loss_does_not_reach_keeps_its_start(self, network):
        start = perturbed(network, RANDOM)
        first = choices_of(network)[0]
        images = torch.rand(2, 3, 6, 6).double()
        found = perturbed(network, ADVERSARIAL, loss=lambda: first.eval()(images).square().mean())
        assert torch.equal(found.others["fork1"], start.others["fork1"])
        assert not found.others["fork1"].requires_grad
        assert not torch.equal(found.others["fork0"], start.others["fork0"])

    def test_it_follows_the_gradient_and_the_loss_of_all_processes(self, network):
        class Opposed(Process):
            """The other process sends the opposite, thrice."""

            def average(self, gradients, parameters):
                return [-g for g in gradients]

        opposed = perturbed(network, ADVERSARIAL, process=Opposed(0, 2, torch.device("cpu")))
        loss = loss_of(network)
        assert same(opposed, perturbed(network, ADVERSARIAL, loss=lambda: -loss()))
        assert not same(opposed, perturbed(network, ADVERSARIAL))

    def test_with_recomputation(self, network):
        again = Smooth().supernet(recompute=True).double()
        again.load_state_dict(network.state_dict())
        objects = dict(again.named_buffers())
        plain, found = perturbed(network, ADVERSARIAL), perturbed(again, ADVERSARIAL)
        for label, weights in plain.others.items():
            torch.testing.assert_close(found.others[label], weights, rtol=1e-12, atol=1e-14)
        for name, tensor in again.named_buffers():
            assert tensor is objects[name]
            assert torch.equal(tensor, network.state_dict()[name])


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "opposed"},
        {"radius": -0.1},
        {"radius": math.inf},
        {"radius": (0.0, math.nan)},
        {"radius": (0.1,)},
        {"ascents": 0},
        {"epsilon": 0.1},
    ],
    ids=str,
)
def test_bad_options_are_refused(fields):
    with pytest.raises(ValidationError):
        SmoothingConfig(**fields)
