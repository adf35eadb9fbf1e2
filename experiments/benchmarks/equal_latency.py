"""Networks as fast as each other, trained alike: searched, drawn at random, plain, and made by hand.

    python experiments/benchmarks/equal_latency.py PAIRS [--seeds 0 1 2 3 4] [--only ROW ...] [--times 5]

PAIRS is a set of rainy pairs with the levels light and heavy; snow falls on the same scenes, generated once.
Each seed reports on ten scenes of its own, a fold, which neither its searches nor its trainings see.
Restoration is blind: one network for both rains and the snow. All are trained by `manas.retrain` with its
defaults for 480 steps in bf16, as the rows of `tabular.py` are.

The budgets are the latencies of *plain* with 4, 8 and 12 blocks, measured here, in turns, for an image of
480x320 on one thread, as are those of all candidates, once. *searched* is one search by a surrogate for all
budgets (`front`), *random* are two architectures of the same space that use at least 85 percent of a budget.
*attention*, a chain of residual blocks with channel attention (RCAN, Zhang et al., ECCV 2018) as long as a
budget allows, and the *U-Net* are of its kind, the shortest chain a point of it. *MANAS* is the published cell
by hand: parallel columns with channel attention. All are trained for as many steps, *plain* and *attention*
once more for as many seconds as the searched network of their seed and budget (*as long*). With --times, all
are trained for so many times the 480 steps, beside the shorter trainings.

Searches and trainings are processes of their own on one core, and are kept; what has ended is not repeated, and
calls may share the folder of runs, each with some of the seeds. What there is of all seeds is printed as a
table, with the latencies of all networks measured anew, in turns, and drawn in front.svg.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from alone import searched_alone, trained_alone
from folds import parted
from front_picture import front
from scipy.stats import t
from tabular import QUICK, SIZE, UNET, of_residual_blocks, training

import manas
from manas.cost.architectures import Architectures
from manas.cost.budget import BudgetConfig
from manas.cost.counting import measure
from manas.cost.latency import latencies_in, latency_table
from manas.cost.table import CostTable
from manas.data.images import write_image
from manas.data.photographs import photographs_in
from manas.device import place
from manas.errors import ManasError
from manas.evaluation.protocols import protocol_named
from manas.evaluation.scenes import generated_scenes, scenes_of_pairs
from manas.files import replacing
from search_spaces.frontier import Frontier
from search_spaces.plain import Plain

BUDGETS = {"small": 4, "middle": 8, "large": 12}  # blocks of the plain networks whose latencies they are
SPACE = Frontier(stages=12, optional=True)
LONGER = {"plain, as long": "plain", "attention, as long": "attention"}  # the same networks
ROWS = ("plain", "searched", "random", "attention", *LONGER, "U-Net", "MANAS")
SEARCH = {"epochs": 36, "steps": 160, "precision": "bf16", "alpha_share": 0.3, "method": "surrogate"}
SEARCH_DATA = {"versions": 3, "batch": 5, "validation_images": 15, "validation_patch": 320}
LEVELS = ("light", "heavy", "snow")
SPEND = 0.85  # of its budget that a random architecture uses at least
DRAWS = 2
ROUNDS = 7
TASK = "restore"


class Bench:
    """The scenes of each seed, the budgets, and the folder that keeps all runs."""

    def __init__(self, arguments: argparse.Namespace):
        self.runs, self.core, self.quick = arguments.runs, arguments.core, arguments.quick
        self.pairs, self.only, self.within = arguments.pairs, arguments.only, (*arguments.budgets, "")
        self.times = arguments.times
        self.trainings = self.runs / f"times{self.times}" if self.times > 1 else self.runs
        self.budgets = self._budgets()
        self.latencies = self.runs / "latencies.json"
        if not self.latencies.is_file():
            table = latency_table(SPACE, (3, *SIZE), torch.device("cpu"))
            with replacing(self.latencies) as temporary:
                temporary.write_text(table.to_json())
        self.table = latencies_in(self.latencies, SPACE, (3, *SIZE)).with_nodes_of(SPACE.forks())

    def _budgets(self) -> dict[str, float]:
        """The seconds of the plain networks, measured by the first call."""
        file = self.runs / "budgets.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(latencies([plain(blocks) for blocks in BUDGETS.values()])))
        return dict(zip(BUDGETS, json.loads(file.read_text()), strict=True))

    def scenes(self, seed: int) -> tuple[Path, Path]:
        """Two folders of clean/ and three levels: the scenes to train on, and those of the seed's fold."""
        folders = parted(self.pairs, self.runs / "data" / f"seed{seed}", seed)
        for folder in folders:
            (folder / "snow").mkdir(exist_ok=True)
            done = {path.stem for path in (folder / "snow").iterdir()}
            missing = {name: at for name, at in photographs_in(folder / "clean").items() if name not in done}
            for scene in generated_scenes(missing, "snow", levels=("medium",)):
                write_image(folder / "snow" / f"{scene.name}.png", scene.degraded)
        return folders

    def networks(self, seed: int) -> Iterator[tuple[str, str, manas.Genotype]]:
        """Row, budget and genotype of each network of a seed."""
        for genotype, (budget, seconds) in zip(self.searched(seed), self.budgets.items(), strict=True):
            by_hand = {"plain": plain(BUDGETS[budget]), "attention": longest_attention(self.table, seconds)}
            yield "plain", budget, by_hand["plain"]
            yield "searched", budget, genotype
            within = Architectures(SPACE, self.table, BudgetConfig(latency=seconds, size=SIZE, spend=SPEND))
            for draw in range(DRAWS):
                choices = within.sample(random.Random(f"{seed}/{budget}/{draw}"))
                yield "random", budget, manas.Genotype(space=SPACE, choices=choices)
            yield "attention", budget, by_hand["attention"]
            for row, repeated in LONGER.items():
                yield row, budget, by_hand[repeated]
        yield "U-Net", "", manas.Genotype(space=manas.load_space("frontier"), choices=of_residual_blocks(UNET))
        yield "MANAS", "", manas_by_hand()

    def searched(self, seed: int) -> list[manas.Genotype]:
        """The genotypes that a search finds, from the smallest budget on."""
        run = self.runs / "searches" / f"seed{seed}"
        config = SEARCH | {"run": str(run), "seed": seed, "space": SPACE.model_dump(mode="json")}
        config["data"] = SEARCH_DATA | {"sources": [{"task": TASK, "pairs": str(self.scenes(seed)[0])}]}
        config["front"] = {"latency": list(self.budgets.values()), "size": SIZE, "table": str(self.latencies)}
        if self.quick:
            config |= {"epochs": 4, "steps": 2, "data": config["data"] | QUICK | {"validation_patch": 64}}
        found = manas.Genotype.read(searched_alone(config, core=self.core))
        front = found.provenance["front"]
        files = [run / "genotypes" / f"{each['genotype']}.json" for each in front]
        return [manas.Genotype.read(file) for file in files]

    def results(self, seed: int, *, make: bool) -> Iterator[dict[str, Any]]:
        """The result of each network of a seed; unless `make`, of those that have one."""
        if not make and not (self.runs / "searches" / f"seed{seed}" / "genotype.json").is_file():
            return
        train, report = self.scenes(seed)
        numbers: dict[tuple[str, str], int] = {}
        for row, budget, genotype in self.networks(seed):
            number = numbers[row, budget] = numbers.get((row, budget), -1) + 1
            run = self.trainings / row / f"{budget or 'own'}{number}" / f"seed{seed}"
            result = run.with_suffix(".json")
            if not result.is_file() and not (make and row in self.only and budget in self.within):
                continue
            run.parent.mkdir(parents=True, exist_ok=True)
            file = run.parent / f"genotype{seed}.json"
            if result.is_file():
                genotype = manas.Genotype.read(file)  # as it was trained
            else:
                genotype.write(file)
            config = training(run, file, train, seed=seed, quick=self.quick)
            config["genotype"] = {TASK: str(file)}
            config["data"]["sources"][0]["task"] = TASK
            config["steps"] *= self.times
            if row in LONGER:
                config["steps"] = max(1, round(config["steps"] * self._longer(LONGER[row], budget, seed)))
            found = trained_alone(config, result, report=report, core=self.core)
            if make:
                scores = ", ".join(f"{level} {psnr:.2f}" for level, psnr in found["psnr"].items())
                print(f"{row} {budget}, seed {seed}: {scores}, {found['seconds']:.0f} s", flush=True)
            yield found | {"row": row, "budget": budget, "seed": seed, "genotype": genotype}

    def _longer(self, row: str, budget: str, seed: int) -> float:
        """The CPU seconds of the training of the searched network over those of a row of as many steps."""
        files = [self.trainings / each / f"{budget}0" / f"seed{seed}.json" for each in ("searched", row)]
        for file in files:
            if not file.is_file():
                raise ManasError(f"{file} is missing, whose seconds are needed; make searched and {row} first")
        searched, own = (json.loads(file.read_text())["seconds"] for file in files)
        return searched / own


def plain(blocks: int) -> manas.Genotype:
    return manas.Genotype.sample(Plain(blocks=blocks), 0)


def longest_attention(table: CostTable, seconds: float) -> manas.Genotype:
    """The longest chain of residual blocks with channel attention within a latency, by the costs of a stage."""

    def chain(stages: int) -> dict[str, str]:
        return SPACE.model_copy(update={"stages": stages}).by_hand()["RCAN"]

    dearest = table.exact(chain(SPACE.stages))
    stage = (dearest - table.fixed) / SPACE.stages
    stages = max(1, int((seconds - table.fixed) / stage))
    return manas.Genotype(space=SPACE.model_copy(update={"stages": stages}), choices=chain(stages))


def manas_by_hand() -> manas.Genotype:
    """`manas_small` with parallel columns and channel attention at every gate."""
    space = manas.load_space("manas_small")
    wanted = ("parallel", "channel_attention")
    choices = {label: next(n for n in wanted if n in names) for label, names in space.choices().items()}
    return manas.Genotype(space=space, choices=choices)


@torch.inference_mode()
def latencies(genotypes: Sequence[manas.Genotype]) -> list[float]:
    """The seconds of each network for an image, medians of rounds in which all take turns, on one thread."""
    networks = [place(each.network(), torch.device("cpu")).eval() for each in genotypes]
    image = torch.rand(1, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(ROUNDS):
        for network, each in zip(networks, times, strict=True):
            start = time.perf_counter()
            network(image)
            each.append(time.perf_counter() - start)
    return [median(each[1:]) for each in times]


def interval(differences: Sequence[float]) -> str:
    """The mean of paired differences with its 95 percent interval by Student's t."""
    count, centre = len(differences), mean(differences)
    if count < 2:
        return f"{centre:+.2f}"
    deviation = (sum((each - centre) ** 2 for each in differences) / (count - 1)) ** 0.5
    half = t.ppf(0.975, count - 1) * deviation / count**0.5
    return f"{centre:+.2f} [{centre - half:+.2f}, {centre + half:+.2f}]"


def rain_and_snow(result: dict[str, Any]) -> tuple[float, float]:
    """The mean of light and heavy rain, and snow, in dB."""
    return mean(result["psnr"][level] for level in LEVELS[:2]), result["psnr"][LEVELS[2]]


def untouched(report: Path) -> dict[str, float]:
    """Level -> the mean PSNR of the degraded images."""
    scores: dict[str, list[float]] = {level: [] for level in LEVELS}
    for scene in scenes_of_pairs(report):
        scores[scene.level].append(protocol_named("derain").measure(scene.degraded, scene.clean)["psnr"])
    return {level: mean(each) for level, each in scores.items()}


def print_table(bench: Bench, results: list[dict[str, Any]]) -> None:
    """Costs and scores of each row at each budget, and what the search is ahead of it by, paired by seed."""
    seconds = latencies([each["genotype"] for each in results])
    for each, latency in zip(results, seconds, strict=True):
        each["latency"] = latency
        each["macs"] = measure(each["genotype"].network(), "macs", (3, *SIZE))
    keys = dict.fromkeys((each["budget"], each["row"]) for each in results)
    print(
        "\n| budget | row | networks | ms | GMAC | steps | seconds | light | heavy | snow "
        "| rain: searched ahead | snow: ahead |"
    )
    print(f"{'|---' * 12}|")
    inputs = [untouched(bench.scenes(seed)[1]) for seed in sorted({each["seed"] for each in results})]
    means = " | ".join(f"{mean(each[level] for each in inputs):.2f}" for level in LEVELS)
    print(f"|  | input |  |  |  |  |  | {means} |  |  |")
    for budget, row in sorted(keys, key=lambda key: [*BUDGETS, ""].index(key[0])):
        of = [each for each in results if (each["budget"], each["row"]) == (budget, row)]
        by_level = [f"{mean(each['psnr'][level] for each in of):.2f}" for level in LEVELS]
        cells = [budget, row, str(len(of)), f"{mean(each['latency'] for each in of) * 1e3:.0f}"]
        cells += [f"{mean(each['macs'] for each in of) / 1e9:.1f}"]
        cells += [f"{mean(each[name] for each in of):.0f}" for name in ("steps", "seconds")]
        cells += [*by_level, *ahead(results, of, budget)]
        print(f"| {' | '.join(cells)} |")
    rain, snow = (lambda result: rain_and_snow(result)[0]), (lambda result: rain_and_snow(result)[1])
    with replacing(bench.trainings / "front.svg") as temporary:
        temporary.write_text(front(results, {"Rain (light and heavy), dB": rain, "Snow, dB": snow}))


def ahead(results: list[dict[str, Any]], of: list[dict[str, Any]], budget: str) -> list[str]:
    """By how much the searched networks of a budget are ahead of a row, in rain and in snow."""
    found = {r["seed"]: rain_and_snow(r) for r in results if (r["row"], r["budget"]) == ("searched", budget)}
    seeds = sorted(found.keys() & {each["seed"] for each in of})
    if not seeds or of[0]["row"] == "searched":
        return ["", ""]
    rival = {
        s: [mean(x) for x in zip(*(rain_and_snow(r) for r in of if r["seed"] == s), strict=True)] for s in seeds
    }
    return [interval([found[seed][part] - rival[seed][part] for seed in seeds]) for part in (0, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/equal_latency"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="the seeds to make")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS), help="to train within")
    parser.add_argument("--times", type=int, default=1, help="train for so many times the 480 steps")
    parser.add_argument("--core", type=int, default=0, help="the processor core to stay on")
    parser.add_argument("--quick", action="store_true", help="two steps a training, to show that all works")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    for seed in arguments.seeds:
        list(bench.results(seed, make=True))
    print_table(bench, [each for seed in range(5) for each in bench.results(seed, make=False)])


if __name__ == "__main__":
    main()
