"""The self-test before a training in reduced precision: every kernel is first compared with float32.

A kernel of torch 2.13 on CPUs shows why. Its weight gradient of a dilated depthwise convolution in bfloat16 and
channels_last is wrong in every pass where features are 29 pixels wide or more. Now and then the gradient is so
large that clipping turns all others to zero; as a rule it is only wrong, which no norm shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from manas.data.dataset.config import DataConfig
from manas.training.distributed import Precision, Process
from manas.training.probes import Kind, Kinds, Lowered, Part, Probe, kinds_of, seed
from manas.training.remedies import REMEDIES

# Seconds for repetitions, shared by all kinds: each is tried a few times in any case, cheap ones more often.
BUDGET = 0.3
# Float32 is right by definition. Another remedy must take less than half of its time: measurements of
# milliseconds are no more exact than that, and a resumed run must come to the same choice.
GAIN = 0.5


def shape_of_pass(data: DataConfig, process: Process, parts: int = 1) -> tuple[int, int, int, int]:
    """(images, 3, P, P), the shape of one forward pass in training on one process, for one of so many parts."""
    images = data.batch // process.world_size // parts * data.versions
    return images, 3, data.patch, data.patch


def make_sound(network: nn.Module, shape: Sequence[int], process: Process, precision: Precision) -> list[str]:
    """Tests each kind of layer and makes layers that fail run in another way; returns one line a remedy.

    Weights, buffers, modes and random states stay as they were. If one kind of a family of kernels fails on one
    process, the whole family is remedied on every process.

    Args:
        network: a network on its device, before it is copied, wrapped, or given to an optimiser.
        shape: (images, 3, P, P) of one forward pass on one process.
        precision: the precision of the training; nothing is tested in float32.
    """
    if precision == "float32":
        return []
    test = _SelfTest(network, shape, process, lambda: process.autocast(precision))
    # The test draws random numbers, which must not change the draws of the training.
    with torch.random.fork_rng([process.device] if process.device.type == "cuda" else []):
        seed(process.device)
        return test.run(precision)


class _SelfTest:
    def __init__(self, network: nn.Module, shape: Sequence[int], process: Process, lowered: Lowered):
        self.network, self.process, self.lowered = network, process, lowered
        self.images, *_, self.size = shape
        self.kinds: Kinds = {}

    def run(self, precision: Precision) -> list[str]:
        self.kinds = kinds_of(self.network, self.size, self.process.device, self.lowered)
        failures: dict[str, Part] = {}
        for of_a_process in self.process.gather(self._failures()):
            failures |= of_a_process
        # Sorted, since the processes exchange messages about each family and must come to them in one order.
        return [self._remedy(family, failures[family], precision) for family in sorted(failures)]

    def _failures(self) -> dict[str, Part]:
        """The families that fail on this process, each with the part of its first failure."""
        failures: dict[str, Part] = {}
        for kind in self.kinds:
            if kind.family not in failures:
                wrong = self._probe(kind).wrong(BUDGET / len(self.kinds))
                failures |= {kind.family: wrong} if wrong else {}
        return failures

    def _probe(self, kind: Kind) -> Probe:
        layer = next(iter(self.kinds[kind].values()))
        return Probe(layer, kind, self.images, self.process.device, self.lowered)

    def _remedy(self, family: str, part: Part, precision: Precision) -> str:
        """Makes the layers of a family run in the best other way; returns the line that says so."""
        kinds = [kind for kind in self.kinds if kind.family == family]
        remedy = best_of(self.process.gather(self._trials(kinds)))
        layers = {name: (layer, kind) for kind in kinds for name, layer in self.kinds[kind].items()}
        if remedy:
            for layer, kind in layers.values():
                REMEDIES[remedy](layer, kind)
        they_run, they_are = ("they run", "they are") if len(layers) > 1 else ("it runs", "it is")
        name, *settings = family.split(", ")
        what = ", ".join([f"{len(layers)} layer{'s' * (len(layers) > 1)} {name}", *settings])
        outcome = f"{they_run} in {remedy}"
        if remedy is None:
            outcome = f"no remedy helps, and {they_are} left alone; set precision=float32"
        return f"numerics: {what}: the {precision} {part} is wrong on this machine; {outcome}"

    def _trials(self, kinds: Sequence[Kind]) -> dict[str, float]:
        """The seconds that each remedy takes on this process; remedies that fail are left out."""
        seconds = dict.fromkeys(REMEDIES, 0.0)
        for kind in kinds:
            for name in list(seconds):
                probe = self._probe(kind)
                REMEDIES[name](probe.layer, kind)
                seconds[name] += probe.seconds()
                if probe.wrong(0):
                    del seconds[name]
        return seconds


def best_of(trials: Sequence[Mapping[str, float]]) -> str | None:
    """The remedy that is right on every process: float32, unless another is far cheaper; None if all fail."""
    right = [name for name in REMEDIES if all(name in seconds for seconds in trials)]
    total = {name: sum(seconds[name] for seconds in trials) for name in right}
    if not total:
        return None
    cheapest = min(total, key=total.__getitem__)
    clear = "float32" not in total or total[cheapest] < GAIN * total["float32"]
    return cheapest if clear else "float32"
