"""The worth of each part of the recipe of training: one change a row, the same CPU seconds for all.

    python experiments/benchmarks/recipe.py PAIRS [--seconds 60] [--seeds 3] [--only ROW ...] [--quick]

PAIRS is a set of rainy pairs with the levels light and heavy; every sixth scene, the first ten of them, is
reported on and seen by no training. A row is `manas.retrain` with its defaults, the pairs and one change, of a
random architecture of `manas_small` (another for each seed) or of `plain`. The number of steps that fit into
the seconds is measured first, with loading and validation and without the start of the program. A change that
does not change the time of a step, such as of the rate, has as many steps as the row without it.

Each training is a process of its own on one core, and is kept in the folder of runs; a training that has ended
is not repeated. Several calls may share the folder, each for some of the rows. --quick shows that everything
works.
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from alone import trained_alone
from folds import parted

SMALL, PLAIN = "manas_small", "plain"
LEVELS = ("light", "heavy")
EPOCHS = 4
CALIBRATION = (20, 80)  # steps of the two trainings from whose difference the seconds of a step are taken

MANAS_LOSS = {"mse": 1, "l1": 0, "ssim": 1, "tv": 1e-4, "internal": 0}
SLOWING = {"space", "data", "loss", "precision"}  # changes of these change the time of a step
LATE = {"drops": [0.8], "drop": 0.2}  # a constant rate with a drop before the last fifth
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (PLAIN, {}),
    "plain, normalised by batch": (PLAIN, {"space": {"norm": "batch"}}),
    "manas_small": (SMALL, {}),
    "batch 8": (SMALL, {"data": {"batch": 8}}),
    "batch 32": (SMALL, {"data": {"batch": 32}}),
    "8 backgrounds x 2 versions": (SMALL, {"data": {"batch": 8, "versions": 2}}),
    "8 x 2, internal loss": (SMALL, {"data": {"batch": 8, "versions": 2}, "loss": {"internal": 1}}),
    "patch 48": (SMALL, {"data": {"patch": 48}}),
    "patch 96": (SMALL, {"data": {"patch": 96}}),
    "turned eightfold": (SMALL, {"augment": "eightfold"}),
    "not augmented": (SMALL, {"augment": "none"}),
    "loss L1 alone": (SMALL, {"loss": {"ssim": 0}}),
    "plain, loss L1 alone": (PLAIN, {"loss": {"ssim": 0}}),
    "loss of MANAS": (SMALL, {"loss": MANAS_LOSS}),
    "Adam (0.9, 0.999)": (SMALL, {"optimiser": {"name": "adam", "betas": [0.9, 0.999], "decay": 0}}),
    "rate 1e-3": (SMALL, {"optimiser": {"rate": 1e-3}}),
    "rate 4e-3": (SMALL, {"optimiser": {"rate": 4e-3}}),
    "plain, rate 1e-3": (PLAIN, {"optimiser": {"rate": 1e-3}}),
    "plain, rate 4e-3": (PLAIN, {"optimiser": {"rate": 4e-3}}),
    "no clipping": (SMALL, {"optimiser": {"clip": None}}),
    "constant rate": (SMALL, {"schedule": {"drops": []}}),
    "a late drop": (SMALL, {"schedule": LATE}),
    "plain, constant rate": (PLAIN, {"schedule": {"drops": []}}),
    "plain, a late drop": (PLAIN, {"schedule": LATE}),
    "warm-up of a tenth": (SMALL, {"schedule": {"warmup": 0.1}}),
    "plain, warm-up of a tenth": (PLAIN, {"schedule": {"warmup": 0.1}}),
    "no average": (SMALL, {"average": 0}),
    "average 0.999": (SMALL, {"average": 0.999}),
    "norm batch, statistics estimated": (SMALL, {"space": {"norm": "batch"}}),
    "norm batch, statistics running": (SMALL, {"space": {"norm": "batch"}, "statistics": "running"}),
    "norm none": (SMALL, {"space": {"norm": "none"}}),
    "norm layer": (SMALL, {"space": {"norm": "layer"}}),
    "float32": (SMALL, {"precision": "float32"}),
    "plain, float32": (PLAIN, {"precision": "float32"}),
}


def configuration(name: str, seed: int, train: Path, run: Path, steps: int, epochs: int = EPOCHS) -> dict:
    """The configuration of `manas.retrain` for a row; `space` and `augment` change network and source."""
    import manas

    preset, change = ROWS[name]
    change = dict(change)
    space = manas.load_space(preset)
    space = space.model_copy(update=change.pop("space", {}))
    genotype = manas.Genotype.sample(space, seed).write(run.parent / f"{run.name}.json")
    source = {"task": "derain", "pairs": str(train), "augment": change.pop("augment", "mirror")}
    data = {"sources": [source], **change.pop("data", {})}
    common = {"run": str(run), "seed": seed, "precision": "bf16", "epochs": epochs, "steps": steps}
    return {**common, "genotype": {"derain": str(genotype)}, "data": data, **change}


class Bench:
    """The scenes in two parts, the budget, and the folder that keeps all trainings."""

    def __init__(self, arguments: argparse.Namespace):
        self.runs, self.seconds, self.core = arguments.runs, arguments.seconds, arguments.core
        self.quick = arguments.quick
        self.train, self.report = parted(arguments.pairs, self.runs / "data")

    def result(self, name: str, seed: int) -> dict[str, Any]:
        """The result of one training, which is run unless its result is there already."""
        steps = max(1, round(self.steps(name) / EPOCHS))
        return self._train(name, f"seed{seed}", seed, steps, EPOCHS, report=True)

    def steps(self, name: str) -> int:
        """The number of steps of a row that fit into the seconds, beside the fixed time of a training."""
        if self.quick:
            return EPOCHS
        preset, change = ROWS[name]
        if not SLOWING & change.keys():  # timed twice, the same step would differ by the noise of the timings
            name = preset
        few, many = (self._train(name, f"steps{n}", 0, n, 1, report=False) for n in CALIBRATION)
        each = (many["seconds"] - few["seconds"]) / (CALIBRATION[1] - CALIBRATION[0])
        once = max(0.0, few["seconds"] - CALIBRATION[0] * each)
        return int((self.seconds - once) / each)

    def _train(
        self, name: str, run: str, seed: int, steps: int, epochs: int, *, report: bool
    ) -> dict[str, Any]:
        folder = self.runs / "".join(c if c.isalnum() else "_" for c in name)
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(name, seed, self.train, folder / run, steps, epochs)
        if self.quick:
            config["data"] |= {"validation_images": 1, "batch": 2}
        where = self.report if report else None
        return trained_alone(config, folder / f"{run}.result.json", report=where, core=self.core)


def row(name: str, results: list[dict[str, Any]]) -> str:
    """One line of the table: means over seeds, with the lowest and the highest value."""
    cells = []
    for level in LEVELS:
        values = [result["psnr"][level] for result in results]
        cells.append(f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    steps, left = results[0]["steps"], sum(result["left_out"] for result in results)
    seconds = mean(result["seconds"] for result in results)
    return f"| {name} | {len(results)} | {seconds:.0f} | {steps} | {left:.0f} | {' | '.join(cells)} |"


def input_row(report: Path) -> str:
    import manas

    found = manas.evaluate(lambda image: image, report)
    levels = [f"{found.summary(group, level).degraded['psnr'].mean:.2f}" for group, level in found.levels]
    return f"| degraded input | | | | | {' | '.join(levels)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0, help="the processor core to stay on")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="four steps a row and one seed")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    print("| row | seeds | CPU s | steps | left out | light | heavy |\n|---|---|---|---|---|---|---|")
    print(input_row(bench.report), flush=True)
    for name in arguments.only or ROWS:
        seeds = range(1 if arguments.quick else arguments.seeds)
        print(row(name, [bench.result(name, seed) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
