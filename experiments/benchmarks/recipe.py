"""What each part of the recipe of training is worth: one change a row, the same CPU seconds for all.

    python experiments/benchmarks/recipe.py PAIRS [--seconds 60] [--seeds 3] [--only NAME ...] [--runs runs/recipe]

PAIRS is a set of rainy pairs with the levels light and heavy; every sixth scene, the first ten of them, is
reported on and seen by no training. A row is `manas.retrain` with its defaults, the pairs and one change, of a
random architecture of `manas_small` (another for each seed) or of `plain`. How many steps fit into the seconds
is measured first, once a row: loading and validation are counted, the start of the program is not.

Each training is a process of its own on one core, and is kept in the folder of runs: what has ended is not
repeated. Several calls may share the folder, each for some of the rows. --quick shows in a minute that it works.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from folds import parted

from manas.files import replacing

SMALL, PLAIN = "manas_small", "plain"
LEVELS = ("light", "heavy")
EPOCHS = 4
CALIBRATION = (20, 80)  # steps of the two trainings whose difference tells the seconds of a step

MANAS_LOSS = {"mse": 1, "l1": 0, "ssim": 1, "tv": 1e-4, "internal": 0}
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
    "loss L1 + 0.2 SSIM": (SMALL, {"loss": {"ssim": 0.2}}),
    "loss of MANAS": (SMALL, {"loss": MANAS_LOSS}),
    "Adam (0.9, 0.999)": (SMALL, {"optimiser": {"name": "adam", "betas": [0.9, 0.999], "decay": 0}}),
    "rate 1e-3": (SMALL, {"optimiser": {"rate": 1e-3}}),
    "rate 4e-3": (SMALL, {"optimiser": {"rate": 4e-3}}),
    "plain, rate 1e-3": (PLAIN, {"optimiser": {"rate": 1e-3}}),
    "plain, rate 4e-3": (PLAIN, {"optimiser": {"rate": 4e-3}}),
    "no clipping": (SMALL, {"optimiser": {"clip": None}}),
    "constant rate": (SMALL, {"schedule": {"drops": []}}),
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
    """That of `manas.retrain` for a row; the change's keys `space` and `augment` are of the network and source."""
    import manas

    preset, change = ROWS[name]
    change = dict(change)
    space = manas.load_space(preset)
    space = type(space).model_validate({**space.model_dump(), **change.pop("space", {})})
    genotype = space.sample(seed).write(run.parent / f"{run.name}.json")
    source = {"task": "derain", "pairs": str(train), "augment": change.pop("augment", "mirror")}
    data = {"sources": [source], **change.pop("data", {})}
    common = {"run": str(run), "seed": seed, "precision": "bf16", "epochs": epochs, "steps": steps}
    return {**common, "genotype": {"derain": str(genotype)}, "data": data, **change}


def cpu_seconds() -> float:
    """Of this process and of the loaders that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def train_one(task: dict[str, Any]) -> None:
    """Trains, scores and writes a result: what the process of a training does."""
    import torch

    import manas

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {task["core"]})
    start = cpu_seconds()
    model = manas.retrain(task["config"], overwrite=True)
    result = {"seconds": cpu_seconds() - start, "steps": task["config"]["steps"] * task["config"]["epochs"]}
    if task["report"]:
        result |= scored(model, Path(task["report"]))
    with replacing(Path(task["result"])) as temporary:
        temporary.write_text(json.dumps(result, indent=1))


def scored(model: Path, report: Path) -> dict[str, Any]:
    import manas
    from manas.evaluation.scenes import scenes_of_pairs

    evaluation = manas.evaluate(model, list(scenes_of_pairs(report)), protocol="derain")
    last = json.loads((model.parent / "metrics.jsonl").read_text().splitlines()[-1])
    levels = {row.level: row.psnr.mean for row in evaluation.levels()}
    return {"psnr": levels, "left_out": last.get("steps_left_out", 0)}
