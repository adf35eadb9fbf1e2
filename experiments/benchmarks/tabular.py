"""A tabular benchmark of restoration architectures under weather: every row is trained alone.

    python experiments/benchmarks/tabular.py PAIRS [--architectures 128] [--gmacs 3.5] [--part 0/2] [--so-far]

PAIRS is a set of rainy pairs with the levels light and heavy; every sixth scene, the first ten of them, is
reported on and seen by no training. A row is a random architecture of `frontier`, trained by `manas.retrain`
with its defaults for 480 steps in bf16. Every third is trained with two more seeds, from which the noise of
training is known, and so are the rows *plain*, the preset, and *residual* and *U-Net*, points of `frontier`.
Random architectures of more than --gmacs are left out.

Each training is a process of its own on one core, and is kept in the folder of runs; a training that has ended
is not repeated. Several calls may share the folder, each for a part. A call without --part makes what is
missing, and writes everything into table.json, which `tabular_findings.py` reads.
"""

import argparse
import json
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alone import trained_alone
from folds import parted

import manas
from manas.cost.architectures import Architectures
from manas.cost.counting import cost_table, measure
from manas.files import replacing

SPACE = "frontier"
SIZE = (320, 480)
EPOCHS, STEPS = 6, 80
SEEDS = (0, 1, 2)
EVERY = 3  # each third architecture is trained with all seeds, the others with the first
QUICK = {"batch": 2, "validation_images": 1}
KEPT = ("psnr", "ssim", "validation", "seconds", "left_out")
RESIDUAL = ("full", "full", "full", "full")  # the scale of each stage
UNET = ("full", "half", "quarter", "half")


def training(run: Path, genotype: Path, train: Path, *, seed: int, quick: bool) -> dict[str, Any]:
    """The configuration of a training of the table."""
    return {
        "run": str(run),
        "seed": seed,
        "precision": "bf16",
        "epochs": 1 if quick else EPOCHS,
        "steps": 4 if quick else STEPS,
        "genotype": {"derain": str(genotype)},
        "data": {"sources": [{"task": "derain", "pairs": str(train)}], **(QUICK if quick else {})},
    }


def known() -> Iterator[tuple[str, manas.Genotype]]:
    """The rows that everything is compared with."""
    yield "plain", manas.Genotype.sample(manas.load_space("plain"), 0)
    for name, scales in {"residual": RESIDUAL, "U-Net": UNET}.items():
        yield name, manas.Genotype(space=manas.load_space(SPACE), choices=of_residual_blocks(scales))


def of_residual_blocks(scales: tuple[str, ...]) -> dict[str, str]:
    """The choices of a network of two residual blocks a stage, each stage at one scale."""
    choices: dict[str, str] = {}
    for number, chosen in enumerate(scales):
        stage = f"stage{number}"
        choices |= {f"{stage}/{scale}": "none" for scale in ("full", "half", "quarter")}
        choices |= {f"{stage}/{chosen}": "blocks", f"{stage}/{chosen}/kind": "residual"}
        choices |= {f"{stage}/{chosen}/residual/expansion": "same"}
        choices |= {f"{stage}/{chosen}/residual/same/second": "block", f"{stage}/gate": "skip_connect"}
    return choices


def drawn(number: int, macs: float = math.inf) -> Iterator[tuple[str, manas.Genotype]]:
    """Those of so many random architectures of the space that cost at most so many multiply-accumulates."""
    space = manas.load_space(SPACE)
    table = cost_table(space, "macs", (3, *SIZE))
    architectures = Architectures(space, table, None)
    for place in range(number):
        choices = architectures.sample(random.Random(place))
        if table.exact(choices) <= macs:
            yield f"random{place:03d}", manas.Genotype(space=space, choices=choices)


class Bench:
    """The scenes in two parts, and the folder that keeps all trainings."""

    def __init__(self, arguments: argparse.Namespace):
        self.runs, self.core, self.quick = arguments.runs, arguments.core, arguments.quick
        self.so_far = arguments.so_far
        self.train, self.report = parted(arguments.pairs, self.runs / "data")
        compared, rows = dict(known()), dict(drawn(arguments.architectures, arguments.gmacs * 1e9))
        self.rows = compared | rows
        repeated = [name for place, name in enumerate(self.rows) if name in compared or place % EVERY == 0]
        # The first seed of all comes first, so that what is made so far tells the most.
        self.trainings = [(name, SEEDS[0]) for name in self.rows]
        self.trainings += [(name, seed) for name in repeated for seed in SEEDS[1:]]

    def make(self, part: int, parts: int) -> None:
        """Trains every training whose number is `part` modulo `parts`."""
        for name, seed in self.trainings[part::parts]:
            found = self.trained(name, seed)
            scores = ", ".join(f"{level} {psnr:.2f}" for level, psnr in found["psnr"].items())
            print(f"{name}, seed {seed}: {scores}, {found['seconds']:.0f} s", flush=True)

    def trained(self, name: str, seed: int) -> dict[str, Any]:
        """The result of one training."""
        folder = self.runs / name
        folder.mkdir(parents=True, exist_ok=True)
        genotype = self.rows[name].write(folder / "genotype.json")
        config = training(folder / f"seed{seed}", genotype, self.train, seed=seed, quick=self.quick)
        return trained_alone(config, folder / f"seed{seed}.json", report=self.report, core=self.core)

    def table(self) -> dict[str, Any]:
        """All rows: choices, costs and the scores by seed."""
        rows: dict[str, dict[str, Any]] = {}
        for name, seed in self.trainings:
            if self.so_far and not (self.runs / name / f"seed{seed}.json").is_file():
                continue
            found = self.trained(name, seed)
            row = rows.setdefault(name, self.described(name))
            row["seeds"][str(seed)] = {key: found[key] for key in KEPT}
        return {"space": SPACE, "steps": EPOCHS * STEPS, "size": SIZE, "rows": rows}

    def described(self, name: str) -> dict[str, Any]:
        """A row without its scores."""
        genotype = self.rows[name]
        network = genotype.network()
        costs: Mapping[str, float] = {
            "parameters": measure(network, "parameters"),
            "macs": measure(network, "macs", (3, *SIZE)),
        }
        return {"choices": genotype.choices, **costs, "seeds": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/tabular"))
    parser.add_argument("--architectures", type=int, default=128)
    parser.add_argument("--gmacs", type=float, default=math.inf, help="the most, for an image of 480x320")
    parser.add_argument("--part", help="K/N: make every N-th training from the K-th on, and no table")
    parser.add_argument("--so-far", action="store_true", help="write the table of what has been trained")
    parser.add_argument("--core", type=int, default=0, help="the processor core to stay on")
    parser.add_argument("--quick", action="store_true", help="four steps a training")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    if arguments.part:
        bench.make(*(int(number) for number in arguments.part.split("/")))
        return
    if not arguments.so_far:
        bench.make(0, 1)
    with replacing(arguments.runs / "table.json") as temporary:
        temporary.write_text(json.dumps(bench.table(), indent=1))


if __name__ == "__main__":
    main()
