"""Checkpoints: everything that a run needs to go on exactly, readable without running code."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import torch

from manas.errors import ManasError
from manas.files import replacing
from manas.training.distributed import Process

FORMAT = "manas.checkpoint/1"


def save_checkpoint(path: Path, process: Process, state: dict[str, Any]) -> None:
    """Writes the state of a run and the random states of all processes; an interruption leaves the old file."""
    # All processes take part, so this stands before the branch that the first one alone enters.
    randomness = process.gather(_random_state(process.device))
    if process.is_first:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, "random": randomness, **state}, file)
            file.flush()
            # The rename must not reach the disk before the bytes do, or a power cut leaves an empty checkpoint.
            os.fsync(file.fileno())
    process.wait()


def load_checkpoint(path: Path, process: Process | None = None) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, and restores the random state of `process` if it is given.

    Raises:
        ManasError: for a file that is missing, damaged, or no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ManasError(f"{path}: no such file; give the checkpoint.pt of a run") from error
    except Exception as error:  # torch's reader raises whatever damage makes it trip over
        raise ManasError(f"{path}: damaged or not a checkpoint; start again with --overwrite") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ManasError(f"{path}: not a checkpoint of this version ({FORMAT}); give one that it wrote")
    if process is not None:
        # A run may go on with more processes than it was saved with.
        _restore_random_state(state["random"][process.rank % len(state["random"])])
    return state


def _random_state(device: torch.device) -> dict[str, Any]:
    state = {"torch": torch.get_rng_state(), "python": random.getstate()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
