"""The self-test before a training in reduced precision: what is broken is found, named and remedied."""

import copy
from collections import defaultdict
from contextlib import nullcontext
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from training.tiny_runs import retrain_config, search_config, write_genotype

import manas
from manas.architecture.decide import Relaxed
from manas.architecture.finding import load_space, presets
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.device import place
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.softmax import Softmax
from manas.reporting.progress import Progress
from manas.restoration.model_file import read_description
from manas.restoration.network import Restoration
from manas.restoration.tower import Tower
from manas.searching import method
from manas.training import retrain as retraining
from manas.training.distributed import Process
from manas.training.numerics import best_of, make_sound
from manas.training.probes import TOLERANCE, kinds_of
from manas.training.remedies import run_contiguous, run_in_float32

CPU = torch.device("cpu")
ALONE = Process(0, 1, CPU)
SHAPE = (4, 3, 32, 32)
KNOWN = "Conv2d 3x3, dilation 2, depthwise, channels_last"


class Garbage(torch.autograd.Function):
    """A weight whose gradient is garbage."""

    @staticmethod
    def forward(ctx, weight):
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 1e30


class Broken(nn.Conv2d):
    """A convolution whose weight gradient is garbage in every second pass in reduced precision."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.passes = 0

    def is_broken(self):
        self.passes += torch.is_autocast_enabled("cpu")
        return torch.is_autocast_enabled("cpu") and self.passes % 2 == 0

    def forward(self, x):
        weight = Garbage.apply(self.weight) if self.is_broken() else self.weight
        return conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class BrokenOnEight(Broken):
    """It is broken on eight channels alone."""

    def is_broken(self):
        return super().is_broken() and self.in_channels == 8


class Noisy(nn.Conv2d):
    """It never gives the same twice."""

    def forward(self, x):
        self.noise = getattr(self, "noise", 0) + 1
        return super().forward(x) * self.noise


def network(layer=nn.Conv2d, channels=8):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return place(nn.Sequential(*layers, layer(channels, 3, 3, padding=1)), CPU)


def lowered():
    return ALONE.autocast("bf16")


def errors_by_layer(net, images):
    """The relative error of the gradient of every weight, in a backward pass of the whole network.

    Each is compared with that of its layer in float32, by the input and the gradient that came to the layer.
    """
    calls, hooks = defaultdict(list), []

    def note(layer, inputs, output):
        if torch.is_tensor(output) and output.requires_grad:
            call = [inputs[0].detach(), None]
            calls[layer].append(call)
            output.register_hook(lambda gradient: call.__setitem__(1, gradient.detach()))

    leaves = {m: name for name, m in net.named_modules() if not [*m.children()] and [*m.parameters()]}
    for layer in leaves:
        if not isinstance(layer, nn.ParameterList):
            hooks.append(layer.register_forward_hook(note))
    net.train().zero_grad()
    with lowered():
        output = Restoration.of(net(images)).fused
    (output.float() * torch.randn(output.shape)).mean().backward()
    for hook in hooks:
        hook.remove()
    return {leaves[m]: error_of(m, [call for call in of if call[1] is not None]) for m, of in calls.items()}


def error_of(layer, calls):
    """The largest error of a layer's weight gradients, summed over its calls."""
    weights = [p for p in layer.parameters() if p.grad is not None]
    if not calls or not weights:
        return 0.0
    exact = [torch.zeros_like(p) for p in weights]
    for x, gradient in calls:
        found = torch.autograd.grad(type(layer).forward(layer, x.float()), weights, gradient.float())
        exact = [a + b for a, b in zip(exact, found, strict=True)]
    off = [(p.grad - e).norm() / e.norm() for p, e in zip(weights, exact, strict=True) if e.norm() > 0]
    return max((float(each) if each.isfinite() else float("inf") for each in off), default=0.0)


def wrong(net, images):
    return {name for name, error in errors_by_layer(net, images).items() if not error <= TOLERANCE}


def images(shape=SHAPE):
    return torch.rand(shape).contiguous(memory_format=torch.channels_last)


class TestHealthy:
    def test_nothing_is_said_and_nothing_is_changed(self):
        net = network()
        net[1].eval()
        net(images()).mean().backward()
        before = copy.deepcopy(net.state_dict())
        gradients = [p.grad.clone() for p in net.parameters()]
        modes, state = [m.training for m in net.modules()], torch.get_rng_state()
        assert make_sound(net, SHAPE, ALONE, "bf16") == []
        assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
        assert all(torch.equal(a, p.grad) for a, p in zip(gradients, net.parameters(), strict=True))
        assert modes == [m.training for m in net.modules()]
        assert torch.equal(state, torch.get_rng_state())
        assert not any("forward" in vars(m) or m._forward_hooks for m in net.modules())

    def test_in_float32_nothing_is_tested(self):
        net = network(Broken)
        assert make_sound(net, SHAPE, ALONE, "float32") == []
        assert net[3].passes == 0

    def test_a_layer_that_is_zero_is_tested_too(self):
        """A head that begins at zero sends nothing back."""
        net = network(Broken)
        nn.init.zeros_(net[3].weight)
        assert len(make_sound(net, SHAPE, ALONE, "bf16")) == 1


class TestPlanted:
    def test_it_is_found_named_and_remedied(self):
        net = network(Broken)
        assert set.union(*(wrong(net, images()) for _ in range(2))) == {"3"}
        said = (
            "1 layer Broken 3x3, channels_last: the bf16 gradient is wrong on this machine; it runs in float32"
        )
        assert make_sound(net, SHAPE, ALONE, "bf16") == [f"numerics: {said}"]
        assert not any(wrong(net, images()) for _ in range(4))

    def test_the_whole_family_is_remedied(self):
        net = nn.Sequential(network(BrokenOnEight), network(BrokenOnEight, 12))
        (note,) = make_sound(net, SHAPE, ALONE, "bf16")
        assert "2 layers BrokenOnEight 3x3, channels_last" in note
        assert "they run in float32" in note
        assert {name for name, m in net.named_modules() if "forward" in vars(m)} == {"0.3", "1.3"}

    def test_other_layers_run_as_they_did(self):
        net = network(Broken)
        make_sound(net, SHAPE, ALONE, "bf16")
        types = []
        for layer in net:
            layer.register_forward_hook(lambda _, inputs, output: types.append((inputs[0].dtype, output.dtype)))
        with lowered():
            net(images())
        assert types == [(torch.float32, torch.bfloat16)] + [(torch.bfloat16, torch.bfloat16)] * 3

    def test_what_cannot_be_remedied_is_said_and_left_alone(self):
        net = network(Noisy)
        (note,) = make_sound(net, SHAPE, ALONE, "bf16")
        assert "output is wrong" in note
        assert note.endswith("no remedy helps, and it is left alone; set precision=float32")
        assert "forward" not in vars(net[3])

    @pytest.mark.parametrize("relaxation", [Gumbel(), OneHot({"fork": "good"})], ids=["gumbel", "one path"])
    @pytest.mark.parametrize("recompute", [False, True])
    def test_every_candidate_is_seen(self, relaxation, recompute):
        candidates = {"good": lambda: nn.Conv2d(3, 3, 3), "bad": lambda: Broken(3, 3, 3)}
        net = nn.Sequential(Relaxed(relaxation, recompute=recompute)("fork", candidates))
        (note,) = make_sound(net, SHAPE, ALONE, "bf16")
        assert "1 layer Broken 3x3" in note
        assert net[0].relaxation is relaxation

    def test_what_another_process_finds_is_remedied_here(self):
        class OfTwo(Process):
            """The first of two processes; the other has found `bad`, and has no use for contiguous memory."""

            def gather(self, value):
                failure = {"Conv2d 3x3, channels_last": "gradient"}
                return [value, {"float32": 1.0} if "float32" in value else failure]

        (note,) = make_sound(network(), SHAPE, OfTwo(0, 2, CPU), "bf16")
        assert "2 layers Conv2d 3x3, channels_last: the bf16 gradient" in note


class TestRemedies:
    def remedied(self, remedy):
        net = network(channels=6)
        with lowered():
            expected = net(images((2, 3, 8, 8)))
        ((kind, layers),) = [
            (kind, layers) for kind, layers in kinds_of(net, 8, CPU, lowered).items() if "3" in layers
        ]
        remedy(layers["3"], kind)
        return net, expected

    @pytest.mark.parametrize("remedy", [run_in_float32, run_contiguous])
    def test_type_and_memory_format_are_those_that_the_network_is_used_to(self, remedy):
        net, expected = self.remedied(remedy)
        with lowered():
            found = net(images((2, 3, 8, 8)))
        assert found.dtype == expected.dtype == torch.bfloat16
        assert found.stride() == expected.stride()
        assert net[3].weight.is_contiguous() == (remedy is run_contiguous)

    @pytest.mark.parametrize("remedy", [run_in_float32, run_contiguous])
    def test_copies_and_files_are_as_before(self, remedy):
        net, _ = self.remedied(remedy)
        twin = copy.deepcopy(net)
        assert twin[3].forward.__self__ is twin[3]
        nn.init.zeros_(net[3].weight)
        x = images((2, 3, 8, 8))
        assert net(x)[:, 0].std() < 1e-6 < twin(x)[:, 0].std()
        assert net.state_dict().keys() == network().state_dict().keys()
        plain = network(channels=6)
        plain.load_state_dict(twin.state_dict())
        torch.testing.assert_close(plain(x), twin(x))

    def test_float32_unless_another_is_far_cheaper_everywhere(self):
        assert best_of([{"float32": 1.0, "contiguous memory": 0.6}]) == "float32"
        assert best_of([{"float32": 1.0, "contiguous memory": 0.4}]) == "contiguous memory"
        assert best_of([{"float32": 1.0, "contiguous memory": 0.4}, {"float32": 1.0}]) == "float32"
        assert best_of([{"contiguous memory": 9.0}]) == "contiguous memory"
        assert best_of([{"float32": 1.0}, {}]) is None


def dilated(channels=8):
    return nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels, bias=False)


@cache
def known_fault():
    """Whether the dilated depthwise convolution is wrong in one of some hundred small passes."""
    torch.manual_seed(0)
    layer = nn.Sequential(place(dilated(), CPU))
    return any("0" in wrong(layer, images((1, 8, 32, 32)).requires_grad_()) for _ in range(200))


class TestRealKernel:
    @pytest.fixture(autouse=True)
    def _only_where_it_is_wrong(self):
        if not known_fault():
            pytest.skip(f"{KNOWN}: right in 200 of 200 passes on this machine, torch {torch.__version__}")

    def network(self):
        torch.manual_seed(0)
        return place(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), dilated(), nn.Conv2d(8, 3, 1)), CPU)

    @pytest.mark.parametrize("remedied", [True, False])
    def test_gradients_of_a_training(self, remedied):
        net = self.network()
        if remedied:
            (note,) = make_sound(net, SHAPE, ALONE, "bf16")
            assert f"1 layer {KNOWN}: the bf16 gradient is wrong" in note
        passes = [wrong(net, images()) for _ in range(200)]
        assert (not any(passes)) if remedied else all(broken == {"1"} for broken in passes)


WIDE = 29  # pixels from which on the known kernel is wrong


@pytest.mark.parametrize("name", sorted(presets()))
@pytest.mark.parametrize("kind", ["derived", "supernet"])
def test_gradients_equal_those_in_float32_layer_by_layer(name, kind, randomised):
    """Invariant 12, on this machine, with the remedies of the self-test; wide enough for the known fault."""
    space = load_space(name)
    if kind == "supernet" and not space.choices():
        pytest.skip("it has no forks")
    torch.manual_seed(0)
    net = space.supernet(Softmax()) if kind == "supernet" else space.network(Genotype.sample(space, seed=0))
    net = place(randomised(net), CPU)
    side = 32 * max((m.shuffle for m in net.modules() if isinstance(m, Tower)), default=1)
    notes = make_sound(net, (2, 3, side, side), ALONE, "bf16")
    assert all(KNOWN in note for note in notes)
    assert bool(notes) == (
        known_fault()
        and any(k.family == KNOWN and k.shape[-1] >= WIDE for k in kinds_of(net, side, CPU, nullcontext))
    )
    errors = errors_by_layer(net, images((2, 3, side, side)))
    assert errors
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}


NOTE = "numerics: this is what was found"


@pytest.fixture
def said(monkeypatch):
    """The lines that stay, of runs whose self-test finds something."""
    lines = []
    monkeypatch.setattr(Progress, "say", lambda self, text: lines.append(text))
    for module in (retraining, method):
        monkeypatch.setattr(module, "make_sound", lambda *_: [NOTE])
    return lines


def test_a_retraining_says_what_is_done_and_its_model_too(said, tmp_path):
    genotype = write_genotype(tmp_path / "genotype.json")
    model = manas.retrain(retrain_config(genotype, run=str(tmp_path / "run"), epochs=1))
    assert said[0] == NOTE
    training = read_description(model).training
    assert training["numerics"] == NOTE
    assert training["steps_left_out"] == 0
    assert "broken_gradients" not in training


def test_a_search_says_what_is_done(said, tmp_path):
    manas.search(search_config(run=str(tmp_path), epochs=1))
    assert said[0] == NOTE


@pytest.mark.parametrize("task", ["search", "retrain", "random"])
def test_whole_runs_in_reduced_precision(task, tmp_path):
    """A self-test of the real network, with the remedies that it finds."""
    small = {"run": str(tmp_path / "run"), "precision": "bf16", "epochs": 1, "data": {"patch": 32}}
    if task == "retrain":
        manas.retrain(retrain_config(write_genotype(tmp_path / "genotype.json"), **small))
        return
    method = {"method": {"kind": "random", "candidates": 2}} if task == "random" else {}
    manas.search(search_config(**small | method))
