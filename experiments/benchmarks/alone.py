"""Trainings, scored on scenes that they did not see, and searches: each a process of its own on one core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from folds import cpu_seconds

from manas.errors import ManasError
from manas.files import replacing


def trained_alone(
    config: Mapping[str, Any], result: Path, *, report: Path | None = None, core: int = 0
) -> dict[str, Any]:
    """Trains by `manas.retrain`, unless the result is there already; returns what `result` holds.

    Args:
        config: the configuration, whose run directory stands beside the result.
        result: a JSON file: CPU seconds, steps, configuration and, with `report`, scores by level.
        report: the scenes that the network is scored on.
        core: the processor core to stay on.

    Raises:
        ManasError: for a result that was made with another configuration.
    """
    if not result.is_file():
        where = str(report) if report else None
        task = {"config": config, "report": where, "result": str(result), "core": core}
        _in_a_process(task, result.with_suffix(".log"))
    found = json.loads(result.read_text())
    if found["config"] != json.loads(json.dumps(config)):
        raise ManasError(f"{result} was made with other settings; give another --runs")
    return found


def searched_alone(config: Mapping[str, Any], *, core: int = 0) -> Path:
    """Searches by `manas.search`, unless the run has ended already; returns its genotype file.

    Args:
        config: the configuration; what is printed goes into a log beside its run directory.
        core: the processor core to stay on.
    """
    run = Path(config["run"])
    if not (run / "genotype.json").is_file():
        _in_a_process({"search": config, "core": core}, run.with_name(f"{run.name}.log"))
    return run / "genotype.json"


def _in_a_process(task: Mapping[str, Any], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("w") as written:
        call = [sys.executable, __file__, json.dumps(task)]
        subprocess.run(call, check=True, env=environment, stdout=written, stderr=subprocess.STDOUT)


def _work(task: dict[str, Any]) -> None:
    """What the process does, on its core."""
    import torch

    import manas

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {task["core"]})
    if "search" in task:
        manas.search(task["search"], overwrite=True)
    else:
        _train(task)


def _train(task: dict[str, Any]) -> None:
    import manas

    start = cpu_seconds()
    model = manas.retrain(task["config"], overwrite=True)
    result = {"seconds": cpu_seconds() - start, "steps": task["config"]["steps"] * task["config"]["epochs"]}
    result["config"] = task["config"]
    if task["report"]:
        result |= _scored(model, Path(task["report"]))
    with replacing(Path(task["result"])) as temporary:
        temporary.write_text(json.dumps(result, indent=1))


def _scored(model: Path, report: Path) -> dict[str, Any]:
    """PSNR and SSIM by level, validation PSNR by step, and the steps that the training left out."""
    import manas

    evaluation = manas.evaluate(model, report)
    summaries = {level: evaluation.summary(group, level).restored for group, level in evaluation.levels}
    scores = {name: {level: each[name].mean for level, each in summaries.items()} for name in ("psnr", "ssim")}
    lines = [json.loads(line) for line in (model.parent / "metrics.jsonl").read_text().splitlines()]
    curve = {line["step"]: line["validation/psnr"] for line in lines if "validation/psnr" in line}
    return scores | {"validation": curve, "left_out": lines[-1].get("steps_left_out", 0)}


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
