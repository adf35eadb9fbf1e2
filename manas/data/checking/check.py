"""The check of data sets: problems of files and pairs, and backgrounds that occur twice in one or two sets."""

from __future__ import annotations

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np

from manas.data.archives import Archive, Fingerprint, Problem, Scene, StoredImage, fingerprint
from manas.data.archives.checks import Size, other_size
from manas.data.archives.index import Kind
from manas.data.checking.matching import Match, matches
from manas.data.checking.signature import Signature, signature
from manas.data.images import read_image
from manas.errors import ManasError
from manas.reach import Reach

Scores = Mapping[str, float]
Scoring = Callable[[np.ndarray, np.ndarray], Scores]
"""Scores of two images (H, W, 3) uint8 by name, as `manas.evaluation.protocols.Protocol.measure` gives them."""


class InputScores(NamedTuple):
    """The scores of the degraded pictures of one level against the clean ones, by the names of the scores.

    Attributes:
        images: number of images.
        identical: number of images with an infinite score, which equal the clean one; the mean leaves it out.
        means: means of per-image values; infinite if all values are.
    """

    images: int
    identical: Mapping[str, int]
    means: Mapping[str, float]


@dataclass(frozen=True)
class Check:
    """The result of checking one data set.

    Attributes:
        archive: its index, with the problems that names and headers show.
        fingerprint: its identity.
        in_pixels: problems that only decoding shows: files that cannot be decoded, whose pixels have another
            size than their clean picture, or that are too small to be scored.
        scores: scores of the degraded pictures by level.
        scored: number of scenes that were scored.
        signatures: signatures of the clean pictures by scene.
        twice: pairs of scenes that have one background.
    """

    archive: Archive
    fingerprint: Fingerprint
    in_pixels: tuple[Problem, ...]
    scores: Mapping[str, InputScores]
    scored: int
    signatures: Mapping[Hashable, Signature]
    twice: tuple[Match, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems of files."""
        return (*self.archive.problems, *self.in_pixels)

    @property
    def sound(self) -> bool:
        """Whether there is neither a problem nor a background twice."""
        return not self.problems and not self.twice


class Leaks(NamedTuple):
    """Backgrounds that two sets share; `Match.first` is a scene of `one`, `Match.second` one of `other`."""

    one: Check
    other: Check
    matches: tuple[Match, ...]


class _Inspection(NamedTuple):
    """The result of decoding one scene."""

    signature: Signature | None
    problems: list[Problem]
    scores: dict[str, Scores]


def check(
    archive: Archive,
    measure: Scoring,
    *,
    scored: int = 200,
    progress: Reach | None = None,
) -> Check:
    """Decodes every picture of a data set, and reports its problems, scores and repeated backgrounds.

    Args:
        archive: an archive that `manas.data.archives.inspect_archive` has read.
        measure: scores the degraded pictures against the clean ones.
        scored: number of scenes to score, spread evenly over the set.
        progress: called after each scene with the number of scenes done and the number of all scenes.
    """
    scenes = archive.scenes
    chosen = set(np.linspace(0, len(scenes) - 1, min(scored, len(scenes))).astype(int))
    measures = [measure if place in chosen else None for place in range(len(scenes))]
    inspections: list[_Inspection] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Each reader of a file silences warnings and restores the filters, but the threads share these filters.
        warnings.simplefilter("ignore")
        for inspection in pool.map(_inspect, scenes, measures):
            inspections.append(inspection)
            if progress:
                progress(len(inspections), len(scenes))
    signatures: dict[Hashable, Signature] = {
        scene.name: each.signature
        for scene, each in zip(scenes, inspections, strict=True)
        if each.signature is not None
    }
    return Check(
        archive=archive,
        fingerprint=fingerprint(archive),
        # Without repetitions: both halves of a damaged file have the same problem.
        in_pixels=tuple(dict.fromkeys(problem for each in inspections for problem in each.problems)),
        scores=_means(each.scores for each in inspections),
        scored=len(chosen),
        signatures=signatures,
        twice=tuple(matches(signatures, signatures)),
    )


def leaks(checks: Sequence[Check]) -> list[Leaks]:
    """The backgrounds that any two of the sets share."""
    of_pairs = (
        Leaks(one, other, tuple(matches(one.signatures, other.signatures)))
        for one, other in combinations(checks, 2)
    )
    return [each for each in of_pairs if each.matches]


def _inspect(scene: Scene, measure: Scoring | None) -> _Inspection:
    problems: list[Problem] = []
    decode = lru_cache(maxsize=1)(read_image)  # the halves of a file come out of one decoding
    clean = _decode(scene.clean, decode, problems)
    scores = {}
    for level, picture in scene.degraded.items():
        degraded = _decode(picture, decode, problems)
        if clean is None or degraded is None:
            continue
        if degraded.shape != clean.shape:
            problems.append(other_size(picture, _size(degraded), scene.clean, _size(clean)))
        elif measure:
            with _recording("size", picture, problems):  # a picture may be too small for SSIM
                scores[level] = measure(degraded, clean)
    for mask in scene.masks.values():
        _decode(mask, decode, problems)
    return _Inspection(None if clean is None else signature(clean), problems, scores)


def _decode(
    picture: StoredImage, decode: Callable[[Path], np.ndarray], problems: list[Problem]
) -> np.ndarray | None:
    with _recording("unreadable", picture, problems):
        return picture.of(decode(picture.path))
    return None


@contextmanager
def _recording(kind: Kind, picture: StoredImage, problems: list[Problem]) -> Iterator[None]:
    """Records a ManasError within the block as a problem of the picture's file."""
    try:
        yield
    except ManasError as error:
        problems.append(Problem(kind, picture.path, str(error).replace(str(picture.path), "it")))


def _size(image: np.ndarray) -> Size:
    return image.shape[1], image.shape[0]


def _means(scores: Iterable[Mapping[str, Scores]]) -> dict[str, InputScores]:
    by_level: dict[str, list[Scores]] = defaultdict(list)
    for of_scene in scores:
        for level, of_image in of_scene.items():
            by_level[level].append(of_image)
    return {level: _mean(of_images) for level, of_images in by_level.items()}


def _mean(scores: Sequence[Scores]) -> InputScores:
    values = {name: [each[name] for each in scores] for name in scores[0]}
    finite = {name: list(filter(math.isfinite, of_name)) for name, of_name in values.items()}
    return InputScores(
        len(scores),
        {name: len(scores) - len(of_name) for name, of_name in finite.items()},
        {name: mean(of_name or values[name]) for name, of_name in finite.items()},
    )
