"""The run directory: one folder holds everything that a run writes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel

import manas
from manas.errors import ManasError
from manas.training.distributed import Process

WRITTEN = (
    "checkpoint.pt",
    "config.yaml",
    "environment.json",
    "genotype.json",
    "genotypes",
    "last.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "samples",
    "tensorboard",
)


class RunDirectory:
    """A run's folder with its configuration and environment.

    Raises:
        ManasError: if it holds a run and neither `resume` nor `overwrite` is given, if there is nothing to
            resume, or if the configuration is another than the run's.
    """

    def __init__(self, config: BaseModel, path: str, process: Process, *, resume: bool, overwrite: bool):
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.pt"
        self.config = config
        if process.is_first:
            self._open(resume=resume, overwrite=overwrite)
        process.wait()

    @property
    def can_resume(self) -> bool:
        """Whether an interrupted run left a checkpoint here."""
        return self.checkpoint.exists()

    def digest(self) -> str:
        """SHA-256 of the resolved configuration."""
        return hashlib.sha256(_as_yaml(self.config).encode()).hexdigest()

    def _clear(self) -> None:
        """Removes what a run writes, and nothing else that may stand beside it."""
        for name in WRITTEN:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _open(self, *, resume: bool, overwrite: bool) -> None:
        file = self.path / "config.yaml"
        if file.exists() and overwrite:
            self._clear()
        elif file.exists() and not resume:
            raise ManasError(f"{self.path} holds a run already; give --resume, --overwrite, or another run=...")
        elif resume and not file.exists():
            raise ManasError(f"{self.path} holds no run to resume; start it without --resume")
        elif resume and file.read_text(encoding="utf-8") != _as_yaml(self.config):
            raise ManasError(f"{file} differs from the configuration given; resume with the run's own")
        self.path.mkdir(parents=True, exist_ok=True)
        file.write_text(_as_yaml(self.config), encoding="utf-8")
        environment = json.dumps(_environment(), indent=2) + "\n"
        (self.path / "environment.json").write_text(environment, encoding="utf-8")


def _as_yaml(config: BaseModel) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _environment() -> dict[str, Any]:
    return {
        "manas": manas.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "command": sys.argv,
    }


def versions() -> dict[str, str]:
    """The versions that a genotype or model file names."""
    return {"manas": manas.__version__, "torch": torch.__version__}
