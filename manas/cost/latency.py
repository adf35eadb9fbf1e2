"""Latency: the seconds that candidates take on the device in use, as a cost table.

Candidates are timed inside a network. The space is built once more, with a switch at every fork that holds all
candidates and runs one of them: its forward pass is that of a derived network, with real inputs and without
alphas and mixtures. Each architecture is run twice in a row: without a stopwatch, for the time of the whole,
and with a stopwatch that charges every moment to the innermost fork that runs. The difference of the two is the
fixed cost of every network. At the end whole networks correct the level; see `level.py`.
"""

from __future__ import annotations

import copy
import datetime
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from manas.architecture.decide import Candidates
from manas.architecture.forks import Fork, every_fork
from manas.architecture.space import SearchSpace
from manas.cost.counting import InputShape
from manas.cost.level import levelled
from manas.cost.table import CostTable, ForkCost
from manas.device import place
from manas.errors import ManasError


def latency_table(
    space: SearchSpace,
    shape: InputShape,
    device: torch.device,
    *,
    repeats: int = 10,
    warmup: int = 2,
    networks: int = 16,
) -> CostTable:
    """Seconds of every candidate of a space, for one float32 image of `shape` (channels, height, width).

    Each repeat times as many architectures as it takes to run every candidate of every fork; neighbours in time
    are different candidates, so that a slow moment of a shared machine hits all alike. A cost is the median
    over the passes in which the candidate ran. The stopwatch takes time itself, most on cuda and mps, where
    every candidate is waited for, and work that a network does with the output of a fork, such as multiplying
    features by a gate, is outside the candidate: so the costs are scaled to fit whole networks.

    Args:
        repeats: the least number of times that each candidate is timed, and that of each whole network.
        warmup: the number of repeats before that, which do not count.
        networks: the number of whole networks that correct the level; without any, all have the same `fixed`.
    """
    bench, forks = _Bench(space, shape, device), space.forks()
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    beyond: list[float] = []
    for repeat in range(-warmup, repeats):
        for choices in covering(forks):
            whole, seconds = bench.time(choices)
            if repeat >= 0:
                beyond.append(whole - sum(seconds.values()))
                for label, name in choices.items():
                    samples[label, name].append(seconds[label])
    labels = tuple(fork.label for fork in forks)
    costs = {fork.label: _costs(fork, samples) for fork in every_fork(forks)}
    table = CostTable(max(0.0, median(beyond)), labels, costs, _origin(shape, device, repeats))
    table = table.with_nodes_of(forks)
    return levelled(table, bench.whole, networks=networks, rounds=repeats) if networks and forks else table


def latencies_in(file: Path, space: SearchSpace, shape: InputShape) -> CostTable:
    """Reads a table of latencies that was measured before.

    Raises:
        ManasError: for a file that cannot be read, and a table of another space, of images of another shape, or
            of something else than latencies.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManasError(f"{file}: cannot be read ({error}); give the cost.json of a search") from error
    table = CostTable.from_json(text, where=str(file))
    if table.origin.get("metric") != "latency":
        raise ManasError(f"{file} has {table.origin.get('metric')}; give a table of latencies")
    if list(table.origin.get("input", ())) != list(shape):
        raise ManasError(
            f"{file} is of images of {table.origin.get('input')} (channels, height, width), the budget of "
            f"{list(shape)}; set size to that of the table, or leave table out, to measure here"
        )
    of_the_space = {
        fork.label: {name: tuple(inner.label for inner in forks) for name, forks in fork.inside.items()}
        for fork in every_fork(space.forks())
    }
    of_the_table = {label: dict(zip(f.names, f.inside, strict=True)) for label, f in table.forks.items()}
    if of_the_table != of_the_space:
        raise ManasError(f"{file} has the forks of another space; leave table out, to measure this one")
    return table


def measured_latency(
    network: nn.Module, shape: InputShape, device: torch.device, *, repeats: int = 10, warmup: int = 2
) -> float:
    """Median seconds of one forward pass of a network, under the conditions of `latency_table`.

    The network is copied, and the copy timed in evaluation mode.
    """
    network, image = place(copy.deepcopy(network), device).eval(), _image(shape, device)
    return median([_seconds(network, image) for _ in range(warmup + repeats)][warmup:])


def covering(forks: Sequence[Fork]) -> list[dict[str, str]]:
    """The fewest architectures that together have every candidate of every fork.

    Neighbouring forks begin at different candidates, so that no architecture has one candidate everywhere.
    """
    turns = [
        [{fork.label: name, **deeper} for name, inside in fork.inside.items() for deeper in covering(inside)]
        for fork in forks
    ]
    rounds = max(map(len, turns), default=1)
    return [
        {label: name for n, of in enumerate(turns) for label, name in of[(i + n) % len(of)].items()}
        for i in range(rounds)
    ]


def _now(device: torch.device) -> float:
    """The time in seconds, read when the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@torch.inference_mode()
def _seconds(network: nn.Module, image: Tensor) -> float:
    """The seconds of one forward pass."""
    start = _now(image.device)
    network(image)
    return _now(image.device) - start


class _Bench:
    """A space with a switch at every fork, and an image on the same device."""

    def __init__(self, space: SearchSpace, shape: InputShape, device: torch.device):
        self.image = _image(shape, device)
        self.stopwatch = _Stopwatch(self.image.device)
        with torch.random.fork_rng(devices=[]):  # the weights do not matter, but later draws must stay the same
            self.network = place(space.build(self._decide), device).eval()

    def time(self, choices: Mapping[str, str]) -> tuple[float, Mapping[str, float]]:
        """The seconds of an architecture without a stopwatch, and those of its forks by label.

        The time of a fork does not include the forks inside it. A fork that runs several times has the sum, and
        a fork that does not run has zero.
        """
        whole = self.whole(choices)
        self.stopwatch.seconds, self.stopwatch.watching = dict.fromkeys(choices, 0.0), True
        _seconds(self.network, self.image)
        return whole, self.stopwatch.seconds

    def whole(self, choices: Mapping[str, str]) -> float:
        """The seconds of an architecture without a stopwatch."""
        self.stopwatch.choices, self.stopwatch.watching = choices, False
        return _seconds(self.network, self.image)

    def _decide(
        self, label: str, candidates: Candidates, node: str | None = None, zero: str | None = None
    ) -> nn.Module:
        return _Switch(label, {name: build() for name, build in candidates.items()}, self.stopwatch)


class _Stopwatch:
    """Charges each moment to the innermost fork that runs.

    Attributes:
        choices: the architecture that the switches run.
        watching: whether the switches charge the time of their candidates.
        seconds: the seconds charged so far, by label.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.choices: Mapping[str, str] = {}
        self.watching = False
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def charging(self, label: str) -> Iterator[None]:
        self._lap()
        self._running.append(label)
        yield
        self._lap()
        self._running.pop()

    def _lap(self) -> None:
        now = _now(self.device)
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


class _Switch(nn.Module):
    """All candidates of one fork, of which the one runs that the stopwatch names."""

    def __init__(self, label: str, candidates: Mapping[str, nn.Module], stopwatch: _Stopwatch):
        super().__init__()
        self.label = label
        self.candidates = nn.ModuleDict(candidates)
        self.stopwatch = stopwatch

    def forward(self, *inputs: object) -> Any:
        chosen = self.candidates[self.stopwatch.choices[self.label]]
        if not self.stopwatch.watching:
            return chosen(*inputs)
        with self.stopwatch.charging(self.label):
            return chosen(*inputs)


def _image(shape: InputShape, device: torch.device) -> Tensor:
    """An image (1, 3, H, W) of noise, since zeros may be faster than any photograph."""
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return image.to(device, memory_format=torch.channels_last)


def _costs(fork: Fork, samples: Mapping[tuple[str, str], Sequence[float]]) -> ForkCost:
    own = torch.tensor([median(samples[fork.label, name]) for name in fork.names], dtype=torch.float64)
    inside = tuple(tuple(inner.label for inner in forks) for forks in fork.inside.values())
    return ForkCost(fork.names, own, inside)


def _origin(shape: InputShape, device: torch.device, repeats: int) -> dict[str, Any]:
    return {
        "metric": "latency",
        "input": list(shape),
        "device": _name(device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "date": datetime.date.today().isoformat(),
        "repeats": repeats,
    }


def _name(device: torch.device) -> str:
    """The name of the hardware, by which a table from another machine is recognised."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {_processor()}"


def _processor() -> str:
    description = Path("/proc/cpuinfo")  # Linux only, where `platform` knows no more than the architecture
    lines = description.read_text(encoding="utf-8").splitlines() if description.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
