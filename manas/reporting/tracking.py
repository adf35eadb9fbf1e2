"""Tracking of numbers by name, in TensorBoard and a file of JSON lines that survive an interrupted run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from manas.files import replacing


class Tracker:
    """Writes the numbers, texts and images of one run directory, for the time of a ``with`` block.

    Args:
        directory: the run directory.
        step: the step at which the run goes on; numbers of later steps are cut off.
        enabled: whether to write anything, which the first process alone does.
    """

    def __init__(self, directory: Path, *, step: int = 0, enabled: bool = True):
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter  # here, since it takes long to import

        path = directory / "metrics.jsonl"
        _cut(path, step)
        self.lines = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed at the end of the block)
        self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by name, after `step` steps."""
        if not self.enabled:
            return
        # JSON has no word for NaN and infinity; TensorBoard has, and shows them.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.write(json.dumps({"step": step, **finite}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text, which is shown literally."""
        if self.enabled:
            self.board.add_text(name, f"```\n{text}\n```", step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image (H, W, 3) uint8."""
        if self.enabled:
            self.board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Brings everything written so far onto the disk, as is needed before a checkpoint."""
        if self.enabled:
            os.fsync(self.lines.fileno())
            self.board.flush()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        if self.enabled:
            self.lines.close()
            self.board.close()


def _cut(path: Path, step: int) -> None:
    """Removes the lines after `step`, and a last line that was not completed."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines if step), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        content: Any = json.loads(line)
        return content["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
