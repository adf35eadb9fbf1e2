"""The images of two evaluations in pairs, and the checks that they are the same images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from manas.errors import ManasError
from manas.evaluation.measures import Measure
from manas.evaluation.results import Evaluation
from manas.evaluation.scores import ImageScores, Key, counted


def shared_measures(one: Evaluation, other: Evaluation) -> list[Measure]:
    """The measures that both have, in the order of their protocol.

    Raises:
        ManasError: if they are not by one protocol, or have no measure in common.
    """
    if one.protocol != other.protocol:
        raise ManasError(
            f"{one.model} is scored by protocol {one.protocol}, {other.model} by {other.protocol}: "
            "score both by one"
        )
    shared = [measure for measure in one.measures if measure in other.measures]
    if not shared:
        raise ManasError(f"{one.model} and {other.model} have no measure in common: score both again")
    return shared


def partners(one: Evaluation, other: Evaluation, measure: Measure) -> Mapping[Key, ImageScores]:
    """The images of `other` by their keys, which are those of `one`.

    Args:
        measure: says whether two degraded images are the same, where they are known.

    Raises:
        ManasError: for an image that one of them lacks or has twice, or whose degraded image is another.
    """
    second = _by_key(other)
    first = _by_key(one)
    _check_same_keys(one, other, first, second)
    # Further apart than a tenth of the last digit that is written, two inputs are not the same picture.
    limit = 10 ** -(measure.digits + 1)
    for key, image in first.items():
        before, after = _input(image, measure), _input(second[key], measure)
        if abs(before - after) > limit:
            raise ManasError(
                f"{key}: the input has {measure.with_unit(before)} in {one.model} and "
                f"{measure.with_unit(after)} in {other.model}: score both on the same images"
            )
    return second


def _by_key(evaluation: Evaluation) -> dict[Key, ImageScores]:
    twice = [key for key, number in Counter(image.key for image in evaluation.images).items() if number > 1]
    if twice:
        raise ManasError(
            f"{evaluation.model}: {twice[0]} is there twice ({counted(len(twice))} in all); leave one of each"
        )
    return {image.key: image for image in evaluation.images}


def _check_same_keys(
    one: Evaluation, other: Evaluation, first: Mapping[Key, ImageScores], second: Mapping[Key, ImageScores]
) -> None:
    for has, lacks, missing in (
        (one, other, [key for key in first if key not in second]),
        (other, one, [key for key in second if key not in first]),
    ):
        if missing:
            raise ManasError(
                f"{lacks.model}: {missing[0]} is missing, which {has.model} has "
                f"({counted(len(missing))} in all); score both on the same images"
            )


def _input(image: ImageScores, measure: Measure) -> float:
    """The value of the degraded image; NaN, which differs from no other value, where it is unknown."""
    return image.degraded[measure.name] if image.degraded else math.nan
