"""The demo with several seeds, beside random towers and a plain network trained alike: is its result luck?

    python experiments/benchmarks/demo_seeds.py [--pairs RAIN100] [--seeds 0 1 2] [--rows demo random plain]

A row *demo* is `experiments/demo.py` with a seed. *random* retrains towers that are drawn instead of searched,
and *plain* one plain network for both weathers, at its own rate and for as many seconds. With --pairs, every
network restores their light rain, too, which is unlike its training data. Trainings that have ended are not
repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))

import manas  # noqa: E402 (torch must find the number of threads)
from manas.config import read_config  # noqa: E402
from manas.cost.counting import measure  # noqa: E402
from manas.evaluation.scenes import scenes_for  # noqa: E402
from manas.training.config import RetrainConfig  # noqa: E402

EXPERIMENTS = Path(__file__).parents[1]
WEATHERS = ("rain", "snow")
TASKS = ("derain", "desnow")
PHOTOGRAPH = (3, 320, 480)  # what MACs are counted for


def searched(folder: Path, seed: int) -> Path:
    command = [sys.executable, str(EXPERIMENTS / "demo.py"), "--seed", str(seed), "--run", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "model.safetensors"


def drawn(folder: Path, seed: int) -> Path:
    space = manas.load_space("manas_tiny")
    files = [
        manas.Genotype.sample(space, 2 * seed + place).write(folder / f"{task}.json")
        for place, task in enumerate(TASKS)
    ]
    return retrained(folder, seed, [f"genotype.{task}={file}" for task, file in zip(TASKS, files, strict=True)])


def plain(folder: Path, seed: int) -> Path:
    """Trains one tower for both weathers, at a rate that suits it, as many seconds as the demo's network."""
    sources = (
        "[{task: restore, weather: rain, family: falling}, {task: restore, weather: snow, family: falling}]"
    )
    network = ["genotype.restore=plain", "stitch=none", "fusion=mean", f"data.sources={sources}"]
    # At a rate of 3e-3 it gains 1 dB less. A step takes half the time, so it has more steps.
    network += ["optimiser.rate=2e-3", "steps=700"]
    return retrained(folder, seed, network)


def retrained(folder: Path, seed: int, overrides: list[str]) -> Path:
    overrides = [f"run={folder / 'network'}", f"seed={seed}", *overrides]
    return manas.retrain(
        read_config(RetrainConfig, EXPERIMENTS / "configs/demo_retrain.yaml", overrides), overwrite=True
    )


ROWS = {"demo": searched, "random": drawn, "plain": plain}


def result(row: str, seed: int, runs: Path, pairs: Path | None) -> dict[str, Any]:
    """Gains in dB by weather and level, PSNR of clean pictures, gain on the pairs' light rain, and MACs."""
    folder = runs / f"{row}{seed}"
    file = folder / "result.json"
    if file.is_file():
        return json.loads(file.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    model = ROWS[row](folder, seed)
    numbers: dict[str, Any] = {"seconds": time.monotonic() - start}
    evaluation = manas.evaluate(model, scenes_for(weathers=WEATHERS))
    for weather, level in [*((weather, None) for weather in WEATHERS), *evaluation.levels]:
        numbers[f"{weather} {level}" if level else weather] = gain(evaluation.summary(weather, level))
    numbers["clean"] = least_clean(model)
    numbers["GMACs"] = measure(manas.Restorer.load(model).network, "macs", PHOTOGRAPH) / 1e9
    if pairs:
        of_pairs = manas.evaluate(model, scenes_for(pairs))
        numbers["rain100"] = next(
            gain(of_pairs.summary(g, level)) for g, level in of_pairs.levels if level == "light"
        )
    file.write_text(json.dumps(numbers, indent=1))
    return numbers


def gain(summary: Any) -> float:
    return summary.restored["psnr"].mean - summary.degraded["psnr"].mean


def least_clean(model: Path) -> float:
    """The lower of the PSNRs of the two held-out photographs, restored without weather."""
    sys.path.insert(0, str(EXPERIMENTS))
    from demo import clean_psnr

    return min(clean_psnr(model).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a folder with clean/ and light/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=Path, default=Path("runs/demo_seeds"))
    arguments = parser.parse_args()
    levels = [f"{weather} {level}" for weather in WEATHERS for level in ("light", "medium", "heavy")]
    columns = [*WEATHERS, *levels, "clean", *(["rain100"] if arguments.pairs else []), "GMACs", "seconds"]
    print(f"| row | seed | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    for row in arguments.rows:
        for seed in arguments.seeds:
            numbers = result(row, seed, arguments.runs, arguments.pairs)
            cells = [
                f"{numbers[name]:.0f}" if name == "seconds" else f"{numbers[name]:.2f}" for name in columns
            ]
            print(f"| {row} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
