"""Tracking: numbers by name into TensorBoard and a file of JSON lines, which survive an interrupted run."""

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
        directory: of the run.
        step: where the run goes on; what was written after it is cut off.
        enabled: False writes nothing (all processes but the first).
    """

    def __init__(self, directory: Path, *, step: int = 0, enabled: bool = True):
        self.enabled = enabled
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = directory / "metrics.jsonl"
        _cut(path, step)
        self.lines = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed at the end of the block)
        self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name after `step` steps."""
        if not self.enabled:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.write(json.dumps({"step": step, **finite}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        """A text, shown as it is."""
        if self.enabled:
            self.board.add_text(name, f"```\n{text}\n```", step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An image (H, W, 3) uint8."""
        if self.enabled:
            self.board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Everything so far is on disk afterwards; called before a checkpoint is written."""
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
        """Ends the files."""
        if self.enabled:
            self.lines.close()
            self.board.close()


def _cut(path: Path, step: int) -> None:
    """Keeps the lines up to `step`; a last line that was torn off goes too."""
    if not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept if step), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        content: Any = json.loads(line)
        return content["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
