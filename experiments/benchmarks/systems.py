"""Every system on the same pictures with the same budget: one table.

    python experiments/benchmarks/systems.py experiments/configs/systems.yaml PAIRS [--runs runs/systems]

PAIRS is a set of rainy pairs with the levels light and heavy. Its scenes are parted once: some are reported on
and seen by no system; on the others every system is trained, with their rain and with generated snow. Data,
seed, patch, batch and the number of images seen are the same for all rows; the search of a searched tower comes
on top. Restoration is blind, but for a row whose towers stand alone: these are told whether it rains or snows.

Every search, training and evaluation is kept in the folder of runs: what has ended is not repeated, and what
was interrupted goes on.
"""

import argparse
import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import yaml

import manas
from manas.architecture.cost import costs
from manas.config import read_config
from manas.data.archives import read_archive
from manas.data.images import read_image
from manas.data.photographs import photographs_in
from manas.evaluation.protocols import protocol_named
from manas.evaluation.scenes import generated_scenes, scenes_of_pairs
from manas.inference.restore import Restorer
from manas.searching.config import SearchConfig
from manas.training.retrain import RetrainConfig

PROTOCOL = "derain"
HIGHEST_PSNR = 100.0  # of a clean picture that nothing was done to
SIZE = (320, 480)
COLUMNS = ("rain light", "rain heavy", "snow", "clean")
FIRST = (0,)  # the seeds of a row that names none
TASKS = {"derain": "rain", "desnow": "snow"}


class Bench:
    """The configuration, the parted data and the folder of runs."""

    def __init__(self, config: dict[str, Any], pairs: Path, runs: Path):
        self.config, self.runs = config, runs
        self.train, self.report = (self.parted(pairs, part) for part in ("train", "report"))

    def parted(self, pairs: Path, part: str) -> Path:
        """A folder of clean/, light/ and heavy/ with the scenes of one part; files are links or copies."""
        folder = self.runs / "data" / part
        scenes = list(read_archive(pairs, levels=("light", "heavy")).scenes)
        random.Random(0).shuffle(scenes)
        reported = self.config["report"]
        for scene in scenes[:reported] if part == "report" else scenes[reported:]:
            for level, picture in {"clean": scene.clean, **scene.degraded}.items():
                target = folder / level / f"{scene.name}{picture.path.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    link_or_copy(picture.path, target)
        return folder

    def data(self, tasks: tuple[str, ...], towers: tuple[str, ...]) -> dict[str, Any]:
        """The images of the tasks; where there is one tower, all are its own."""
        sources = {
            "derain": {"pairs": str(self.train)},
            "desnow": {"weather": "snow", "photographs": str(self.train / "clean")},
        }
        own = dict(zip(tasks, towers if len(towers) == len(tasks) else towers * len(tasks), strict=True))
        return {**self.config["data"], "sources": [{"task": own[task], **sources[task]} for task in tasks]}

    def searched(self, name: str, space: Any, tasks: tuple[str, ...], seed: int) -> str:
        """The genotype file of a search, which is run if it has not ended."""
        run = self.runs / "searches" / name / f"seed{seed}"
        if not (run / "genotype.json").is_file():
            settings = {"run": str(run), "seed": seed, "space": space, "data": self.data(tasks, tasks)}
            config = read_config(SearchConfig, {**self.config["search"], **settings})
            manas.search(config, resume=(run / "config.yaml").is_file())
        return str(run / "genotype.json")

    def trained(
        self, system: dict[str, Any], genotype: Any, tasks: tuple[str, ...], run: Path, seed: int
    ) -> Path:
        """The model file of a training, which is run if it has not ended."""
        if not (run / "report.html").is_file():  # written last
            common = {**self.config["retrain"], **system.get("retrain", {})}
            if isinstance(genotype, dict):
                common |= {key: system[key] for key in ("stitch", "stitches", "fusion") if key in system}
            towers = tuple(genotype) if isinstance(genotype, dict) else tasks
            data = {**self.data(tasks, towers), **common.pop("data", {})}
            settings = {"run": str(run), "seed": seed, "genotype": genotype, "data": data}
            if len(towers) == 1:
                settings |= {"stitch": "none", "fusion": "mean"}
            if system.get("alone"):  # all towers together see as many images as a network does
                common["steps"] //= len(system["towers"])
            manas.retrain(
                read_config(RetrainConfig, {**common, **settings}), resume=(run / "config.yaml").is_file()
            )
        return run / "model.safetensors"

    def models(self, system: dict[str, Any], seed: int) -> dict[str, Path]:
        """The model file of a system, by task; one for all tasks where it is blind."""
        folder = self.runs / re.sub(r"[^a-z0-9]+", "_", system["name"].lower()) / f"seed{seed}"
        tasks = tuple(TASKS)
        if "joint" in system:
            genotype: Any = self.searched(system["joint"], system["joint"], tasks, seed)
        else:
            genotype = {task: self.tower(space, task, seed) for task, space in system["towers"].items()}
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


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def scored(bench: Bench, models: dict[str, Path]) -> dict[str, Any]:
    """Means of PSNR and SSIM by column, and what the system costs."""
    restorers = {task: Restorer.load(path, device="cpu") for task, path in models.items()}
    blind = len(set(models.values())) == 1
    scores: dict[str, list] = {}
    clean_files = photographs_in(bench.report / "clean")
    for task, scenes in (
        ("derain", scenes_of_pairs(bench.report)),
        ("desnow", generated_scenes(clean_files, "snow")),
    ):
        for scene in scenes:
            column = "snow" if task == "desnow" else f"rain {scene.level}"
            restored = restorers[task](scene.degraded)
            scores.setdefault(column, []).append(protocol_named(PROTOCOL).measure(restored, scene.clean))
    if blind:
        for path in clean_files.values():
            clean = read_image(path)
            measured = protocol_named(PROTOCOL).measure(restorers["derain"](clean), clean)
            capped = measured._replace(psnr=min(measured.psnr, HIGHEST_PSNR))
            scores.setdefault("clean", []).append(capped)
    networks = [restorer.network for restorer in restorers.values()][: 1 if blind else None]
    found = [costs(network, (3, *SIZE)) for network in networks]
    return {
        "scores": {
            name: [mean(s.psnr for s in each), mean(s.ssim for s in each)] for name, each in scores.items()
        },
        "images": {name: len(each) for name, each in scores.items()},
        "parameters": sum(cost["parameters"] for cost in found),
        "macs": found[0]["macs"],
        "seconds": seconds(restorers["derain"]),
    }


def seconds(restorer: Restorer) -> float:
    """An image of 480x320 on this machine, median of three."""
    image = np.zeros((*SIZE, 3), np.uint8)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        restorer(image)
        times.append(time.perf_counter() - start)
    return median(times)


def rows(bench: Bench) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and results by seed of every system, each as soon as it is there: first seeds first."""
    systems = bench.config["systems"]
    seeds = sorted({seed for system in systems for seed in system.get("seeds", FIRST)})
    results: dict[str, list[dict[str, Any]]] = {system["name"]: [] for system in systems}
    for seed in seeds:
        for system in systems:
            if seed not in system.get("seeds", FIRST):
                continue
            file = bench.runs / "results" / f"{re.sub(r'[^a-z0-9]+', '_', system['name'].lower())}_{seed}.json"
            if not file.is_file():
                result = scored(bench, bench.models(system, seed))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(result, indent=1))
            results[system["name"]].append(json.loads(file.read_text()))
            print(f"{system['name']}, seed {seed}: {results[system['name']][-1]['scores']}", flush=True)
    yield from results.items()


def line(name: str, results: list[dict[str, Any]]) -> str:
    """A row of the table: means over seeds, and the range of PSNR where there are several."""
    cells = [name, str(len(results)), f"{results[0]['parameters']:,}", f"{results[0]['macs'] / 1e9:.2f}"]
    cells.append(f"{median(result['seconds'] for result in results):.2f}")
    for column in COLUMNS:
        values = [result["scores"][column] for result in results if column in result["scores"]]
        if not values:
            cells.append("")
            continue
        psnrs = [psnr for psnr, _ in values]
        span = f" ({min(psnrs):.2f} to {max(psnrs):.2f})" if len(psnrs) > 1 else ""
        cells.append(f"{mean(psnrs):.2f}{span} / {mean(ssim for _, ssim in values):.4f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(yaml.safe_load(arguments.config.read_text()), arguments.pairs, arguments.runs)
    table = [line(name, results) for name, results in rows(bench)]
    print(f"\nPSNR-Y in dB / SSIM-Y, protocol {PROTOCOL}, {bench.config['report']} scenes that no system saw;")
    print("clean: the output for a clean picture against that picture\n")
    headings = [
        "system",
        "seeds",
        "parameters",
        "GMACs at 480x320",
        "s an image",
        *COLUMNS,
    ]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    print("\n".join(table))


if __name__ == "__main__":
    main()
