"""Latency by a clock that stands still unless a layer moves it; nothing here asserts on real time."""

import datetime
import math
from functools import cached_property, partial

import pytest
import torch
from architecture.toy_spaces import NESTED, FirstIsFork, Plain, architectures, labels_of, trees
from hypothesis import given, settings
from torch import nn

from manas.architecture.choice import choices_of
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.cost import latency
from manas.cost.latency import covering, latency_table, measured_latency
from manas.cost.table import CostTable
from manas.restoration.network import RestorationSpace

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Clock:
    """Seconds so far, and the names of the layers that moved it; copies of a layer move the same one."""

    def __init__(self):
        self.seconds = 0.0
        self.calls = []

    def __deepcopy__(self, _):
        return self


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "_now", lambda device: clock.seconds)
    return clock


class Takes(nn.Module):
    """Takes that many seconds of the clock, in multiples of which sums are exact."""

    def __init__(self, clock, seconds, name="", outlier=None):
        super().__init__()
        self.clock, self.seconds, self.name, self.outlier = clock, seconds, name, outlier
        self.calls = 0

    def forward(self, x):
        self.clock.seconds += 1000.0 if self.calls == self.outlier else self.seconds
        self.clock.calls.append(self.name)
        self.calls += 1
        return x


class Programme(SearchSpace):
    """A space that is one function of `decide`."""

    program: object

    def build(self, decide):
        return self.program(decide)


def run(clock, program, **options):
    """The table of a space without anything real in it."""
    return latency_table(Programme(program=program), SHAPE, CPU, networks=0, **options)


def costs(table):
    return {label: dict(zip(fork.names, fork.own.tolist(), strict=True)) for label, fork in table.forks.items()}


def test_candidates_and_what_is_beyond_them(clock):
    def program(decide):
        takes = partial(Takes, clock)
        candidates = {"fast": lambda: takes(0.5), "slow": lambda: takes(4.0), "free": nn.Identity}
        return nn.Sequential(
            takes(16.0),
            decide("a", candidates),
            takes(32.0),
            decide("b", {"x": lambda: takes(1.0), "y": lambda: takes(2.0)}),
        )

    table = run(clock, program)
    assert table.fixed == 48
    assert table.outermost == ("a", "b")
    assert costs(table) == {"a": {"fast": 0.5, "slow": 4, "free": 0}, "b": {"x": 1, "y": 2}}


class Around(nn.Module):
    """Takes its own seconds before and after what it holds."""

    def __init__(self, clock, seconds, *inner):
        super().__init__()
        self.own = Takes(clock, seconds / 2)
        self.inner = nn.ModuleList(inner)

    def forward(self, x):
        x = self.own(x)
        for inner in self.inner:
            x = inner(x)
        return self.own(x)


def nested(clock, decide):
    """A fork whose candidates hold none, one and two forks, down to the third level."""
    takes = partial(Takes, clock)

    def deepest():
        return decide("a/two/left/in", {"p": lambda: takes(0.125), "q": lambda: takes(0.25)})

    def left():
        return decide("a/two/left", {"flat": lambda: takes(0.5), "deep": lambda: Around(clock, 1.0, deepest())})

    def right():
        return decide(
            "a/two/right", {"r": lambda: takes(2.0), "s": lambda: takes(4.0), "t": lambda: takes(8.0)}
        )

    candidates = {
        "none": lambda: takes(16.0),
        "itself": lambda: decide("a/itself", {"u": lambda: takes(32.0), "v": lambda: takes(64.0)}),
        "two": lambda: Around(clock, 128.0, left(), right()),
    }
    return Around(clock, 256.0, decide("a", candidates), takes(512.0))


NESTED_COSTS = {
    "a": {"none": 16, "itself": 0, "two": 128},
    "a/itself": {"u": 32, "v": 64},
    "a/two/left": {"flat": 0.5, "deep": 1},
    "a/two/left/in": {"p": 0.125, "q": 0.25},
    "a/two/right": {"r": 2, "s": 4, "t": 8},
}


def test_forks_inside_candidates(clock):
    table = run(clock, partial(nested, clock), repeats=1, warmup=0)
    assert table.fixed == 256 + 512
    assert table.outermost == ("a",)
    assert costs(table) == NESTED_COSTS
    assert table.forks["a"].inside == ((), ("a/itself",), ("a/two/left", "a/two/right"))
    assert table.forks["a/two/left"].inside == ((), ("a/two/left/in",))


def test_the_table_predicts_every_derived_network(clock):
    space = Programme(program=partial(nested, clock))
    table = latency_table(space, SHAPE, CPU, repeats=1)
    for seed in range(12):
        choices = Genotype.sample(space, seed).choices
        before = clock.seconds
        space.network(choices)(torch.zeros(1, *SHAPE))
        assert table.exact(choices) == pytest.approx(clock.seconds - before)
        assert table.exact(choices) == pytest.approx(measured_latency(space.network(choices), SHAPE, CPU))


@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_the_median_ignores_an_outlier(clock, at):
    """Two calls a repeat, one unwatched: one slow moment in either, or in the part that is no candidate."""

    def program(decide):
        return nn.Sequential(
            Takes(clock, 8.0, outlier=at),
            decide("a", {"x": lambda: Takes(clock, 1.0, outlier=at)}),
            decide("b", {"y": lambda: Takes(clock, 2.0)}),
        )

    table = run(clock, program, repeats=3, warmup=0)
    assert table.fixed == 8
    assert costs(table) == {"a": {"x": 1}, "b": {"y": 2}}
    network = Programme(program=program).network({"a": "x", "b": "y"})
    assert measured_latency(network, SHAPE, CPU, repeats=7, warmup=0) == 11


def test_a_planted_outlier_shows_where_nothing_outvotes_it(clock):
    def program(decide):
        return decide("a", {"x": lambda: Takes(clock, 1.0, outlier=1)})

    assert costs(run(clock, program, repeats=1, warmup=0)) == {"a": {"x": 1000}}


def test_warming_up_does_not_count(clock):
    def program(decide):
        return nn.Sequential(
            Takes(clock, 8.0, outlier=0), decide("a", {"x": lambda: Takes(clock, 1.0, outlier=1)})
        )

    table = run(clock, program, repeats=1, warmup=1)
    assert table.fixed == 8
    assert costs(table) == {"a": {"x": 1}}
    network = nn.Sequential(Takes(clock, 8.0, outlier=0))
    assert measured_latency(network, SHAPE, CPU, repeats=1, warmup=1) == 8


def test_a_fork_that_runs_several_times_costs_each_time(clock):
    def program(decide):
        shared = decide("shared", {"x": lambda: Takes(clock, 1.0), "y": lambda: Takes(clock, 2.0)})
        return nn.Sequential(shared, Takes(clock, 4.0), shared, shared)

    table = run(clock, program)
    assert table.fixed == 4
    assert costs(table) == {"shared": {"x": 3, "y": 6}}


def test_a_fork_that_never_runs_costs_nothing(clock):
    class Idle(nn.Module):
        def __init__(self, decide):
            super().__init__()
            self.fork = decide("a", {"x": lambda: Takes(clock, 1.0)})

        def forward(self, x):
            return x

    assert costs(run(clock, Idle)) == {"a": {"x": 0}}


class Adds(nn.Module):
    """Adds what a fork makes of its input, which takes time only if that is something."""

    def __init__(self, clock, fork):
        super().__init__()
        self.clock, self.fork = clock, fork

    def forward(self, x):
        added = self.fork(x)
        self.clock.seconds += 4.0 if added.dim() else 0.0
        return x + added


class Zero(nn.Module):
    def forward(self, x):
        return x.new_zeros(())


def test_whole_networks_correct_the_level(clock):
    """What forks cost beyond their candidates depends on the architecture here; a line catches most of it."""

    def program(decide):
        takes = partial(Takes, clock)
        candidates = {"none": Zero, "fast": lambda: takes(8.0), "slow": lambda: takes(16.0)}
        stages = [Adds(clock, decide(f"stage{n}", candidates)) for n in range(8)]
        return nn.Sequential(takes(10.0), *stages)

    space = Programme(program=program)
    architectures = [Genotype.sample(space, seed).choices for seed in range(20)]
    architectures += [dict.fromkeys(space.choices(), name) for name in ("none", "fast", "slow")]
    truth = [measured_latency(space.network(choices), SHAPE, CPU) for choices in architectures]

    def worst(table):
        errors = [table.exact(c) / seconds - 1 for c, seconds in zip(architectures, truth, strict=True)]
        return max(map(abs, errors))

    assert (
        worst(latency_table(space, SHAPE, CPU, networks=0)) >= 2
    )  # an empty network is given the 32 of 8 stages
    assert worst(latency_table(space, SHAPE, CPU)) < 0.15


def test_watching_is_not_charged_to_whole_networks(clock, monkeypatch):
    """A clock that takes a second to read, as one that waits for a device does."""

    def now(_):
        clock.seconds += 1.0
        return clock.seconds

    monkeypatch.setattr(latency, "_now", now)

    def program(decide):
        return nn.Sequential(
            Takes(clock, 64.0),
            decide("a", {"x": lambda: Takes(clock, 8.0)}),
            decide("b", {"y": lambda: Takes(clock, 16.0)}),
        )

    choices = {"a": "x", "b": "y"}
    space = Programme(program=program)
    table = latency_table(space, SHAPE, CPU)
    assert measured_latency(space.network(choices), SHAPE, CPU) == 64 + 8 + 16 + 1
    assert table.exact(choices) == pytest.approx(64 + 8 + 16 + 1)


def test_nothing_costs_less_than_nothing(clock, monkeypatch):
    readings = iter(range(10_000))
    monkeypatch.setattr(latency, "_now", lambda _: float(next(readings)))
    table = run(clock, lambda decide: nn.Sequential(*(decide(f"f{n}", {"x": nn.Identity}) for n in range(5))))
    assert table.fixed == 0
    assert all(own == 1 for fork in costs(table).values() for own in fork.values())


class Remembers:
    """Features with a statistic that is computed at most once, as gates share it in a supernet."""

    def __init__(self, x, clock):
        self.x, self.clock = x, clock

    @cached_property
    def statistic(self):
        self.clock.seconds += 4.0
        return self.x.mean()


class Gate(nn.Module):
    def forward(self, features):
        return features.statistic


class Gated(nn.Module):
    def __init__(self, clock, gate):
        super().__init__()
        self.clock, self.gate = clock, gate

    def forward(self, x):
        return x * self.gate(Remembers(x, self.clock))


class Matrix(nn.Module):
    """A candidate without inputs, such as a stitch."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self):
        self.clock.seconds += 2.0
        return [torch.eye(2)]


class Asks(nn.Module):
    def __init__(self, fork):
        super().__init__()
        self.fork = fork

    def forward(self, x):
        return x * self.fork()[0].sum()


class Free(nn.Module):
    def forward(self, features):
        return features.x


def test_candidates_of_odd_inputs(clock):
    def program(decide):
        gate = decide("gate", {"one": Gate, "other": Gate, "free": Free})
        matrix = decide("matrix", {"x": lambda: Matrix(clock), "y": lambda: Matrix(clock)})
        return nn.Sequential(Asks(matrix), Gated(clock, gate))

    table = run(clock, program)
    assert costs(table) == {"gate": {"one": 4, "other": 4, "free": 0}, "matrix": {"x": 2, "y": 2}}
    assert table.fixed == 0


def test_neighbours_in_time_are_different_candidates(clock):
    def program(decide):
        return decide("a", {name: partial(Takes, clock, 1.0, name) for name in "xyz"})

    run(clock, program, repeats=2, warmup=1)
    assert clock.calls == [name for _ in range(3) for name in "xyz" for _ in ("unwatched", "watched")]


@settings(max_examples=60)
@given(space=trees())
def test_covering_architectures(space):
    covered = covering(space.forks())
    every = [dict(choices) for choices in architectures(space.root)]
    assert all(choices in every for choices in covered)
    assert {label: set() for label in labels_of(space.root)} | {
        label: {choices[label] for choices in covered if label in choices} for label in space.choices()
    } == {label: set(names) for label, names in space.choices().items()}


def test_covering_takes_no_more_architectures_than_the_widest_fork_has():
    assert len(covering(load_space("manas").forks())) == 9
    assert len(covering(NESTED.forks())) == 1 + 3  # c0, and in c1: c0, and c1 with either of two
    assert covering(Plain().forks()) == [{}]


def test_covering_mixes_kinds():
    for choices in covering(load_space("manas_tiny").forks()):
        assert len(set(choices.values())) > 2


# On the machine as it is ------------------------------------------------------------------------------------


def one_hot(space, table, choices):
    supernet = space.supernet(OneHot(choices))
    return table.expected({choice.label: choice.probabilities().double() for choice in choices_of(supernet)})


@pytest.fixture(scope="module")
def tiny_table():
    return latency_table(load_space("manas_tiny"), (3, 16, 16), CPU, repeats=2, warmup=1)


def test_a_real_table(tiny_table):
    space = load_space("manas_tiny")
    assert {label: fork.names for label, fork in tiny_table.forks.items()} == space.choices()
    assert tiny_table.outermost == tuple(space.choices())
    seconds = [own for fork in costs(tiny_table).values() for own in fork.values()]
    assert all(math.isfinite(own) and own > 0 for own in seconds)
    assert math.isfinite(tiny_table.fixed)
    assert tiny_table.fixed >= 0
    for seed in range(3):
        choices = Genotype.sample(space, seed).choices
        assert one_hot(space, tiny_table, choices).item() == pytest.approx(tiny_table.exact(choices), rel=1e-12)


def test_the_origin_says_where_and_how_it_was_measured(tiny_table):
    origin = dict(tiny_table.origin)
    assert datetime.date.fromisoformat(origin.pop("date"))
    assert origin.pop("device").startswith("cpu ")
    assert origin == {
        "metric": "latency",
        "input": [3, 16, 16],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "repeats": 2,
    }


def test_a_measured_table_survives_json(tiny_table):
    read = CostTable.from_json(tiny_table.to_json())
    assert read.fixed == tiny_table.fixed
    assert costs(read) == costs(tiny_table)
    assert read.origin == tiny_table.origin


@pytest.mark.parametrize("space", [NESTED, FirstIsFork(), Plain()])
def test_every_kind_of_space(space):
    table = latency_table(space, SHAPE, CPU, repeats=1, warmup=0)
    assert {label: fork.names for label, fork in table.forks.items()} == space.choices()
    choices = Genotype.sample(space, seed=0).choices
    assert table.exact(choices) > 0
    assert one_hot(space, table, choices).item() == pytest.approx(table.exact(choices), rel=1e-12)


def test_stitches_and_fusion(small_tower):
    towers = {"derain": small_tower, "desnow": small_tower}
    space = RestorationSpace(towers=towers, stitch="searched", fusion="searched")
    table = latency_table(space, SHAPE, CPU, repeats=1, warmup=0)
    assert {label: fork.names for label, fork in table.forks.items()} == space.choices()
    assert table.forks["stitch/stage0"].own.gt(0).all()


class Notes(nn.Module):
    """Remembers under which conditions it ran."""

    seen = []

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        layouts = [t.is_contiguous(memory_format=torch.channels_last) for t in (x, self.convolution.weight)]
        Notes.seen.append((x.shape, x.dtype, self.training, torch.is_inference_mode_enabled(), *layouts))
        return x


def test_the_conditions_are_those_of_restoring(monkeypatch):
    monkeypatch.setattr(Notes, "seen", [])
    latency_table(Programme(program=lambda decide: decide("a", {"x": Notes})), (3, 4, 6), CPU, repeats=1)
    measured_latency(Notes(), (3, 4, 6), CPU, repeats=1)
    assert set(Notes.seen) == {((1, 3, 4, 6), torch.float32, False, True, True, True)}
    assert len(Notes.seen) == 3 * 2 + 16 + 3


def test_measuring_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    latency_table(NESTED, SHAPE, CPU, repeats=1, warmup=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_measuring_leaves_the_network_as_it_was():
    network = Genotype.sample(NESTED, seed=0).network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert measured_latency(network, SHAPE, CPU, repeats=1, warmup=0) > 0
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(p.is_contiguous() for p in network.parameters())


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_clock_is_read_when_the_device_is_done(monkeypatch, kind):
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(("cuda", device.index)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: events.append(("mps", 1)))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: events.append("read") or 5.0)
    assert latency._now(torch.device(kind, 1)) == 5
    assert events == [(kind, 1), "read"]


def test_the_name_of_a_gpu_is_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU number {device.index}")
    assert latency._origin(SHAPE, torch.device("cuda", 1), 10)["device"] == "GPU number 1"
