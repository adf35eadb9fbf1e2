"""Every system on the same pictures with the same budget: one table.

    python experiments/benchmarks/systems.py experiments/configs/systems.yaml PAIRS [--runs runs/systems]

PAIRS is a set of rainy pairs with the levels light and heavy. Every seed reports on scenes of its own, a fold,
which no system of that seed has seen; every system is trained on the other scenes, with their rain and with
generated snow. Data, seed, patch, batch and, unless a row says otherwise, the number of images seen are the
same for all rows; the search of a searched tower comes in addition. Restoration is blind, except in a row whose
towers stand alone, which know whether it rains or snows.

Every search, training and evaluation is kept in the folder of runs: a complete one is not repeated, an
interrupted one goes on, and other settings are refused. Processes that share the folder may each make some of
the systems (--only); a call without it prints the table, and measures the time of an image for all systems in
turn.
"""

import argparse
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import yaml
from folds import cpu_seconds, parted

import manas
from manas.config import read_config
from manas.cost.counting import costs
from manas.data.images import read_image
from manas.data.photographs import photographs_in
from manas.errors import ManasError, nearest
from manas.evaluation.protocols import protocol_named
from manas.evaluation.scenes import generated_scenes, scenes_of_pairs
from manas.files import replacing
from manas.inference.restorer import Restorer
from manas.searching.config import SearchConfig
from manas.training.config import RetrainConfig

PROTOCOL = "derain"
HIGHEST_PSNR = 100.0  # the score of a clean picture that comes out unchanged
SIZE = (320, 480)
COLUMNS = ("rain light", "rain heavy", "snow", "clean")
ROUNDS = 5
FIRST = (0,)  # the seeds of a row that names none
KEYS = ("name", "towers", "joint", "random", "alone", "stitch", "stitches", "fusion", "retrain", "seeds")
TASKS = {"derain": "rain", "desnow": "snow"}


class Bench:
    """The configuration, the pairs, which each seed divides in its own way, and the folder of runs."""

    def __init__(self, config: dict[str, Any], pairs: Path, runs: Path):
        self.config, self.pairs, self.runs = config, pairs, runs

    def parted(self, seed: int) -> tuple[Path, Path]:
        """Two folders of clean/, light/ and heavy/: the scenes to train on, and those of the seed's fold."""
        return parted(self.pairs, self.runs / "data" / f"seed{seed}", seed, self.config["report"])

    def data(self, tasks: tuple[str, ...], towers: tuple[str, ...], seed: int) -> dict[str, Any]:
        """The data of the tasks; a single tower has the data of all tasks."""
        train, _ = self.parted(seed)
        sources = {
            "derain": {"pairs": str(train)},
            "desnow": {"weather": "snow", "photographs": str(train / "clean")},
        }
        own = dict(zip(tasks, towers if len(towers) == len(tasks) else towers * len(tasks), strict=True))
        return {**self.config["data"], "sources": [{"task": own[task], **sources[task]} for task in tasks]}

    def searched(self, name: str, space: Any, tasks: tuple[str, ...], seed: int) -> str:
        """The genotype file of a search; of a search that has ended, only the settings are compared."""
        run = self.runs / "searches" / name / f"seed{seed}"
        common = dict(self.config["search"])
        data = {**self.data(tasks, tasks, seed), **common.pop("data", {})}
        settings = {"run": str(run), "seed": seed, "space": space, "data": data}
        config = read_config(SearchConfig, {**common, **settings})
        manas.search(config, resume=(run / "config.yaml").is_file())
        return str(run / "genotype.json")

    def drawn(self, space: str, task: str, seed: int) -> str:
        """The file of a random genotype, another for each task and seed."""
        file = self.runs / "drawn" / f"{space}_{task}_seed{seed}.json"
        other = len(TASKS) * seed + list(TASKS).index(task)
        return str(manas.Genotype.sample(manas.load_space(space), other).write(file))

    def trained(
        self, system: dict[str, Any], genotype: Any, tasks: tuple[str, ...], run: Path, seed: int
    ) -> Path:
        """The model file of a training; of a training that has ended, only the settings are compared."""
        common = {**self.config["retrain"], **system.get("retrain", {})}
        if isinstance(genotype, dict):
            common |= {key: system[key] for key in ("stitch", "stitches", "fusion") if key in system}
        towers = tuple(genotype) if isinstance(genotype, dict) else tasks
        data = {**self.data(tasks, towers, seed), **common.pop("data", {})}
        settings = {"run": str(run), "seed": seed, "genotype": genotype, "data": data}
        if len(towers) == 1:
            settings |= {"stitch": "none", "fusion": "mean"}
        if system.get("alone"):  # all towers together see as many images as a network does
            common["steps"] //= len(system["towers"])
        config = read_config(RetrainConfig, {**common, **settings})
        start, cost = cpu_seconds(), run / "seconds.json"
        model = manas.retrain(config, resume=(run / "config.yaml").is_file())
        if not cost.is_file():
            cost.write_text(json.dumps(cpu_seconds() - start))
        return model

    def folder(self, system: dict[str, Any], seed: int) -> Path:
        return self.runs / re.sub(r"[^a-z0-9]+", "_", system["name"].lower()) / f"seed{seed}"

    def models(self, system: dict[str, Any], seed: int) -> dict[str, Path]:
        """The model files of a system by task; a blind system has one file for all tasks."""
        folder = self.folder(system, seed)
        tasks = tuple(TASKS)
        if "joint" in system:
            genotype: Any = self.searched(system["joint"], system["joint"], tasks, seed)
        else:
            tower = self.drawn if system.get("random") else self.tower
            genotype = {task: tower(space, task, seed) for task, space in system["towers"].items()}
        if not system.get("alone"):
            return dict.fromkeys(tasks, self.trained(system, genotype, tasks, folder, seed))
        return {
            task: self.trained(system, {task: path}, (task,), folder / task, seed)
            for task, path in genotype.items()
        }

    def tower(self, space: str, task: str, seed: int) -> str:
        if not manas.load_space(space).choices():
            return space
        return self.searched(f"{space}_{task}", space, (task,), seed)


def degraded(report: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """The column, the task, the degraded and the clean picture of everything that is reported on."""
    clean_files = photographs_in(report / "clean")
    for scene in scenes_of_pairs(report):
        yield f"rain {scene.level}", "derain", scene.degraded, scene.clean
    for scene in generated_scenes(clean_files, "snow"):
        yield "snow", "desnow", scene.degraded, scene.clean
    for path in clean_files.values():
        clean = read_image(path)
        yield "clean", "", clean, clean


def scored(report: Path, models: Mapping[str, Path]) -> dict[str, Any]:
    """The means of PSNR and SSIM by column, and the cost of a system; without models, of degraded pictures."""
    restorers = opened(models)
    blind = len(set(models.values())) == 1
    scores: dict[str, list[tuple[float, float]]] = {}
    for column, task, picture, clean in degraded(report):
        if not task and not blind:
            continue  # a system that is not blind needs a label, which a clean picture does not have
        restored = restorers[task or next(iter(restorers))](picture) if restorers else picture
        measured = protocol_named(PROTOCOL).measure(restored, clean)
        scores.setdefault(column, []).append((min(measured["psnr"], HIGHEST_PSNR), measured["ssim"]))
    networks = [restorer.network for restorer in restorers.values()][: 1 if blind else None]
    found = [costs(network, (3, *SIZE)) for network in networks]
    return {
        "scores": {name: [mean(values) for values in zip(*each, strict=True)] for name, each in scores.items()},
        "parameters": sum(cost["parameters"] for cost in found),
        "macs": max((cost["macs"] for cost in found), default=0),
        "seconds": sum(json.loads((path.parent / "seconds.json").read_text()) for path in {*models.values()}),
    }


def opened(models: Mapping[str, Path]) -> dict[str, Restorer]:
    return {task: Restorer.load(path, device="cpu") for task, path in models.items()}


def seconds(restorers: Mapping[str, Restorer]) -> dict[str, float]:
    """The seconds of an image of 480x320 by system: medians of rounds in which all systems take turns."""
    image = np.zeros((*SIZE, 3), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in restorers}
    for _ in range(ROUNDS):
        for name, restorer in restorers.items():
            start = time.perf_counter()
            restorer(image)
            times[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in times.items()}


def results_of(bench: Bench, systems: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The results of every system by seed, in the order of seeds, each printed as soon as it is there."""
    results: dict[str, list[dict[str, Any]]] = {system["name"]: [] for system in systems}
    for seed in sorted({seed for system in systems for seed in system.get("seeds", FIRST)}):
        for system in systems:
            if seed not in system.get("seeds", FIRST):
                continue
            models = bench.models(system, seed)
            file = bench.folder(system, seed) / "result.json"
            if not file.is_file():
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps(scored(bench.parted(seed)[1], models), indent=1))
            result = json.loads(file.read_text()) | {"models": models}
            results[system["name"]].append(result)
            print(f"{system['name']}, seed {seed}: {', '.join(cells([result]))}", flush=True)
    return results


def cells(results: list[dict[str, Any]]) -> list[str]:
    """The scores of a row: means over seeds, with the range of PSNR over several seeds."""
    texts = []
    for column in COLUMNS:
        values = [result["scores"][column] for result in results if column in result["scores"]]
        psnrs = [psnr for psnr, _ in values]
        span = f" ({min(psnrs):.2f} to {max(psnrs):.2f})" if len(psnrs) > 1 else ""
        texts.append(f"{mean(psnrs):.2f}{span} / {mean(ssim for _, ssim in values):.4f}" if values else "")
    return texts


def print_table(bench: Bench, results: dict[str, list[dict[str, Any]]], seeds: Collection[int]) -> None:
    first = {name: opened(each[0]["models"]) for name, each in results.items()}
    times = seconds({name: next(iter(restorers.values())) for name, restorers in first.items()})
    scenes = bench.config["report"]
    print(f"\nPSNR-Y in dB / SSIM-Y, protocol {PROTOCOL}; {scenes} scenes a seed, which no system of it saw;")
    print("clean: the output for a clean picture against that picture\n")
    costs_of_all = ["parameters", "GMACs at 480x320", "s an image", "CPU s of training"]
    headings = ["system", "seeds", *costs_of_all, *COLUMNS]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    inputs = [scored(bench.parted(seed)[1], {}) for seed in sorted(seeds)]
    print(f"| degraded input | {len(inputs)} | | | | | {' | '.join(cells(inputs))} |")
    for name, each in results.items():
        trained = mean(result["seconds"] for result in each)
        cost = f"{each[0]['parameters']:,} | {each[0]['macs'] / 1e9:.2f} | {times[name]:.2f} | {trained:.0f}"
        print(f"| {name} | {len(each)} | {cost} | {' | '.join(cells(each))} |")


def chosen(systems: list[dict[str, Any]], only: Collection[str] | None) -> list[dict[str, Any]]:
    for key in {key: None for system in systems for key in system}:
        if key not in KEYS:
            raise ManasError(f"systems: unknown key {key!r}; {nearest(key, KEYS)}")
    names = [system["name"] for system in systems]
    for name in only or ():
        if name not in names:
            raise ManasError(f"--only: no system is called {name!r}; {nearest(name, names)}")
    return [system for system in systems if only is None or system["name"] in only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="make these alone, and print no table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        bench = Bench(yaml.safe_load(arguments.config.read_text()), arguments.pairs, arguments.runs)
        systems = chosen(bench.config["systems"], arguments.only)
        results = results_of(bench, systems)
        if arguments.only is None:
            print_table(bench, results, {seed for system in systems for seed in system.get("seeds", FIRST)})
    except ManasError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
