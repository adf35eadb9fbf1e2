"""SmoothDARTS: perturbed weights stay weights, within the radius, and the adversary finds a larger loss."""

import copy
import math

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
from manas.relaxations.smoothing import Perturbed, SmoothingConfig, perturb
from manas.relaxations.softmax import Softmax
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
        return (network.train()(images) - target).square().mean()

    return loss


def perturbed(network, config, *, loss=None, moment=None, process=ALONE, relaxation=None):
    """The relaxation that a supernet is given; all its choices have the same."""
    moment = moment or Moment(0.5, 1, 2)
    perturb(network, relaxation or Softmax(), config, moment, loss or loss_of(network), process.average)
    (found,) = {id(choice.relaxation): choice.relaxation for choice in choices_of(network)}.values()
    return found


def largest(found):
    return max(offset.abs().max().item() for offset in found.offsets.values())


def fork(alpha, label="label"):
    choice = Choice(label, {f"c{k}": nn.Identity() for k in range(len(alpha))}, Softmax())
    choice.alpha = nn.Parameter(torch.tensor(alpha, dtype=torch.float64))
    return choice


class TestPerturbed:
    @given(
        st.lists(st.tuples(st.floats(-100, 100), st.floats(-1, 1)), min_size=2, max_size=9),
        st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    )
    def test_weights_stay_on_the_simplex(self, pairs, radius):
        choice = fork([alpha for alpha, _ in pairs])
        offsets = radius * torch.tensor([share for _, share in pairs], dtype=torch.float64)
        weights = Perturbed(Softmax(temperature=2.0), {"label": offsets}).weights(choice)
        assert tuple(weights) == choice.names
        found = torch.stack(list(weights.values()))
        moved = (torch.softmax(choice.alpha / 2, 0) + offsets).detach().numpy().clip(1e-6, 1)
        assert found.tolist() == pytest.approx((moved / moved.sum()).tolist())
        assert (found > 0).all()
        assert found.sum().item() == pytest.approx(1)
        (gradient,) = torch.autograd.grad(found[0], choice.alpha)
        assert gradient.isfinite().all()

    def test_each_fork_has_its_own_offsets(self):
        offsets = {"one": torch.tensor([0.1, -0.1]).double(), "other": torch.tensor([-0.2, 0.2]).double()}
        both = [fork([0.0, 0.0], label) for label in offsets]
        weights = [list(Perturbed(Softmax(), offsets).weights(choice).values()) for choice in both]
        assert [weight.item() for weight in weights[0]] == pytest.approx([0.6, 0.4])
        assert [weight.item() for weight in weights[1]] == pytest.approx([0.3, 0.7])

    def test_probabilities_are_those_of_the_relaxation(self):
        choice, relaxation = fork([0.3, -1.0]), Softmax(temperature=2.0)
        found = Perturbed(relaxation, {"label": torch.tensor([0.3, -0.3]).double()})
        assert torch.equal(found.probabilities(choice), relaxation.probabilities(choice))
        for a, b in zip(found.log_probabilities(choice), relaxation.log_probabilities(choice), strict=True):
            assert torch.equal(a, b)

    def test_the_alphas_keep_their_gradient(self, network):
        perturbed(network, RANDOM)
        gradients = torch.autograd.grad(loss_of(network)(), [c.alpha for c in choices_of(network)])
        assert all(gradient.abs().max() > 0 for gradient in gradients)


class TestRandom:
    @pytest.mark.parametrize(("progress", "radius"), [(0.0, 0.03), (0.5, 0.165), (1.0, 0.3)])
    def test_offsets_fill_the_radius_of_the_moment(self, progress, radius, network):
        config = SmoothingConfig(kind="random", radius=(0.03, 0.3))
        drawn = np.concatenate(
            [
                offset.numpy()
                for draw in range(100)
                for offset in perturbed(network, config, moment=Moment(progress, 1, draw)).offsets.values()
            ]
        )
        assert abs(drawn).max() <= radius
        assert abs(drawn).max() > 0.98 * radius
        assert abs(drawn.mean()) < 4 * radius / math.sqrt(3 * len(drawn))
        assert drawn.std() == pytest.approx(radius / math.sqrt(3), rel=0.1)

    def test_they_are_a_function_of_seed_draw_and_label(self, network):
        def offsets(seed=1, draw=2):
            torch.rand(3)
            return perturbed(network, RANDOM, moment=Moment(0.5, seed, draw)).offsets

        first = offsets()
        assert first.keys() == {"fork0", "fork1"}
        assert all(torch.equal(first[label], offset) for label, offset in offsets().items())
        assert not torch.equal(first["fork0"], first["fork1"])
        for other in (offsets(seed=2), offsets(draw=3)):
            assert not any(torch.equal(first[label], offset) for label, offset in other.items())

    def test_no_global_source_of_random_numbers_is_touched(self, network):
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()
        perturbed(network, ADVERSARIAL)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]

    def test_the_loss_is_not_asked_for(self, network):
        perturbed(network, RANDOM, loss=lambda: pytest.fail("a forward pass"))


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

    def test_it_finds_about_the_largest_loss(self, network):
        found = self.value(network, perturbed(network, ADVERSARIAL))
        signs = torch.cartesian_prod(*[torch.tensor([-0.1, 0.0, 0.1]).double()] * 6)
        values = [
            self.value(network, Perturbed(Softmax(), {"fork0": each[:3], "fork1": each[3:]})) for each in signs
        ]
        assert found > 0.9 * max(values) + 0.1 * min(values)

    @pytest.mark.parametrize("ascents", [1, 2, 7])
    @pytest.mark.parametrize("radius", [0.03, 0.3])
    def test_it_stays_within_the_ball(self, ascents, radius, network):
        config = SmoothingConfig(kind="adversarial", radius=radius, ascents=ascents)
        assert largest(perturbed(network, config)) <= radius

    def test_one_ascent_goes_from_side_to_side(self, network):
        """Of 2 radius along the sign of the gradient at the random start."""
        start = perturbed(network, RANDOM)
        offsets = {label: offset.clone().requires_grad_() for label, offset in start.offsets.items()}
        relax(network, Perturbed(Softmax(), offsets))
        gradients = torch.autograd.grad(loss_of(network)(), list(offsets.values()))
        config = SmoothingConfig(kind="adversarial", radius=0.1, ascents=1)
        found = perturbed(network, config).offsets
        for offset, gradient in zip(found.values(), gradients, strict=True):
            assert torch.equal(offset, 0.1 * gradient.sign())

    def test_steps_are_a_share_of_the_diameter(self, network):
        start, offsets = perturbed(network, RANDOM).offsets, []

        def remembering():
            held = choices_of(network)[0].relaxation.offsets
            offsets.append({label: offset.detach() for label, offset in held.items()})
            return loss_of(network)()

        perturbed(network, SmoothingConfig(kind="adversarial", radius=0.1, ascents=100), loss=remembering)
        for label, before in start.items():
            assert torch.equal(offsets[0][label], before)
            inside = before.abs() < 0.097
            moved = (offsets[1][label] - before)[inside].abs()
            torch.testing.assert_close(moved, torch.full_like(moved, 0.002))
            assert inside.any()

    def test_the_loss_is_asked_for_once_an_ascent(self, network):
        calls = []
        perturbed(
            network,
            SmoothingConfig(kind="adversarial", radius=0.1, ascents=5),
            loss=loss_of(network, calls),
        )
        assert len(calls) == 5

    def test_a_radius_of_zero_perturbs_nothing(self, network):
        config = SmoothingConfig(kind="adversarial", radius=(0.0, 0.3))
        found = perturbed(
            network, config, moment=Moment(0.0), loss=lambda: pytest.fail("a forward pass for nothing")
        )
        assert largest(found) == 0
        choice = choices_of(network)[0]
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
        assert not any(offset.requires_grad for offset in found.offsets.values())
        copy.deepcopy(network)

    def test_a_fork_that_the_loss_does_not_reach_keeps_its_start(self, network):
        start = perturbed(network, RANDOM).offsets["fork1"]
        first = choices_of(network)[0]
        images = torch.rand(2, 3, 6, 6).double()
        found = perturbed(network, ADVERSARIAL, loss=lambda: first(images).square().mean())
        assert torch.equal(found.offsets["fork1"], start)
        assert not found.offsets["fork1"].requires_grad
        assert largest(found) == pytest.approx(0.1)

    def test_it_follows_the_gradient_of_all_processes(self, network):
        class Opposed(Process):
            """The other process sends the opposite, thrice."""

            def average(self, gradients, parameters):
                return [-g for g in gradients]

        config = SmoothingConfig(kind="adversarial", radius=0.1, ascents=1)
        alone = perturbed(network, config).offsets
        opposed = perturbed(network, config, process=Opposed(0, 2, torch.device("cpu"))).offsets
        assert all(torch.equal(alone[label], -opposed[label]) for label in alone)

    def test_with_recomputation(self, network):
        again = Smooth().supernet(recompute=True).double()
        again.load_state_dict(network.state_dict())
        objects = dict(again.named_buffers())
        plain, found = perturbed(network, ADVERSARIAL), perturbed(again, ADVERSARIAL)
        for label, offset in plain.offsets.items():
            torch.testing.assert_close(found.offsets[label], offset, rtol=1e-12, atol=1e-14)
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
