"""Does a search beat chance? Searches of `frontier` within a budget, against the table of random architectures.

    python experiments/benchmarks/search_on_table.py PAIRS [--gmacs 3.5] [--seeds 5] [--only METHOD ...]

PAIRS and the folder of runs are those of `tabular.py`, whose scenes and trainings are the same here: what a
search finds is trained as the rows of its table are, and scored on the same ten scenes, which no search sees.
Searches take the other scenes, as the trainings do. Each has about the compute of ten trainings of the table,
counted in multiply-accumulates.

Each search and each training is a process of its own on one core, and is kept; what has ended is not repeated.
With table.json in the folder of runs, everything is compared with the random architectures of the budget: all
of them are chance, and the best by validation of as many as a search costs is random search with equal compute.
"""

import argparse
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from alone import searched_alone, trained_alone
from folds import parted
from tabular import EPOCHS, QUICK, SIZE, SPACE, STEPS, training
from tabular_findings import Row, rows_of

import manas
from manas.training.config import RetrainConfig

GRADIENT = {"method": "gradient", "epochs": 10, "steps": 5}
METHODS: dict[str, dict[str, Any]] = {
    "surrogate": {"method": "surrogate"},
    "evolution": {"method": {"kind": "evolution", "evaluations": 300}, "epochs": 12, "steps": 160},
    "evolution, one path a step": {
        "method": {"kind": "evolution", "evaluations": 300, "paths": 1},
        "epochs": 12,
        "steps": 160,
    },
    # A step of the whole supernet costs nearly thirty of a path.
    "gradient, gumbel": GRADIENT | {"relaxation": "gumbel"},
    "gradient, softmax": GRADIENT,
    # The losses of MANAS: without each. Its complexity loss gives way to the budget.
    "gradient, no internal loss": GRADIENT | {"loss": {"mse": 0, "l1": 1, "ssim": 0.2, "tv": 0, "internal": 0}},
    "gradient, no architecture loss": GRADIENT | {"architecture": 0},
}
BASE = {"space": SPACE, "precision": "bf16", "alpha_share": 0.3}
DATA = {"versions": 2, "batch": 8, "validation_images": 13, "validation_patch": 256}
CROPS = RetrainConfig.model_fields["data"].default  # of the trainings of the table, which take the defaults
PLAYS = RESAMPLES = 10_000
BACKWARD = 3  # a step costs as much as so many forward passes


def searched(arguments: argparse.Namespace, method: str, seed: int, train: Path, run: Path) -> manas.Genotype:
    """The genotype of a search."""
    config = BASE | METHODS[method] | {"run": str(run), "seed": seed}
    config["data"] = DATA | {"sources": [{"task": "derain", "pairs": str(train)}]}
    config["budget"] = {"macs": arguments.gmacs * 1e9, "size": SIZE, "spend": 0.0}
    if arguments.quick:
        config |= {"epochs": 3, "steps": 2, "data": config["data"] | QUICK | {"validation_patch": 64}}
    return manas.Genotype.read(searched_alone(config, core=arguments.core))


def found(arguments: argparse.Namespace, method: str) -> Iterator[tuple[float, float]]:
    """Quality and compute of what each seed of a method finds."""
    train, report = parted(arguments.pairs, arguments.runs / "data")
    for seed in range(arguments.seeds):
        folder = arguments.runs / f"{method} {arguments.gmacs:g}"
        genotype = searched(arguments, method, seed, train, folder / f"search{seed}")
        file = folder / f"search{seed}" / "genotype.json"
        config = training(folder / f"seed{seed}", file, train, seed=0, quick=arguments.quick)
        scores = trained_alone(config, folder / f"seed{seed}.json", report=report, core=arguments.core)["psnr"]
        compute = genotype.provenance["compute"]
        shown = ", ".join(f"{level} {psnr:.2f}" for level, psnr in scores.items())
        print(f"{method}, seed {seed}: {shown}, {compute / 1e12:.1f} TMAC", flush=True)
        yield mean(scores.values()), compute


def affordable(compute: float, rows: list[Row]) -> int:
    """How many trainings of the table cost at least as much as a search, in multiply-accumulates."""
    images = EPOCHS * STEPS * CROPS.batch * CROPS.versions * CROPS.patch**2 / (SIZE[0] * SIZE[1])
    return math.ceil(compute / (BACKWARD * images * mean(row.features["MACs"] for row in rows)))


def random_search(rows: list[Row], trainings: int) -> np.ndarray:
    """(PLAYS,) the quality of the best by validation of so many random architectures."""
    rng = random.Random(0)
    played = [max(rng.sample(rows, trainings), key=lambda row: row.validation[-1]) for _ in range(PLAYS)]
    return np.array([row.quality for row in played])


def compared(qualities: list[float], rows: list[Row], trainings: int) -> str:
    """Percentile among chance, lead over chance and over random search with its 95 percent interval."""
    chance = np.sort([row.quality for row in rows])
    percentiles = np.searchsorted(chance, qualities) / len(chance)
    baseline, rng = random_search(rows, trainings), np.random.default_rng(0)
    means = rng.choice(qualities, (RESAMPLES, len(qualities))).mean(1)
    # As many plays of random search as there are seeds, so that both sides have the luck of so few.
    leads = means - rng.choice(baseline, (RESAMPLES, len(qualities))).mean(1)
    low, high = np.quantile(leads, [0.025, 0.975])
    top = int((percentiles >= 0.95).sum())
    spread = stdev(qualities) if len(qualities) > 1 else 0.0
    return (
        f"{mean(qualities):.2f} ± {spread:.2f} | {percentiles.min():.0%} | {top} of {len(qualities)} | "
        f"{mean(qualities) - chance.mean():+.2f} | {trainings} | {mean(qualities) - baseline.mean():+.2f} "
        f"[{low:+.2f}, {high:+.2f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/tabular"))
    parser.add_argument("--gmacs", type=float, default=3.5, help="billions of MACs for an image of 480x320")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--core", type=int, default=0, help="the processor core to stay on")
    parser.add_argument("--quick", action="store_true", help="two steps a training, to show that all works")
    arguments = parser.parse_args()
    results = {method: list(found(arguments, method)) for method in arguments.only}
    table = arguments.runs / "table.json"
    if not table.is_file():
        return
    drawn = [row for row in rows_of(json.loads(table.read_text())) if row.name.startswith("random")]
    # By their first seeds alone: what was found has no other, and seeds learn from other scenes.
    drawn = [row._replace(psnr=row.psnr[:1]) for row in drawn]
    rows = [row for row in drawn if row.features["MACs"] <= arguments.gmacs * 1e9]
    print(f"\n{len(rows)} random architectures of at most {arguments.gmacs:g} GMAC\n")
    print("| method | PSNR | worst percentile | best 5 % | over chance | trainings | over their best |")
    print("|---|---|---|---|---|---|---|")
    for method, each in results.items():
        qualities, computes = zip(*each, strict=True)
        print(f"| {method} | {compared(list(qualities), rows, affordable(mean(computes), rows))} |")


if __name__ == "__main__":
    main()
