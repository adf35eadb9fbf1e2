"""The worth of generated rain: networks trained on it alone, evaluated on a published set of pairs.

    python experiments/benchmarks/generated_rain.py PHOTOGRAPHS PAIRS [--runs runs/generated_rain] [--epochs 6]

One architecture (a random one of `manas_small`) is trained twice from the same weights on generated rain over
the same photographs, once with streaks of one direction and once with both families mixed, and evaluated
on the pairs. Photographs that show a scene of the pairs are left out. An interrupted run goes on, and a run
that has ended is not repeated.
"""

import argparse
from pathlib import Path

import torch

import manas
from manas.config import read_config
from manas.training.config import RetrainConfig

FAMILIES = ("falling", "mixed")


def trained(family: str, arguments: argparse.Namespace) -> Path:
    run = arguments.runs / family
    model = run / "model.safetensors"
    source = {
        "task": "derain",
        "weather": "rain",
        "family": family,
        "photographs": str(arguments.photographs),
        "exclude": [str(arguments.pairs)],
    }
    data = {
        "sources": [source],
        "versions": 3,
        "batch": 4,
        "validation_images": 6,
        "cache_folder": str(arguments.runs / "decoded"),
    }
    config = {
        "run": str(run),
        "genotype": {"derain": str(arguments.runs / "genotype.json")},
        "stitch": "none",
        "fusion": "mean",
        "data": data,
        "epochs": arguments.epochs,
        "steps": 150,
        "loss": {"mse": 0, "l1": 1, "ssim": 0.2, "tv": 0, "internal": 0},
        "optimiser": {"name": "adam", "rate": 2e-3, "clip": 1.0},
    }
    if not (run / "report.html").is_file():  # the file that a training writes last
        started = (run / "config.yaml").is_file()
        manas.retrain(read_config(RetrainConfig, config), resume=started)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/generated_rain"))
    parser.add_argument("--epochs", type=int, default=6, help="of 150 steps, 12 crops of 64x64 each")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    manas.Genotype.sample(manas.load_space("manas_small"), seed=1).write(arguments.runs / "genotype.json")
    for family in FAMILIES:
        restorer = manas.Restorer.load(trained(family, arguments))
        evaluation = manas.evaluate(restorer, arguments.pairs)
        print(f"\ntrained on {family} rain, {arguments.epochs * 150} steps\n\n{evaluation.to_markdown()}")


if __name__ == "__main__":
    main()
