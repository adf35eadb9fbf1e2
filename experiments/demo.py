"""From clean photographs to a restored picture: search two cells, retrain them as one network, evaluate it.

Runs on the photographs that ship with scikit-image, in minutes on two CPU cores. Everything is written to
the folder of the run, afresh each time.

    python experiments/demo.py [--seed 0] [--run runs/demo]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Half of the cores for each of the two searches. Retraining keeps to that number, and loads its data on the
# other cores: threads that wait for one another on cores in use take many times longer than a single thread.
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))

import manas  # noqa: E402 (torch must find the number of threads)
from manas.commands.evaluate import show  # noqa: E402
from manas.config import read_config  # noqa: E402
from manas.data.images import read_image  # noqa: E402
from manas.data.photographs import builtin_photographs  # noqa: E402
from manas.evaluation.protocols import protocol_named  # noqa: E402
from manas.evaluation.scenes import scenes_for  # noqa: E402
from manas.evaluation.summary import Summary  # noqa: E402
from manas.reporting.gallery import row_of  # noqa: E402
from manas.reporting.pictures import Row, before_after  # noqa: E402
from manas.training.config import RetrainConfig  # noqa: E402

HERE = Path(__file__).parent
TASKS = {"derain": "rain", "desnow": "snow"}
PICTURED = ("rain, medium, chelsea", "rain, heavy, chelsea", "snow, medium, coffee", "snow, heavy, coffee")


def search(task: str, run: Path, seed: int) -> Path:
    """Searches the cells for one task in a process of its own; returns the genotype file."""
    source = json.dumps({"task": task, "weather": TASKS[task]})
    command = [sys.executable, HERE / "search.py", HERE / "configs/demo_search.yaml", "--overwrite"]
    command += ["--set", f"run={run / task}", "--set", f"data.sources=[{source}]", "--set", f"seed={seed}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            print(f"  {task}: {line}", end="", flush=True)
    if process.returncode:
        sys.exit(f"the search for {task} failed with exit code {process.returncode}")
    return run / task / "genotype.json"


def retrain(genotypes: dict[str, Path], run: Path, seed: int) -> Path:
    """Trains the towers of these genotypes as one network; returns the model file."""
    overrides = [f"run={run / 'network'}", f"seed={seed}"]
    overrides += [f"genotype.{task}={path}" for task, path in genotypes.items()]
    config = read_config(RetrainConfig, HERE / "configs/demo_retrain.yaml", overrides)
    return Path(shutil.copy(manas.retrain(config, overwrite=True), run / "model.safetensors"))


def means(summary: Summary) -> dict[str, float]:
    """The means of PSNR in dB and SSIM before and after, and the number of images."""
    spreads = {"degraded": summary.degraded or {}, "restored": summary.restored}
    scores = {
        f"{when}_{name}": each.mean for when, by_name in spreads.items() for name, each in by_name.items()
    }
    return {"images": summary.images, **scores}


def clean_psnr(model: Path) -> dict[str, float]:
    """PSNR in dB of the network's restoration of clean pictures, against the pictures themselves."""
    restorer, measure = manas.Restorer.load(model), protocol_named("derain").measure
    pictures = {name: read_image(path) for name, path in builtin_photographs("held_out").items()}
    return {name: measure(restorer(picture), picture)["psnr"] for name, picture in pictures.items()}


def main() -> None:
    """Searches, retrains and evaluates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    arguments = parser.parse_args()
    run, seed, start = arguments.run, arguments.seed, time.monotonic()
    print("Searching the cells of a deraining and of a desnowing tower ...", flush=True)
    with ThreadPoolExecutor() as pool:
        genotypes = dict(zip(TASKS, pool.map(lambda task: search(task, run, seed), TASKS), strict=True))
    print("Retraining both towers in one cross-stitched, fused network ...", flush=True)
    model = retrain(genotypes, run, seed)
    print("Evaluating on held-out photographs, blind: nobody says whether it rains or snows ...", flush=True)
    rows: list[Row] = []
    scenes = scenes_for(weathers=tuple(TASKS.values()))
    evaluation = manas.evaluate(model, scenes, watch=lambda judged: rows.append(row_of(judged)))
    show(evaluation.table())
    picture = before_after([row for row in rows if row.caption in PICTURED], run / "before_after.png")
    clean = clean_psnr(model)
    print("Left alone: " + ", ".join(f"clean {name} {psnr:.1f} dB" for name, psnr in clean.items()))
    summary: dict = {weather: means(evaluation.summary(weather)) for weather in TASKS.values()}
    summary |= {
        "levels": {
            f"{group}, {level}": means(evaluation.summary(group, level)) for group, level in evaluation.levels
        }
    }
    summary |= {"clean": clean, "protocol": evaluation.protocol, "seconds": round(time.monotonic() - start, 1)}
    (run / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for path in (*genotypes.values(), model, picture, run / "summary.json"):
        print(path)


if __name__ == "__main__":
    main()
