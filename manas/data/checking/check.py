"""What a data set is, and what is wrong with it: files, pairs, backgrounds twice in it or in two sets."""

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

from manas.data.archives import Archive, Fingerprint, Picture, Problem, Scene, fingerprint
from manas.data.archives.checks import Size, other_size
from manas.data.archives.index import Kind
from manas.data.checking.matching import Match, matches
from manas.data.checking.signature import Signature, signature
from manas.data.images import read_image
from manas.errors import ManasError

Scores = Mapping[str, float]
Scoring = Callable[[np.ndarray, np.ndarray], Scores]
"""Scores of two images (H, W, 3) uint8 by name, as `manas.evaluation.protocols.Protocol.measure` gives them."""


class InputScores(NamedTuple):
    """The input of one level against its target, by the names of the scores."""

    images: int
    identical: Mapping[str, int]  # among them; their infinite value is left out of the mean
    means: Mapping[str, float]  # of per-image values; infinite where all are


@dataclass(frozen=True)
class Check:
    """What was found in one data set.

    Attributes:
        archive: its index, with the problems that names and headers show.
        in_pixels: problems that only decoding shows: files that cannot be decoded, that come out in another
            size than their clean picture, or that are too small to be scored.
        scores: by level.
        scored: scenes that the scores are of.
        signatures: by scene.
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
        """All that is wrong with files."""
        return (*self.archive.problems, *self.in_pixels)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems and not self.twice


class Leaks(NamedTuple):
    """Backgrounds that two sets share; `Match.first` is of the one, `Match.second` of the other."""

    one: Check
    other: Check
    matches: tuple[Match, ...]


class _Seen(NamedTuple):
    """What decoding one scene showed."""

    signature: Signature | None
    problems: list[Problem]
    scores: dict[str, Scores]


def check(
    archive: Archive,
    measure: Scoring,
    *,
    scored: int = 200,
    after_each: Callable[[int, int], None] | None = None,
) -> Check:
    """Decodes every picture of a data set, and says what is in it.

    Args:
        archive: as `manas.data.archives.inspect_archive` reads it.
        measure: scores the inputs against their targets.
        scored: scenes to score, spread evenly over the set.
        after_each: called with the numbers of scenes done and of all.
    """
    scenes = archive.scenes
    chosen = set(np.linspace(0, len(scenes) - 1, min(scored, len(scenes))).astype(int))
    measures = [measure if place in chosen else None for place in range(len(scenes))]
    seen: list[_Seen] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # every reader does so for a while, but threads share the filters
        for result in pool.map(_look, scenes, measures):
            seen.append(result)
            if after_each:
                after_each(len(seen), len(scenes))
    signatures: dict[Hashable, Signature] = {
        scene.name: each.signature
        for scene, each in zip(scenes, seen, strict=True)
        if each.signature is not None
    }
    return Check(
        archive=archive,
        fingerprint=fingerprint(archive),
        in_pixels=tuple(dict.fromkeys(problem for each in seen for problem in each.problems)),
        scores=_means(each.scores for each in seen),
        scored=len(chosen),
        signatures=signatures,
        twice=tuple(matches(signatures, signatures)),
    )


def leaks(checks: Sequence[Check]) -> list[Leaks]:
    """The backgrounds that any two of the sets share."""
    found = (
        Leaks(one, other, tuple(matches(one.signatures, other.signatures)))
        for one, other in combinations(checks, 2)
    )
    return [each for each in found if each.matches]


def _look(scene: Scene, measure: Scoring | None) -> _Seen:
    problems: list[Problem] = []
    decode = lru_cache(maxsize=1)(read_image)  # the halves of a file come out of one decoding
    clean = _decoded(scene.clean, decode, problems)
    scores = {}
    for level, picture in scene.degraded.items():
        degraded = _decoded(picture, decode, problems)
        if clean is None or degraded is None:
            continue
        if degraded.shape != clean.shape:
            problems.append(other_size(picture, _size(degraded), scene.clean, _size(clean)))
        elif measure:
            with _noted("size", picture, problems):  # too small for it
                scores[level] = measure(degraded, clean)
    for mask in scene.masks.values():
        _decoded(mask, decode, problems)
    return _Seen(None if clean is None else signature(clean), problems, scores)


def _decoded(
    picture: Picture, decode: Callable[[Path], np.ndarray], problems: list[Problem]
) -> np.ndarray | None:
    with _noted("unreadable", picture, problems):
        return picture.of(decode(picture.path))
    return None


@contextmanager
def _noted(kind: Kind, picture: Picture, problems: list[Problem]) -> Iterator[None]:
    """What is wrong inside becomes a problem of the file."""
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
