"""From clean photographs to a restored picture: search two cells, retrain them as one network, evaluate it.

Runs on the photographs that ship with scikit-image, in minutes on two CPU cores. Everything is written to
runs/demo, afresh each time.
"""

import json
import shutil
import time
from pathlib import Path

import manas
from manas.cli import show
from manas.config import read_config
from manas.evaluation.scenes import scenes_for
from manas.reporting.pictures import Row, before_after
from manas.searching.loop import SearchConfig
from manas.training.retrain import RetrainConfig

CONFIGS = Path(__file__).parent / "configs"
RUN = Path("runs/demo")
TASKS = {"derain": "rain", "desnow": "snow"}


def search(task: str, weather: str) -> Path:
    """Searches the cells for one task; returns the genotype file."""
    source = {"task": task, "weather": weather}
    overrides = [f"run={RUN / task}", f"data.sources=[{json.dumps(source)}]"]
    manas.search(read_config(SearchConfig, CONFIGS / "demo_search.yaml", overrides), overwrite=True)
    return RUN / task / "genotype.json"


def retrain(genotypes: dict[str, Path]) -> Path:
    """Trains the towers of these genotypes as one network; returns the model file."""
    overrides = [f"run={RUN / 'network'}", *(f"genotype.{task}={path}" for task, path in genotypes.items())]
    model = manas.retrain(read_config(RetrainConfig, CONFIGS / "demo_retrain.yaml", overrides), overwrite=True)
    return Path(shutil.copy(model, RUN / "model.safetensors"))


def main() -> None:
    """The whole way."""
    start = time.monotonic()
    genotypes = {}
    for task, weather in TASKS.items():
        print(f"Searching the cells of the tower for {task} ({weather}) ...")
        genotypes[task] = search(task, weather)
    print("Retraining both towers in one cross-stitched, fused network ...")
    model = retrain(genotypes)
    print("Evaluating on held-out photographs, blind: nobody says whether it rains or snows ...")
    rows: list[Row] = []
    evaluation = manas.evaluate(model, scenes_for(None, TASKS.values(), "builtin"), rows=rows)
    show(evaluation)
    picture = before_after(rows, RUN / "before_after.png")
    summary = {weather: evaluation.summary(weather) for weather in TASKS.values()}
    summary |= {"protocol": evaluation.protocol, "seconds": round(time.monotonic() - start, 1)}
    (RUN / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for path in (*genotypes.values(), model, picture, RUN / "summary.json"):
        print(path)


if __name__ == "__main__":
    main()
