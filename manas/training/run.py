"""The run directory: the one folder that holds everything that a run writes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel

import manas
from manas.config import read_config
from manas.errors import ManasError
from manas.files import replacing
from manas.training.distributed import Process

WRITTEN = (
    "checkpoint.pt",
    "config.yaml",
    "correlation.json",
    "cost.json",
    "environment.json",
    "evidence.json",
    "genotype.json",
    "genotypes",
    "last.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "report.html",
    "samples",
    "stitches.png",
    "tensorboard",
)

# The ways out of a refusal, on the command line and in Python.
RESUME = "--resume (in Python resume=True)"
OVERWRITE = "--overwrite (overwrite=True)"
ELSEWHERE = "another folder, --set run=... (the key run)"


class RunDirectory:
    """The folder of a run, with its configuration and environment; all processes of a run share it.

    Nothing is written or removed before `open`, so that a mistake found in between leaves everything as it was.

    Raises:
        ManasError: if the folder holds a run and neither `resume` nor `overwrite` is given, if there is nothing
            to resume, or if the configuration is not that of the run.
    """

    def __init__(self, config: BaseModel, path: str, process: Process, *, resume: bool, overwrite: bool):
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.pt"
        self.config, self.process = config, process
        self.resume, self.overwrite = resume, overwrite
        # The first process decides: another may look when the first has already written its files.
        refusal = process.share(self._refusal())
        if refusal:
            raise ManasError(refusal)

    @property
    def can_resume(self) -> bool:
        """Whether to go on from a checkpoint; a run that was interrupted early may have none."""
        return self.resume and self.checkpoint.exists()

    def digest(self) -> str:
        """SHA-256 of the resolved configuration."""
        return hashlib.sha256(_as_yaml(self.config).encode()).hexdigest()

    def open(self, files: Mapping[str, str] = {}) -> None:
        """Makes the folder and writes configuration and environment; removes an overwritten run first.

        Args:
            files: further texts that the folder holds from the start, by name.
        """
        if self.process.is_first:
            if self.overwrite and (self.path / "environment.json").exists():
                self._clear()
            self.path.mkdir(parents=True, exist_ok=True)
            own = {"config.yaml": _as_yaml(self.config), "environment.json": _environment()}
            for name, text in {**own, **files}.items():
                with replacing(self.path / name) as temporary:
                    temporary.write_text(text, encoding="utf-8")
        self.process.wait()

    def _refusal(self) -> str | None:
        """The reason why the run cannot use this folder, or None."""
        file = self.path / "config.yaml"
        if self.resume and self.overwrite:
            return f"{self.path}: {RESUME} and {OVERWRITE} exclude each other; give one"
        if self.path.exists() and not self.path.is_dir():
            return f"{self.path} is a file; give {ELSEWHERE}"
        if self.overwrite and file.exists() and not (self.path / "environment.json").exists():
            return f"{self.path} holds a config.yaml, but no run of manas; give {ELSEWHERE}"
        if self.resume and not file.exists():
            return f"{self.path} holds no run to resume; start it without {RESUME}"
        if self.resume and (difference := self._difference(file)):
            return f"{file} differs from the configuration given{difference}; resume with the run's own"
        if file.exists() and not self.resume and not self.overwrite:
            return f"{self.path} holds a run already; give {RESUME}, {OVERWRITE}, or {ELSEWHERE}"
        return None

    def _difference(self, file: Path) -> str:
        """The first difference between the configuration of the run and the one given; empty if there is none.

        A key that is missing in the run's file, perhaps of an earlier version, counts as its default.
        """
        try:
            own = read_config(type(self.config), file)
        except ManasError as error:
            return f" ({error})"
        before, given = (config.model_dump(mode="json") for config in (own, self.config))
        return "" if before == given else f" ({_first_difference(before, given)})"

    def _clear(self) -> None:
        """Removes the files that a run writes, and no other files of the folder."""
        for name in WRITTEN:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            for unfinished in self.path.glob(f".{path.stem}.*{path.suffix}"):
                unfinished.unlink()


def _first_difference(own: Any, given: Any, key: str = "") -> str:
    """The first key that differs, with both its values: ``data.patch was 64 and is 96``."""
    if isinstance(own, dict) and isinstance(given, dict):
        for name in {**own, **given}:
            if own.get(name) != given.get(name):
                return _first_difference(own.get(name), given.get(name), f"{key}.{name}" if key else name)
    return f"{key} was {own!r} and is {given!r}"


def _as_yaml(config: BaseModel) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _environment() -> str:
    facts = {
        "manas": manas.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "command": sys.argv,
    }
    return json.dumps(facts, indent=2) + "\n"


def versions() -> dict[str, str]:
    """The versions that a genotype or model file names."""
    return {"manas": manas.__version__, "torch": torch.__version__}
