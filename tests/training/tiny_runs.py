"""The smallest searches and retrainings that are whole, and how their results are compared.

Others import it as `training.tiny_runs`: the folder of the top conftest is on the path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.searching.config import SearchConfig
from manas.training.checkpoint import load_checkpoint
from manas.training.config import RetrainConfig

REPOSITORY = Path(__file__).parents[2]
GATES = ["none", "skip_connect", "sep_conv_3x3", "channel_attention"]
TOWER = {
    "kind": "multi_scale_attentive",
    "channels": [4, 8],
    "columns": [1],
    "stem": {"blocks": 1, "planes": 2, "expansion": 2},
    "attention": {"groups": 2, "gates": GATES},
}
SMALL = {
    "run": "run",
    "device": "cpu",
    "epochs": 2,
    "steps": 3,
    "log_every": 1,
    "data": {
        "patch": 16,
        "batch": 2,
        "versions": 2,
        "workers": 0,
        "validation_patch": 16,
        "validation_images": 2,
    },
}
MANAS_LOSS = {"mse": 1, "l1": 0, "ssim": 1, "tv": 1e-4, "internal": 1}  # every kind of term
RAIN = {"task": "derain", "weather": "rain"}
SNOW = {"task": "desnow", "weather": "snow"}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, which are merged into mappings that both have."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def tower(**changes: Any) -> SearchSpace:
    """The tiny tower, with other options."""
    return load_space(merged(TOWER, changes))


def search_settings(**changes: Any) -> dict[str, Any]:
    """What a configuration file of a tiny search holds; its alphas move from the third step on."""
    return merged(SMALL | {"space": TOWER, "method": "gradient", "loss": MANAS_LOSS}, changes)


def search_config(**changes: Any) -> SearchConfig:
    """The configuration of a tiny search."""
    return SearchConfig.model_validate(search_settings(**changes), context={"trusted": True})


def retrain_settings(genotype: Any, **changes: Any) -> dict[str, Any]:
    """What a configuration file of a tiny retraining holds; for deraining unless `data.sources` differs."""
    own = {"genotype": genotype, "data": {"sources": [RAIN]}, "loss": MANAS_LOSS}
    return merged(merged(SMALL, own), changes)


def retrain_config(genotype: Any, **changes: Any) -> RetrainConfig:
    """The configuration of a tiny retraining."""
    return RetrainConfig.model_validate(retrain_settings(genotype, **changes), context={"trusted": True})


def write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    """A configuration file."""
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    return path


def write_genotype(path: Path, seed: int = 1, **changes: Any) -> str:
    """A genotype of the tiny tower as a file; returns its path as configurations hold it."""
    return str(Genotype.sample(tower(**changes), seed).write(path))


def environment(**more: str) -> dict[str, str]:
    """Of a program that must give the same bits as this one: one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def python(*arguments: object) -> list[str]:
    """The command that runs Python with these arguments."""
    return [sys.executable, *map(str, arguments)]


def identical(one: Any, other: Any) -> bool:
    """Whether two nested values agree in every bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return type(one) is type(other) and one == other


def assert_same_run(one: Path, other: Path) -> None:
    """Two run directories with the same bits: checkpoint, metrics, genotypes, models and samples."""
    state, expected = (_comparable(load_checkpoint(run / "checkpoint.pt")) for run in (one, other))
    for key in expected:
        assert identical(state[key], expected[key]), key
    files, wanted = (_files(run) for run in (one, other))
    assert files.keys() == wanted.keys()
    for name in wanted:
        assert files[name] == wanted[name], name


def _comparable(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"random": [each["torch"] for each in state["random"]]}


def _files(run: Path) -> dict[str, bytes]:
    """Every file but those that hold the time, the command or what is compared otherwise."""
    kept = (path for path in run.rglob("*") if path.is_file() and path.parent.name != "tensorboard")
    by_name = {path.relative_to(run).as_posix(): path for path in kept}
    apart = ("checkpoint.pt", "environment.json", "report.html")
    return {n: p.read_bytes() for n, p in by_name.items() if n not in apart}


def genotype_of(run: Path) -> Genotype:
    """The genotype that a search left."""
    return Genotype.read(run / "genotype.json")
