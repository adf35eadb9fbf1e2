"""The backgrounds of published training sets that are in the test set of the same name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from manas.data.archives.index import Scene

OUTDOOR_RAIN_TEST = range(301, 351)
RAIN_TRAIN_H = 1800


def without_test_backgrounds(layout: str, scenes: Sequence[Scene]) -> tuple[list[Scene], list[str]]:
    """The scenes that are not in the set's own test set, as far as names tell, and sentences about the others.

    In Outdoor-Rain these are the backgrounds 301 to 350 (WeatherDiffusion asserts the 8250 images that remain).
    A set of these backgrounds alone is that test set, and keeps them.
    """
    if layout != "outdoor_rain":
        return list(scenes), []
    rest = [scene for scene in scenes if _number(scene.name) not in OUTDOOR_RAIN_TEST]
    left_out = len(scenes) - len(rest)
    if not rest or not left_out:
        return list(scenes), []
    return rest, [f"left out {left_out} backgrounds, 301 to 350: they are the test set of Outdoor-Rain"]


def warnings_about(layout: str, scenes: Sequence[Scene], root: Path) -> list[str]:
    """Sentences about test backgrounds in a training set that names do not tell."""
    if layout != "rain100" or len(scenes) != RAIN_TRAIN_H:
        return []
    return [
        f"{root}: this is RainTrainH, and 546 of its 1800 backgrounds are in the test set of Rain100H "
        "(README of PReNet); no list of their numbers is published: leave them out with the source's "
        "exclude: [ROOT of Rain100H]"
    ]


def _number(name: str) -> int | None:
    digits = re.search(r"(\d+)$", name)
    return int(digits[1]) if digits else None
