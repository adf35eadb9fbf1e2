"""Evaluation: models on degraded images with known originals, by a named protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from manas.errors import ManasError
from manas.evaluation.batch import as_batch
from manas.evaluation.measures import Measure, Scores
from manas.evaluation.protocols import Protocol, protocol_named
from manas.evaluation.results import Evaluation
from manas.evaluation.scenes import DegradedScene, Scenes, scenes_for
from manas.evaluation.scores import ImageScores, Key
from manas.inference.restorer import Restorer
from manas.restoration.model_file import model_file

Candidate = Callable[[DegradedScene], np.ndarray]
"""A candidate maps a scene to its restored image, (H, W, 3) uint8; evaluations are of candidates."""


class Judged(NamedTuple):
    """One scene as every candidate restored it, and the scores of that by the names of the measures."""

    scene: DegradedScene
    measures: tuple[Measure, ...]
    before: Scores | None
    restored: tuple[np.ndarray, ...]
    after: tuple[Scores, ...]

    @property
    def key(self) -> Key:
        """The scene's group, level and name, which no other scene has."""
        return Key(*self.scene[:3])


Watch = Callable[[Judged], None]


def evaluate(
    restore: Callable[[np.ndarray], np.ndarray] | str | Path,
    scenes: Iterable[DegradedScene] | str | Path,
    *,
    protocol: str = "derain",
    watch: Watch | None = None,
) -> Evaluation:
    """Restores every scene and scores it before and after.

    Args:
        restore: (H, W, 3) uint8 -> the same, such as a `Restorer`; or the path of a model file or of its run
            directory, which is then loaded by `scoring_restorer`.
        scenes: a folder of pairs; or scenes, as from `manas.evaluation.scenes.scenes_for`.
        protocol: by name, from `manas.evaluation.protocols.PROTOCOLS`.
        watch: is called with every scene when it is scored.

    Raises:
        ManasError: for an unknown protocol, or if there is no scene.
    """
    name = str(model_file(restore)) if isinstance(restore, str | Path) else ""
    if isinstance(restore, str | Path):
        restore = scoring_restorer(restore)
    if isinstance(scenes, str | Path):
        scenes = scenes_for(scenes)
    candidates = {name: candidate(restore)}
    return evaluate_all(candidates, scenes, protocol=protocol, device=scoring_device(restore), watch=watch)[0]


def evaluate_all(
    candidates: Mapping[str, Candidate],
    scenes: Iterable[DegradedScene],
    *,
    protocol: str = "derain",
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> list[Evaluation]:
    """The evaluations of several models by name on the same scenes, each of which is read once.

    Args:
        device: where the scores are taken. Pictures go there as bytes: a file is what is scored.
        candidates, scenes, protocol, watch: see `evaluate`.
    """
    measured_by, images = protocol_named(protocol), []
    for scene in scenes:
        judged = _judged(candidates, scene, measured_by, device)
        images.append([_scores(judged, place) for place in range(len(candidates))])
        if watch:
            watch(judged)
    if not images:
        raise ManasError("nothing to evaluate; give at least one image")
    data = scenes.title if isinstance(scenes, Scenes) else ""
    return [
        Evaluation(protocol, own, data, model)
        for model, own in zip(candidates, zip(*images, strict=True), strict=True)
    ]


def candidate(restore: Callable[[np.ndarray], np.ndarray]) -> Candidate:
    """The candidate that restores the degraded image of a scene by a function of images.

    Raises:
        ManasError: when it is called, for a scene whose degraded image is not there.
    """

    def of_scene(scene: DegradedScene) -> np.ndarray:
        if scene.degraded is None:
            raise ManasError(f"{scene.name}: there is no degraded image of it to restore; give pairs")
        return restore(scene.degraded)

    return of_scene


def scoring_restorer(path: str | Path, **options: Any) -> Restorer:
    """The restorer of a model file whose results are reported: float32, and exactly those of whole images.

    They then depend neither on the precision that suits the machine nor on the memory that makes tiles.

    Args:
        options: any others of `manas.Restorer.load`.
    """
    return Restorer.load(path, precision="float32", statistics="exact", **options)


def scoring_device(restore: Any) -> torch.device:
    """The device of a `Restorer`, unless it computes in no float64; else the CPU."""
    device = getattr(restore, "device", torch.device("cpu"))
    return torch.device("cpu") if device.type == "mps" else device


def _judged(
    candidates: Mapping[str, Candidate], scene: DegradedScene, protocol: Protocol, device: torch.device | str
) -> Judged:
    restored = tuple(restore(scene) for restore in candidates.values())
    before = [] if scene.degraded is None else [scene.degraded]
    try:
        scores = protocol.measure_batch(*as_batch([*before, *restored], scene.clean, device))
    except ManasError as error:
        raise ManasError(f"{Key(*scene[:3])}: {error}") from error
    degraded = scores[0] if before else None
    return Judged(scene, protocol.measures, degraded, restored, tuple(scores[len(before) :]))


def _scores(judged: Judged, place: int) -> ImageScores:
    return ImageScores(*judged.key, judged.before, judged.after[place])
