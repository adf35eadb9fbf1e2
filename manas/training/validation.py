"""Validation during training: PSNR-Y of a network on fixed crops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from manas.architecture.recomputation import RestingBuffers
from manas.data.dataset.crops import Batch
from manas.data.images import write_image
from manas.evaluation.metrics import psnr_y
from manas.reporting.tracking import Tracker
from manas.restoration.network import Restoration
from manas.training.distributed import Precision, Process

HIGHEST_PSNR = 100.0  # identical crops would make a mean infinite


@torch.no_grad()
def validate(
    network: nn.Module,
    batches: Iterable[Batch],
    tasks: Sequence[str],
    process: Process,
    precision: Precision = "float32",
    *,
    training: bool = False,
) -> dict[str, float]:
    """Mean PSNR-Y in dB of the fused output: ``psnr`` over all images, ``psnr/<task>`` over a task's images.

    Args:
        batches: this process's share of the validation crops.
        tasks: names of the tasks, in the order of their numbers in the batches.
        training: whether layers normalise by the statistics of each batch, which are then not remembered.
    """
    # Sums are added up over processes, whose shares may differ in size, so that every image weighs the same.
    totals = torch.zeros(len(tasks), 2, dtype=torch.float32, device=process.device)  # sum of PSNR, images
    network.train(training)
    for batch in batches:
        batch = batch.to(process.device)
        with process.autocast(precision), RestingBuffers(network) if training else nullcontext():
            output = Restoration.of(network(batch.degraded.flatten(0, 1))).fused
        clean = batch.clean[:, None].expand_as(batch.degraded).flatten(0, 1)
        scores = psnr_y(output.float(), clean).clamp(max=HIGHEST_PSNR)  # (B K,)
        places = batch.task.repeat_interleave(batch.degraded.shape[1])
        totals.index_add_(0, places, torch.stack([scores, torch.ones_like(scores)], 1).to(totals.dtype))
    process.sum(totals)
    by_task = {f"psnr/{task}": float(t / n) for task, (t, n) in zip(tasks, totals, strict=True) if n}
    return {"psnr": float(totals[:, 0].sum() / totals[:, 1].sum()), **by_task}


def untouched(batches: Iterable[Batch], tasks: Sequence[str], process: Process) -> dict[str, float]:
    """What the degraded crops score as they are, as `validate` scores them: ``input`` and ``input/<task>``."""
    scores = validate(nn.Identity(), batches, tasks, process)
    return {name.replace("psnr", "input"): score for name, score in scores.items()}


def beside_input(psnr: float, degraded: float) -> str:
    """A score in words, beside that of the input: ``29.42 dB, +0.62 on the input``."""
    return f"{psnr:.2f} dB, {psnr - degraded:+.2f} on the input"


@torch.no_grad()
def sample_sheet(network: nn.Module, batches: Iterable[Batch], process: Process, rows: int = 4) -> np.ndarray:
    """(H, W, 3) uint8: the first validation crops, each a row of degraded | restored | clean."""
    network.eval()
    lines = []
    for batch, _ in zip(batches, range(rows), strict=False):
        batch = batch.to(process.device)
        restored = Restoration.of(network(batch.degraded[:, -1])).fused.float()
        row = torch.cat([batch.degraded[:, -1], restored, batch.clean], 3)[0]  # (3, P, 3 P)
        lines.append(row)
    sheet = torch.cat(lines, 1).clamp(0, 1).permute(1, 2, 0)
    return (sheet * 255 + 0.5).byte().cpu().numpy()  # `byte` cuts off, so a half is added to round


def write_samples(sheet: np.ndarray, folder: Path, tracker: Tracker, epoch: int, step: int) -> None:
    """Writes a sheet of validation crops into the samples of a run and into its TensorBoard images."""
    tracker.image(step, "validation: degraded, restored, clean", sheet)
    write_image(folder / "samples" / f"epoch_{epoch:04d}.png", sheet)
