"""The self-test before a training in reduced precision: no kernel is believed.

torch 2.13 on CPUs is the example. The weight gradient of a dilated depthwise convolution in bfloat16 and
channels_last is wrong in every pass where features are 29 pixels wide or more. Now and then it is so large that
clipping turns all other gradients to zero; as a rule it is only wrong, and no norm tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from manas.data.dataset.config import DataConfig
from manas.training.distributed import Precision, Process
from manas.training.probes import Kind, Kinds, Lowered, Part, Probe, kinds_of, seed
from manas.training.remedies import REMEDIES

# Seconds for repetitions, shared by all kinds: each is tried some times in any case, and cheap ones more often.
BUDGET = 0.3
# Float32 is right by definition. Another remedy must take less than half of its time: a measurement of
# milliseconds does not decide less than that, and a run that is resumed must come to the same.
GAIN = 0.5


def shape_of_pass(data: DataConfig, process: Process, parts: int = 1) -> tuple[int, int, int, int]:
    """(images, 3, P, P) of one forward pass of a process in training, a batch being in so many parts."""
    images = data.batch // process.world_size // parts * data.versions
    return images, 3, data.patch, data.patch


def make_sound(network: nn.Module, shape: Sequence[int], process: Process, precision: Precision) -> list[str]:
    """Tests each kind of layer and gives those that fail another way to run; returns a line a remedy.

    Weights, buffers, modes and random states are afterwards what they were. A family of kernels is remedied as
    a whole, on every process, if one of its kinds fails on one of them.

    Args:
        network: on its device, before it is copied, wrapped, or given to an optimiser.
        shape: (images, 3, P, P) of one forward pass on one process.
        precision: of the training; nothing is tested in float32.
    """
    if precision == "float32":
        return []
    test = _SelfTest(network, shape, process, lambda: process.autocast(precision))
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
        found: dict[str, Part] = {}
        for of_a_process in self.process.gather(self._failures()):
            found |= of_a_process
        return [self._remedied(family, found[family], precision) for family in sorted(found)]

    def _failures(self) -> dict[str, Part]:
        """The families that fail here, with the part that is wrong; one failure is enough."""
        failures: dict[str, Part] = {}
        for kind in self.kinds:
            if kind.family not in failures:
                wrong = self._probe(kind).wrong(BUDGET / len(self.kinds))
                failures |= {kind.family: wrong} if wrong else {}
        return failures

    def _probe(self, kind: Kind) -> Probe:
        layer = next(iter(self.kinds[kind].values()))
        return Probe(layer, kind, self.images, self.process.device, self.lowered)

    def _remedied(self, family: str, part: Part, precision: Precision) -> str:
        kinds = [kind for kind in self.kinds if kind.family == family]
        remedy = best_of(self.process.gather(self._trials(kinds)))
        layers = {name: (layer, kind) for kind in kinds for name, layer in self.kinds[kind].items()}
        if remedy:
            for layer, kind in layers.values():
                REMEDIES[remedy](layer, kind)
        they_run, they_are = ("they run", "they are") if len(layers) > 1 else ("it runs", "it is")
        name, *settings = family.split(", ")
        what = ", ".join([f"{len(layers)} layer{'s' * (len(layers) > 1)} {name}", *settings])
        done = f"{they_run} in {remedy}"
        if remedy is None:
            done = f"no remedy helps, and {they_are} left alone; set precision=float32"
        return f"numerics: {what}: the {precision} {part} is wrong on this machine; {done}"

    def _trials(self, kinds: Sequence[Kind]) -> dict[str, float]:
        """The seconds that each remedy takes here, without those that fail."""
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
    """The remedy that every process has found right: float32, unless another is far cheaper."""
    right = [name for name in REMEDIES if all(name in seconds for seconds in trials)]
    total = {name: sum(seconds[name] for seconds in trials) for name in right}
    if not total:
        return None
    cheapest = min(total, key=total.__getitem__)
    clear = "float32" not in total or total[cheapest] < GAIN * total["float32"]
    return cheapest if clear else "float32"
