"""The cost of an image: the network as it is trained, and as `Restorer` runs it, side by side in one run.

    python experiments/benchmarks/inference.py [PRESET...] [--rounds 3] [--threads 1] [--compile]

`plain` is the derived network as it is trained: normalisations are layers of their own, constant gates are
multiplied out, memory has PyTorch's default order. `optimised` is the network of a `Restorer`; `bf16` is the
same under autocast. Weights are random, since speed does not depend on them. Time is CPU time; its ratio to
`plain` is taken within a round, and the table has the median over interleaved rounds (one round for the large
size). Peak memory is the growth of a process of its own while it restores one image.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

import manas
from manas.architecture.genotype import Genotype
from manas.cost.counting import costs
from manas.inference.restorer import Restorer
from manas.inference.tiling import crop_to, pad_to_multiple
from manas.restoration.model_file import ModelDescription
from manas.restoration.network import RestorationSpace, assemble
from search_spaces.multi_scale_attentive import attention

PRESETS = ("drn", "cmudrn", "manas_tiny", "manas_small", "clearer", "manas", "joint")
Way = Callable[[Tensor], Tensor]
SIZES = {"480x320": (320, 480), "1920x1080": (1080, 1920)}


def genotype_of(preset: str) -> Genotype:
    """The genotype of a whole network with an architecture drawn from a preset."""
    genotype = Genotype.sample(manas.load_space(preset), seed=0)
    if isinstance(genotype.space, RestorationSpace):
        return genotype
    return assemble({"derain": genotype}, stitch="none", fusion="mean")


def randomised(network: nn.Module) -> nn.Module:
    """Gives a network weights and running statistics as if it had been trained: none is zero or one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for parameter in network.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 1
        nn.init.normal_(parameter, std=0.5 * inputs**-0.5)
    return network.eval()


@contextmanager
def multiplied_out() -> Iterator[None]:
    """Runs gates that are constants like every other gate within the block."""
    ours, attention._is = attention._is, lambda gate, value: False
    try:
        yield
    finally:
        attention._is = ours


def variants(preset: str, *, compiled: bool) -> dict[str, Way]:
    """The ways to restore an image (1, 3, H, W), by name."""
    torch.manual_seed(0)
    genotype = genotype_of(preset)
    network = randomised(genotype.network())
    description = ModelDescription(genotype=genotype)
    ways = {
        "optimised": Restorer(network, description, device="cpu", tile=None),
        "bf16": Restorer(network, description, device="cpu", tile=None, precision="bf16"),
    }
    if compiled:
        ways["compiled"] = Restorer(network, description, device="cpu", tile=None, compiled=True)

    @torch.inference_mode()
    def plain(image: Tensor) -> Tensor:
        with multiplied_out():
            return network(pad_to_multiple(image, network.size_multiple)).fused.clamp(0, 1)

    return {"plain": lambda image: crop_to(plain(image), *image.shape[-2:]), **ways}


def seconds(way: Way, image: Tensor) -> float:
    start = time.process_time()
    way(image)
    return time.process_time() - start


def _peak(preset: str, name: str, size: tuple[int, int], threads: int) -> int:
    torch.set_num_threads(threads)
    way = variants(preset, compiled=name == "compiled")[name]
    way(torch.rand(1, 3, 64, 64))
    image = torch.rand(1, 3, *size)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _highest()
    way(image)
    return _highest() - before


def _highest() -> int:
    """The most memory that this process has held, in kB; Linux only."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def peak_megabytes(preset: str, name: str, size: tuple[int, int], threads: int) -> float:
    """The peak memory in MB of restoring one image, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        return alone.submit(_peak, preset, name, size, threads).result() / 1024


def times(ways: dict[str, Way], size: tuple[int, int], rounds: int) -> list[dict[str, float]]:
    """The seconds of every way, round by round."""
    image = torch.rand(1, 3, *size)
    return [{name: seconds(way, image) for name, way in ways.items()} for _ in range(rounds)]


def compare(preset: str, rounds: int, threads: int, *, compiled: bool) -> None:
    """Prints the rows of a preset."""
    ways = variants(preset, compiled=compiled)
    cost = costs(genotype_of(preset).network().eval(), (3, *SIZES["480x320"]))
    image = torch.rand(1, 3, 96, 128)
    restored = {name: way(image) for name, way in ways.items()}
    taken = {name: times(ways, SIZES[name], count) for name, count in zip(SIZES, (rounds, 1), strict=True)}
    for name in ways:
        difference = (restored[name] - restored["plain"]).abs().max()
        cells = [preset, name, f"{cost['parameters']:,}", f"{cost['macs'] / 1e9:.1f}", f"{difference:.0e}"]
        for size, rows in taken.items():
            ratio = median(row[name] / row["plain"] for row in rows)
            memory = peak_megabytes(preset, name, SIZES[size], threads)
            cells += [f"{median(row[name] for row in rows):.2f}", f"{ratio:.2f}", f"{memory:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    headings = ["preset", "way", "parameters", "GMACs at 480x320", "difference"]
    headings += [f"{size}: {what}" for size in SIZES for what in ("s", "of plain", "MB")]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for preset in arguments.presets:
        compare(preset, arguments.rounds, arguments.threads, compiled=arguments.compile)


if __name__ == "__main__":
    main()
