"""The speed of loading data, and the time that a training step waits for it.

    python experiments/benchmarks/loading.py [--rounds 3] [--backgrounds 300] [--space manas_small]

The first table has training samples a second (a crop of a background and of its three rainy versions), beside
the usual way: every item opens its files with Pillow, converts them whole to float tensors and cuts its crop.
The set is written by `manas.synthesize` from the built-in photographs. Every row is measured in turn in every
round; ratios are medians over rounds. `first epoch` decodes each file once; later epochs find it decoded.

The second table has crops of 128x128 a second that the weather generator makes on one core, by CPU time.

The last numbers are the shares of a training step spent waiting for the next batch, with one worker.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import manas
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.data.dataset.crops import Batch
from manas.data.photographs import builtin_photographs
from manas.data.weather import LEVELS, degrade
from manas.device import place
from manas.restoration.losses import LossWeights
from manas.training.distributed import Process
from manas.training.step import Objective

PATCH, BATCH = 64, 4
PROCESS = Process(0, 1, torch.device("cpu"))
FAMILIES = (("rain", "falling"), ("rain", "crossing"), ("snow", "falling"), ("snow", "storm"))


class PlainPairs(Dataset):
    """The usual data set, which opens and converts whole files for every item."""

    def __init__(self, root: Path):
        self.root, self.names = root, sorted(path.name for path in (root / "clean").iterdir())

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, _: int) -> tuple[torch.Tensor, torch.Tensor]:
        name = random.choice(self.names)
        images = [self.tensor(self.root / folder / name) for folder in ("clean", *LEVELS)]
        _, height, width = images[0].shape
        top, left = random.randint(0, height - PATCH), random.randint(0, width - PATCH)
        crops = [image[:, top : top + PATCH, left : left + PATCH] for image in images]
        return torch.stack(crops[1:]), crops[0]

    @staticmethod
    def tensor(path: Path) -> torch.Tensor:
        return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255


def write_set(folder: Path) -> Path:
    photographs = folder / "photographs"
    photographs.mkdir()
    for name, path in builtin_photographs("training").items():
        Image.open(path).convert("RGB").save(photographs / f"{name}.png")
    return manas.synthesize(photographs, folder / "pairs", long_side=480)


def batches(root: Path, workers: int, cache_folder: Path | None = None, **source: str) -> Iterator[Batch]:
    one = SourceConfig(task="derain", **(source or {"pairs": str(root)}))
    config = DataConfig(
        sources=(one,),
        patch=PATCH,
        batch=BATCH,
        workers=workers,
        cache_folder=None if cache_folder is None else str(cache_folder),
    )
    return Backgrounds(config, ("derain",), seed=0, held_share=0.3).batches("kept")


def rate(stream: Iterator, backgrounds: int) -> float:
    """The samples a second, without the start of the workers."""
    next(stream)
    start = time.perf_counter()
    count = sum(1 for _ in islice(stream, backgrounds // BATCH))
    return count * BATCH / (time.perf_counter() - start)


def loading_table(root: Path, folder: Path, backgrounds: int, rounds: int) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    for round_ in range(rounds):
        for workers in (0, 1):
            plain = rate(iter(DataLoader(PlainPairs(root), BATCH, num_workers=workers)), backgrounds)
            store = folder / f"store{round_}{workers}"
            measured = {"plain": plain}
            memory = batches(root, workers)
            measured["cache in memory, first epoch"] = rate(memory, 8 * BATCH)
            measured["cache in memory, later"] = rate(memory, backgrounds)
            rate(batches(root, workers, store), backgrounds)
            measured["mapped folder, later"] = rate(batches(root, workers, store), backgrounds)
            measured["generated rain, later"] = rate(batches(root, workers, weather="rain"), backgrounds)
            for name, value in measured.items():
                rows.setdefault(f"{name} | {workers}", []).append((value, value / plain))
    print("| how | workers | samples a second | ratio to plain |\n|---|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {median(v for v, _ in values):,.0f} | {median(r for _, r in values):.1f} |")


def weather_table(crops: int = 60) -> None:
    clean = np.random.default_rng(0).random((128, 128, 3), dtype=np.float32)
    print("\n| weather | light | medium | heavy | all three |\n|---|---|---|---|---|")
    for weather, family in FAMILIES:
        cells = []
        for levels in (*((level,) for level in LEVELS), LEVELS):
            start = time.process_time()
            for seed in range(crops):
                degrade(clean, weather, levels, seed=seed, family=family)
            cells.append(f"{crops / (time.process_time() - start):,.0f}")
        print(f"| {weather}, {family} | {' | '.join(cells)} |")


def waiting_share(root: Path, name: str, steps: int, **source: str) -> float:
    space = manas.load_space(name)
    network = place(space.network(manas.Genotype.sample(space, seed=0)), PROCESS.device).train()
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    objective = Objective(LossWeights(), PROCESS, "float32")
    stream = batches(root, 1, **source)
    next(stream)
    waited, start = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        optimiser.zero_grad()
        objective(network, batch, 1.0)[0].backward()
        optimiser.step()
    return waited / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backgrounds", type=int, default=300)
    parser.add_argument("--space", default="manas_small")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = write_set(folder)
        loading_table(root, folder, arguments.backgrounds, arguments.rounds)
        weather_table()
        print(
            f"\nWaiting, share of a step of a derived {arguments.space}, {BATCH} x 3 crops of {PATCH}x{PATCH}:"
        )
        for what, source in (
            ("pairs", {}),
            ("generated rain", {"weather": "rain"}),
            ("generated snow", {"weather": "snow"}),
        ):
            print(f"{what}: {waiting_share(root, arguments.space, arguments.steps, **source):.1%}")


if __name__ == "__main__":
    main()
