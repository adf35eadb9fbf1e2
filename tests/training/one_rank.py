"""One rank of a group: searches and retrains as planned, and keeps what this very process holds.

python one_rank.py PLAN.yaml FOLDER

The plan has, under ``plan``, a list of {name, task, config, port}: what each run is called, ``search`` or
``retrain``, its settings, and the port at which its ranks meet, another for every run.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

import manas
from manas.config import read_config
from manas.searching import genotype_files, gradient
from manas.searching.config import SearchConfig
from manas.training import loop
from manas.training import retrain as retraining


def keeping(folder: Path) -> None:
    """Before a checkpoint is written by the first process, every process writes its own state to a file."""
    loop.save_checkpoint = _saving(loop.save_checkpoint, folder)


def _saving(save, folder):
    def saving(checkpoint, process, state):
        own = {
            key: state[key] for key in ("network", "choices", "tried", "scores", "multiplier") if key in state
        }
        torch.save(own, folder / f"{checkpoint.parent.name}{process.rank}.pt")
        save(checkpoint, process, state)

    return saving


def main(plan: str, folder: str) -> None:
    keeping(Path(folder))
    gradient.raster = lambda genotype: np.zeros((2, 2, 3), np.uint8)  # of so many searches
    genotype_files.write_report = lambda path: path
    for run in yaml.safe_load(Path(plan).read_text(encoding="utf-8"))["plan"]:
        os.environ["MASTER_PORT"] = run["port"]
        settings = run["config"] | {"run": str(Path(folder) / run["name"])}
        if run["task"] == "search":
            manas.search(read_config(SearchConfig, settings))
        else:
            manas.retrain(read_config(retraining.RetrainConfig, settings))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
