"""The arithmetic of a training step in its time: the towers of a space beside the plain network.

    python experiments/benchmarks/step.py [--space manas_small] [--genotypes 4] [--rounds 15] [--images 16]

A step is forward, L1, backward and AdamW on crops of 64x64, in float32 and in bf16 (after the self-test of
numerics, as in a training). All networks take turns; times are medians of CPU time on one thread. Arithmetic
counts convolutions and matrix products, two operations a multiply-accumulate, three times the forward pass.
"""

import argparse
import time
from statistics import median

import torch
from torch import nn

import manas
from manas.cost.counting import costs
from manas.device import place
from manas.training.distributed import Process
from manas.training.numerics import make_sound

SIDE = 64
CPU = Process(0, 1, torch.device("cpu"))


class Step:
    """One network with its optimiser, on the same random crops in every step."""

    def __init__(self, network: nn.Module, images: int, precision: str):
        self.network, self.precision = place(network, CPU.device), precision
        self.operations = 6 * images * costs(self.network, (3, SIDE, SIDE))["macs"]
        make_sound(self.network, (images, 3, SIDE, SIDE), CPU, precision)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), 1e-4, fused=True)
        self.crops = torch.rand(images, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
        self.seconds: list[float] = []

    def run(self) -> None:
        start = time.process_time()
        with CPU.autocast(self.precision):
            output = self.network(self.crops)
        (output.float() - self.crops).abs().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.seconds.append(time.process_time() - start)

    def speed(self) -> float:
        """The gigaoperations a second."""
        return self.operations / median(self.seconds) / 1e9


def networks(space: str, genotypes: int) -> dict[str, nn.Module]:
    """The plain network, and towers with drawn architectures."""
    plain, searched = manas.load_space("plain"), manas.load_space(space)
    towers = {
        f"{space}, drawn {seed}": searched.network(manas.Genotype.sample(searched, seed))
        for seed in range(genotypes)
    }
    return {"plain": plain.network(manas.Genotype.sample(plain, 0)), **towers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="manas_small")
    parser.add_argument("--genotypes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | precision | ms a step | GFLOP/s | of plain's |\n|---|---|---|---|---|")
    for precision in ("float32", "bf16"):
        torch.manual_seed(0)
        all_networks = networks(arguments.space, arguments.genotypes)
        steps = {name: Step(network, arguments.images, precision) for name, network in all_networks.items()}
        for _ in range(arguments.rounds):
            for step in steps.values():
                step.run()
        for name, step in steps.items():
            speed = f"{step.speed():.0f} | {step.speed() / steps['plain'].speed():.2f}"
            print(f"| {name} | {precision} | {median(step.seconds) * 1000:.0f} | {speed} |", flush=True)


if __name__ == "__main__":
    main()
