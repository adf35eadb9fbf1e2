"""The cost of a step of the search: the plain formulation and ours, side by side in one run.

    python experiments/benchmarks/search_cost.py [--space manas_small] [--rounds 5] [--threads 1]

A step is an alpha step and a weight step. `plain` is the formulation of the released code: the output of every
candidate gate is multiplied out before the candidates are summed, the gradients of the weights are computed in
the alpha step, too, and the loss loops over images. Every other row is `manas` with one option. Time is the
median over interleaved rounds of the ratio to `plain` in the same round; memory is the size of the tensors that
the forward pass of the weight step saves for the backward pass, each storage counted once.

The candidates run are those of the weight step, in which Gumbel samples run alone. The second table is of the
same space without the gate `none`.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from itertools import combinations
from statistics import median

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import manas
from manas.architecture.choice import (
    Choice,
    Moment,
    architecture_parameters,
    choices_of,
    relax,
    weight_parameters,
)
from manas.data.dataset.crops import Batch
from manas.device import place
from manas.relaxations.gumbel import Gumbel
from manas.relaxations.softmax import Softmax
from manas.restoration.losses import LossWeights
from manas.restoration.ssim import ssim
from manas.searching.bilevel import first_order
from manas.training.distributed import Process
from manas.training.step import Objective
from search_spaces.multi_scale_attentive import attention
from search_spaces.multi_scale_attentive.gates import Pooled

PROCESS = Process(0, 1, torch.device("cpu"))
LOSS = LossWeights(internal_after=0)


def plain_gated(x: Tensor, gate: nn.Module) -> Tensor:
    """Applies a gate with every candidate multiplied out and pooling for itself."""
    if not isinstance(gate, Choice):
        return x * gate(Pooled(x))
    weights = gate.relaxation.weights(gate)
    return sum(weight * (x * gate.candidates[name](Pooled(x))) for name, weight in weights.items())


@contextmanager
def plainly():
    """Runs attention modules in the plain formulation within the block."""
    ours, attention._gated = attention._gated, plain_gated
    try:
        yield
    finally:
        attention._gated = ours


def plain_loss(network: nn.Module, batch: Batch) -> Tensor:
    """The loss computed image by image, as in the released code."""
    versions = batch.degraded.shape[1]
    outputs = network(batch.degraded.flatten(0, 1))
    total = outputs.new_zeros(())
    for place_, clean in enumerate(batch.clean):
        own = outputs[place_ * versions : (place_ + 1) * versions]
        for output in own:
            total = total + (output - clean).square().mean()
            total = total + 1 - ssim(output[None], clean[None], mode="loss").squeeze()
        for one, other in combinations(own, 2):
            total = total + (one - other).square().mean()
        steep = own.diff(dim=2).square().mean() + own.diff(dim=3).square().mean()
        total = total + 1e-4 * 2 * steep * versions
    return total / len(batch.clean)


class Variant:
    """One way to take a step."""

    def __init__(
        self, space: manas.SearchSpace, *, relaxation=None, recompute=False, precision="float32", plain=False
    ):
        torch.manual_seed(0)
        self.relaxation, self.plain = relaxation or Softmax(), plain
        supernet = space.supernet(self.relaxation, recompute=recompute)
        self.network = supernet if plain else place(supernet, PROCESS.device)
        self.network.train()
        self.weights, self.alphas = weight_parameters(self.network), architecture_parameters(self.network)
        self.choices = choices_of(self.network)
        self.objective = Objective(LOSS, PROCESS, precision)
        self.draws = 0

    def loss(self, batch: Batch) -> Tensor:
        if self.plain:
            with plainly():
                return plain_loss(self.network, batch)
        return self.objective(self.network, batch, 1.0)[0]

    def draw(self, *, alphas_learn: bool = False) -> None:
        self.draws += 1
        relax(self.network, self.relaxation.at(Moment(0.5, 0, self.draws, alphas_learn), self.choices))

    def step(self, batch: Batch) -> None:
        """Computes the gradients of an alpha step and of a weight step."""
        for group in (self.alphas, self.weights):
            self.draw(alphas_learn=group is self.alphas)
            if self.plain:
                self.loss(batch).backward()
                self.network.zero_grad()
            else:
                first_order(lambda part: (self.loss(part), {}), [batch], group)


def candidates_run(variant: Variant, batch: Batch) -> int:
    """The number of candidates that a forward pass runs."""
    run = []
    candidates = [module for choice in variant.choices for module in choice.candidates.values()]
    hooks = [module.register_forward_hook(lambda *_: run.append(1)) for module in candidates]
    variant.draw()
    with torch.no_grad():
        variant.loss(batch)
    for hook in hooks:
        hook.remove()
    return len(run)


def seconds(action: Callable[[], None]) -> float:
    """The CPU time of an action, which other programs lengthen less than wall time."""
    start = time.process_time()
    action()
    return time.process_time() - start


def saved_bytes(variant: Variant, batch: Batch) -> int:
    """The bytes of distinct storages that a forward pass saves, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in variant.network.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    variant.draw()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = variant.loss(batch)
    del loss
    return sum(sizes.values())


def without_none(space: manas.SearchSpace) -> manas.SearchSpace:
    """The same space without the gate `none`."""
    description = space.model_dump(mode="json")
    gates = [gate for gate in description["attention"]["gates"] if gate != "none"]
    return manas.load_space({**description, "attention": {**description["attention"], "gates": gates}})


def compare(space: manas.SearchSpace, batch: Batch, rounds: int) -> None:
    """Prints the table of a space in Markdown."""
    variants = {
        "plain": Variant(space, plain=True),
        "softmax": Variant(space),
        "softmax, checkpointing": Variant(space, recompute=True),
        "softmax, bf16": Variant(space, precision="bf16"),
        "gumbel": Variant(space, relaxation=Gumbel()),
        "gumbel, checkpointing": Variant(space, relaxation=Gumbel(), recompute=True),
    }
    times = []
    for _ in range(rounds + 1):
        times.append({name: seconds(lambda v=v: v.step(batch)) for name, v in variants.items()})
    memory = {name: saved_bytes(v, batch) for name, v in variants.items()}
    print("| variant | candidates run | time of a step | saved for backward |\n|---|---|---|---|")
    for name, variant in variants.items():
        ratio = median(each[name] / each["plain"] for each in times[1:])
        share = memory[name] / memory["plain"]
        run = candidates_run(variant, batch)
        print(f"| {name} | {run} | {ratio:.2f} | {share:.2f} ({memory[name] / 2**20:.0f} MiB) |", flush=True)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="manas_small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2, help="backgrounds, of three versions each")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, backgrounds = arguments.patch, arguments.batch
    clean = torch.rand(backgrounds, 3, size, size)
    degraded = (clean[:, None] + 0.1 * torch.rand(backgrounds, 3, 3, size, size)).clamp(0, 1)
    batch = Batch(degraded, clean, torch.zeros(backgrounds, dtype=torch.long))
    space = manas.load_space(arguments.space)
    print(f"{arguments.space}, {3 * backgrounds} images of {size}x{size}, {arguments.threads} thread(s)\n")
    compare(space, batch, arguments.rounds)
    print(f"\n{arguments.space} without the gate none\n")
    compare(without_none(space), batch, arguments.rounds)


if __name__ == "__main__":
    main()
