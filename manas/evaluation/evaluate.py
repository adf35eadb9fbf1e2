"""Evaluation: a model on degraded images with known originals, by a named protocol."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manas.errors import ManasError
from manas.evaluation.metrics import Scores, protocol_named
from manas.evaluation.scenes import DegradedScene, scenes_for
from manas.reporting.pictures import Row

MOST_ROWS = 12


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image before and after."""

    group: str
    level: str
    name: str
    degraded: Scores
    restored: Scores


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images.

    Attributes:
        protocol: the name of the protocol that both PSNR and SSIM are by.
        images: one entry an image.
    """

    protocol: str
    images: tuple[ImageScores, ...]

    def summary(self, group: str, level: str | None = None) -> dict[str, float]:
        """Means of the per-image values of a group, or of one level of it.

        Images that came out identical to their original have no finite PSNR; they are counted in
        ``identical`` and left out of the means of PSNR.
        """
        chosen = [i for i in self.images if i.group == group and level in (None, i.level)]
        identical = sum(not math.isfinite(i.restored.psnr) for i in chosen)
        return {
            "images": len(chosen),
            "degraded_psnr": _mean(i.degraded.psnr for i in chosen),
            "restored_psnr": _mean(i.restored.psnr for i in chosen),
            "degraded_ssim": _mean(i.degraded.ssim for i in chosen),
            "restored_ssim": _mean(i.restored.ssim for i in chosen),
        } | ({"identical": identical} if identical else {})

    @property
    def levels(self) -> list[tuple[str, str]]:
        """The (group, level) that occur, in order."""
        return list(dict.fromkeys((image.group, image.level) for image in self.images))

    @property
    def groups(self) -> list[str]:
        """The groups that occur, in order."""
        return list(dict.fromkeys(image.group for image in self.images))

    def to_csv(self) -> str:
        """One line an image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        scores = ["degraded_psnr", "restored_psnr", "degraded_ssim", "restored_ssim"]
        writer.writerow(["protocol", "group", "level", "name", *scores])
        for i in self.images:
            values = (i.degraded.psnr, i.restored.psnr, i.degraded.ssim, i.restored.ssim)
            writer.writerow([self.protocol, i.group, i.level, i.name, *(f"{value:.4f}" for value in values)])
        return text.getvalue()


def evaluate(
    restore: Callable[[np.ndarray], np.ndarray] | str | Path,
    scenes: Iterable[DegradedScene] | str | Path,
    *,
    protocol: str = "derain",
    rows: list[Row] | None = None,
) -> Evaluation:
    """Restores every scene and scores it before and after.

    Args:
        restore: (H, W, 3) uint8 -> the same, such as a `Restorer`; or the path of a model file.
        scenes: a folder of pairs; or scenes, as from `manas.evaluation.scenes.scenes_for`.
        protocol: by name, from `manas.evaluation.metrics.PROTOCOLS`.
        rows: if given, rows for `manas.reporting.pictures.before_after` are appended, up to `MOST_ROWS`.

    Raises:
        ManasError: for an unknown protocol, or if there is no scene.
    """
    if isinstance(restore, str | Path):
        from manas.inference.restore import Restorer

        restore = Restorer.load(restore)
    if isinstance(scenes, str | Path):
        scenes = scenes_for(scenes)
    measure = protocol_named(protocol).measure
    images = []
    for scene in scenes:
        restored = restore(scene.degraded)
        before, after = measure(scene.degraded, scene.clean), measure(restored, scene.clean)
        images.append(ImageScores(scene.group, scene.level, scene.name, before, after))
        if rows is not None and len(rows) < MOST_ROWS:
            caption = f"{scene.level} {scene.group}, {scene.name}"
            notes = (_note(before), _note(after), "")
            rows.append(Row(caption, scene.degraded, restored, scene.clean, notes))
    if not images:
        raise ManasError("nothing to evaluate; give at least one image")
    return Evaluation(protocol, tuple(images))


def table(evaluation: Evaluation) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Headings and rows for people: one row a level, then one a group that has several."""
    headings = ("", "images", "PSNR degraded", "restored", "SSIM degraded", "restored")
    rows: list[Sequence[str]] = []
    for group in evaluation.groups:
        levels = [level for of, level in evaluation.levels if of == group]
        rows += [_line(f"{group}, {level}", evaluation.summary(group, level)) for level in levels]
        if len(levels) > 1:
            rows.append(_line(group, evaluation.summary(group)))
    return headings, rows


def _line(name: str, s: dict[str, float]) -> Sequence[str]:
    psnr = (f"{s['degraded_psnr']:.2f} dB", f"{s['restored_psnr']:.2f} dB")
    return (name, str(s["images"]), *psnr, f"{s['degraded_ssim']:.4f}", f"{s['restored_ssim']:.4f}")


def _note(scores: Scores) -> str:
    return f"{scores.psnr:.2f} dB, SSIM {scores.ssim:.3f}"


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.inf
