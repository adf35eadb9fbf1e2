"""Activation checkpointing changes what is kept, and nothing else."""

import weakref
from functools import partial

import pytest
import torch
from architecture.toy_spaces import NESTED
from torch import nn
from torch.func import functional_call

from manas.architecture.choice import Choice, Moment, architecture_parameters, choices_of, relax, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.recomputation import RestingBuffers
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.relaxations.dirichlet import Dirichlet
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.sigmoid import Sigmoid
from manas.relaxations.smoothing import Perturbed
from manas.relaxations.softmax import Softmax
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES, Pooled

RELAXATIONS = {
    "softmax": Softmax(temperature=2.0),
    "gumbel": Gumbel(temperature=2.0),
    "dirichlet": Dirichlet(),
    "sigmoid": Sigmoid(),
}
of_every_relaxation = pytest.mark.parametrize("relaxation", RELAXATIONS.values(), ids=RELAXATIONS)


class NestedGates(SearchSpace):
    """Gates that share pooled statistics, one of them a fork by itself."""

    nested_first: bool = True

    def build(self, decide):
        names = ("none", "channel_attention_v2", "sep_conv_3x3_spatial")
        gates = {name: partial(PUBLISHED_GATES[name], 4, 2, "batch") for name in names}
        inside = {"inside": lambda: decide("gate/inside", gates)}
        return Gated(decide("gate", inside | gates if self.nested_first else gates | inside))


class Gated(nn.Module):
    """(B, 3, H, W) -> (B, 4, H, W)"""

    def __init__(self, gate):
        super().__init__()
        self.convolution, self.gate = nn.Conv2d(3, 4, 1), gate

    def forward(self, x):
        x = self.convolution(x).tanh()
        return x * self.gate(Pooled(x))


@pytest.fixture(scope="module")
def gated_tower(small_tower):
    """Gates of every kind: they share pooled statistics, and its columns pass lists of features."""
    gates = ("none", "skip_connect", "dil_conv_3x3", "sep_conv_3x3_spatial", "channel_attention_v2", "cbam")
    attention = small_tower.attention.model_copy(update={"gates": gates, "groups": 2})
    return small_tower.model_copy(update={"attention": attention, "channels": (8, 12), "columns": (1,)})


@pytest.fixture(params=["nested forks", "tower"])
def space(request, gated_tower):
    return NESTED if request.param == "nested forks" else gated_tower


def pair(space, relaxation, randomised, dtype=torch.float64):
    """Two equal supernets, one of which computes again."""
    plain, again = (space.supernet(relaxation, recompute=recompute).to(dtype) for recompute in (False, True))
    again.load_state_dict(randomised(plain).state_dict())
    for network in (plain, again):
        relax(network, relaxation.at(Moment(0.5, 1, 4), choices_of(network)))
    return plain, again


def image(seed=1, dtype=torch.float64):
    return torch.rand(2, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradients(network, output):
    return torch.autograd.grad(output.square().mean(), list(network.parameters()), allow_unused=True)


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def state(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def same_buffers(network, objects, values):
    """Whether a network holds these very buffers, with these values."""
    own = dict(network.named_buffers())
    return own.keys() == objects.keys() and all(
        own[name] is objects[name] and torch.equal(own[name], values[name]) for name in own
    )


@of_every_relaxation
class TestSameAsWithout:
    def test_outputs_gradients_and_running_statistics(self, space, relaxation, randomised):
        plain, again = pair(space, relaxation, randomised)
        before, objects = state(again), dict(again.named_buffers())
        for seed in range(2):
            outputs = [network(image(seed)) for network in (plain, again)]
            assert torch.equal(*outputs)
            assert_equal(gradients(again, outputs[1]), gradients(plain, outputs[0]))
            assert same_buffers(again, objects, state(plain))
        moved = [not torch.equal(before[name], buffer) for name, buffer in again.named_buffers()]
        assert sum(moved) > 3

    def test_gradients_of_gradients(self, space, relaxation, randomised):
        plain, again = pair(space, relaxation, randomised)
        found = []
        for network in (plain, again):
            parameters, alphas = list(network.parameters()), architecture_parameters(network)
            first = torch.autograd.grad(
                network(image()).square().mean(), parameters, create_graph=True, allow_unused=True
            )
            summed = sum(gradient.square().sum() for gradient in first if gradient is not None)
            if isinstance(relaxation, Dirichlet):  # its samples have no second derivative in the alphas
                weights = {id(p): g for p, g in zip(parameters, first, strict=True) if g is not None}
                summed = sum(g.square().sum() for k, g in weights.items() if k not in set(map(id, alphas)))
            found.append(torch.autograd.grad(summed, parameters, allow_unused=True))
        assert_equal(*found)
        assert any(gradient is not None and gradient.abs().max() > 1e-6 for gradient in found[0])
        assert same_buffers(again, dict(again.named_buffers()), state(plain))

    def test_in_evaluation_mode(self, space, relaxation, randomised):
        plain, again = (network.eval() for network in pair(space, relaxation, randomised))
        before, objects = state(again), dict(again.named_buffers())
        outputs = [network(image()) for network in (plain, again)]
        assert torch.equal(*outputs)
        assert_equal(gradients(again, outputs[1]), gradients(plain, outputs[0]))
        assert same_buffers(again, objects, before)


def test_other_weightings(space, randomised):
    plain, again = pair(space, Softmax(), randomised)
    others = {choice.label: torch.linspace(0.1, 0.4, len(choice.names)) for choice in choices_of(plain)}
    for weighting in (OneHot(Genotype.sample(space, 1).choices), Perturbed(Softmax(), others)):
        found = []
        for network in (plain, again):
            with relaxed_by(network, weighting):
                output = network(image())
                found.append([output, *gradients(network, output)])
        assert_equal(*found)
        assert same_buffers(again, dict(again.named_buffers()), state(plain))


def test_two_forwards_before_one_backward(space, randomised):
    plain, again = pair(space, Softmax(), randomised)
    outputs = [torch.stack([network(image(1)), network(image(2))]) for network in (plain, again)]
    assert_equal(gradients(again, outputs[1]), gradients(plain, outputs[0]))
    assert same_buffers(again, dict(again.named_buffers()), state(plain))


def test_in_bfloat16(space, randomised):
    plain, again = pair(space, Softmax(), randomised, torch.float32)
    found = []
    for network in (plain, again):
        with torch.autocast("cpu", torch.bfloat16):
            output = network(image(dtype=torch.float32))
        found.append(gradients(network, output.float()))
    assert_equal(*found)


def test_noise_inside_a_candidate_is_the_same_in_both_runs():
    x = torch.rand(64, requires_grad=True)
    choice = Choice("label", {"a": nn.Dropout(0.5)}, Softmax(), recompute=True)
    output = choice(x)
    torch.rand(7)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient * x, output)
    assert 0 < (output == 0).sum() < 64


@pytest.mark.parametrize("nested_first", [True, False], ids=["before others", "after others"])
def test_a_fork_inside_a_fork_shares_pooled_statistics(nested_first, randomised):
    plain, again = pair(NestedGates(nested_first=nested_first), Softmax(), randomised)
    outputs = [network(image()) for network in (plain, again)]
    assert torch.equal(*outputs)
    assert_equal(gradients(again, outputs[1]), gradients(plain, outputs[0]))


def test_the_caller_keeps_what_it_gave():
    """Nothing is cached in an input, added to a list or taken from it."""

    class Greedy(nn.Module):
        def forward(self, features):
            features.append(features.pop(0) * 2)
            return features[-1]

    choice = Choice("label", {"a": Greedy(), "b": Greedy()}, Softmax(), recompute=True)
    x = torch.ones(2, requires_grad=True)
    features = [x]
    output = choice(features)
    assert len(features) == 1
    assert features[0] is x
    features.append(x)
    output.sum().backward()
    assert len(features) == 2
    gate = Choice(
        "label", {"a": PUBLISHED_GATES["channel_attention_v2"](4, 2, "none")}, Softmax(), recompute=True
    )
    pooled = Pooled(torch.rand(1, 4, 2, 2))
    gate(pooled).sum().backward()
    assert set(vars(pooled)) == {"x"}


class TestMemory:
    def saved(self, network):
        """Bytes that a forward pass keeps for the backward pass, without the network's own."""
        kept = {}
        own = {tensor.data_ptr() for tensor in [*network.parameters(), *network.buffers()]}

        def pack(tensor):
            if tensor.data_ptr() not in own:
                kept[tensor.data_ptr(), tensor.shape] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(image(dtype=torch.float32))
        return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())

    @of_every_relaxation
    def test_less_is_kept(self, space, relaxation, randomised):
        plain, again = pair(space, relaxation, randomised, torch.float32)
        assert 0 < self.saved(again) < 0.6 * self.saved(plain)

    @pytest.mark.parametrize("recompute", [False, True])
    def test_what_is_inside_a_candidate_is_let_go(self, recompute):
        class Remembering(nn.Module):
            def forward(self, x):
                hidden = x.tanh()
                self.hidden = weakref.ref(hidden)
                return hidden.square()

        choice = Choice("label", {"a": Remembering()}, Softmax(), recompute=recompute)
        output = choice(torch.ones(3, requires_grad=True))
        assert (choice.candidates["a"].hidden() is None) == recompute
        output.sum().backward()

    def test_candidates_run_again_where_a_gradient_is_asked_for_alone(self):
        runs = []
        choice = Choice("label", {"a": nn.Linear(2, 2)}, Softmax(), recompute=True)
        choice.candidates["a"].register_forward_hook(lambda *_: runs.append(1))
        with torch.no_grad():
            choice(torch.ones(2))
        assert len(runs) == 1
        output = choice(torch.ones(2))
        assert len(runs) == 2
        output.square().sum().backward()
        assert len(runs) == 3


class TestRestingBuffers:
    def network(self):
        return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3)))

    def objects(self, network):
        return dict(network.named_buffers()), state(network)

    def test_copies_move_inside(self):
        network = self.network()
        objects, values = self.objects(network)
        with RestingBuffers(network):
            inside = dict(network.named_buffers())
            assert all(torch.equal(inside[name], values[name]) for name in inside)
            network(torch.rand(2, 3, 4, 4))
            assert all(not torch.equal(inside[name], values[name]) for name in inside)
        assert same_buffers(network, objects, values)
        network(torch.rand(2, 3, 4, 4))
        assert not same_buffers(network, objects, values)

    def test_it_is_entered_again_and_again(self):
        network = self.network()
        objects, values = self.objects(network)
        resting, x, means = RestingBuffers(network), torch.rand(2, 3, 4, 4), []
        for _ in range(3):
            with resting:
                network(x)
                means.append(network[1].running_mean)
            assert same_buffers(network, objects, values)
        assert torch.equal(means[0], means[1])
        assert torch.equal(means[0], means[2])

    def test_it_begins_with_what_the_buffers_are_then(self):
        network = self.network()
        resting = RestingBuffers(network)
        network(torch.rand(2, 3, 4, 4))
        objects, values = self.objects(network)
        with resting:
            assert torch.equal(network[1].running_mean, values["1.running_mean"])
        assert same_buffers(network, objects, values)

    def test_an_exception_restores_them(self):
        network = self.network()
        objects, values = self.objects(network)
        network.append(nn.Conv2d(7, 1, 1))
        with pytest.raises(RuntimeError, match="channels"), RestingBuffers(network):
            network(torch.rand(2, 3, 4, 4))
        assert same_buffers(network, objects, values)

    def test_blocks_inside_blocks(self):
        network = self.network()
        objects, values = self.objects(network)
        with RestingBuffers(network):
            network(torch.rand(2, 3, 4, 4))
            outer, moved = self.objects(network)
            with RestingBuffers(network):
                network(torch.rand(2, 3, 4, 4))
            assert same_buffers(network, outer, moved)
        assert same_buffers(network, objects, values)

    def test_one_inside_itself(self):
        network = self.network()
        objects, values = self.objects(network)
        resting = RestingBuffers(network)
        with resting:
            with resting:
                network(torch.rand(2, 3, 4, 4))
            network(torch.rand(2, 3, 4, 4))
        assert same_buffers(network, objects, values)

    def test_made_inside_a_block_that_has_ended(self):
        """As by a forward pass in that block, whose backward pass is outside."""
        network = self.network()
        objects, values = self.objects(network)
        with RestingBuffers(network):
            resting = RestingBuffers(network)
        with resting:
            network(torch.rand(2, 3, 4, 4))
        assert same_buffers(network, objects, values)

    def test_modules_without_some_buffers(self):
        network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 3, 1))
        with RestingBuffers(network):
            network(torch.rand(2, 3, 4, 4))
        assert dict(network.named_buffers()) == {}


class TestBetweenTheRuns:
    """What changes between forward and backward pass does not reach the second run."""

    def both(self, randomised, run):
        """Compares what `run` gives with and without, and how it leaves the networks."""
        plain, again = pair(NESTED, Softmax(), randomised)
        objects, weights = dict(again.named_buffers()), dict(again.named_parameters())
        assert_equal(run(again), run(plain))
        assert same_buffers(again, objects, state(plain))
        assert all(parameter is weights[name] for name, parameter in again.named_parameters())
        assert [m.training for m in again.modules()] == [m.training for m in plain.modules()]

    def test_another_mode(self, randomised):
        def run(network):
            output = network.train()(image())
            network.eval()
            return gradients(network, output)

        self.both(randomised, run)

    def test_other_weights(self, randomised):
        def run(network):
            weights = {name: p.detach() * 0.5 for name, p in network.named_parameters()}
            weights = {name: w.requires_grad_() for name, w in weights.items()}
            output = functional_call(network, weights, (image(),))
            return torch.autograd.grad(output.square().mean(), list(weights.values()))

        self.both(randomised, run)

    def test_other_buffers(self, randomised):
        def run(network):
            with RestingBuffers(network):
                output = network(image())
            return gradients(network, output)

        self.both(randomised, run)

    def test_other_statistics(self, randomised):
        """Those of a block, by which it normalised."""

        def run(network):
            with RestingBuffers(network):
                network.train()(image(2))
                output = network.eval()(image())
            return gradients(network, output)

        self.both(randomised, run)

    def test_an_exception_in_the_second_run(self):
        class Once(nn.BatchNorm1d):
            def forward(self, x):
                output = super().forward(x)
                if self.runs:
                    raise RuntimeError("the second run")
                self.runs = 1
                return output

        norm = Once(3)
        norm.runs = 0
        choice = Choice("label", {"a": norm, "b": nn.Identity()}, Softmax(), recompute=True)
        output = choice(torch.rand(4, 3, requires_grad=True))
        objects, values = dict(choice.named_buffers()), state(choice)
        with pytest.raises(RuntimeError, match="the second run"):
            output.sum().backward()
        assert same_buffers(choice, objects, values)
