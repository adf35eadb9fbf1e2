"""One rank of a group: searches, then retrains, and keeps what this very process holds.

python one_rank.py SEARCH.yaml RETRAIN.yaml FOLDER SECOND_PORT
"""

import os
import sys
from pathlib import Path

import torch

import manas
from manas.config import read_config
from manas.searching import loop
from manas.training import retrain as retraining


def keeping(module, path: Path) -> None:
    """Before a checkpoint is written by the first process, every process writes its own state to `path`."""
    save = module.save_checkpoint

    def saving(checkpoint, process, state):
        torch.save(state["network"], path)
        save(checkpoint, process, state)

    module.save_checkpoint = saving


def main(search_config: str, retrain_config: str, folder: str, second_port: str) -> None:
    rank = os.environ["RANK"]
    keeping(loop, Path(folder) / f"search{rank}.pt")
    keeping(retraining, Path(folder) / f"retrain{rank}.pt")
    manas.search(read_config(loop.SearchConfig, search_config))
    os.environ["MASTER_PORT"] = second_port
    manas.retrain(read_config(retraining.RetrainConfig, retrain_config))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
