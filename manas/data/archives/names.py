"""The names of folders and files, which tell the part of a picture and the pictures that belong together."""

from __future__ import annotations

import re
from typing import Literal

Role = Literal["clean", "degraded", "mask"]

# Names of folders in the form that `folded` gives them.
CLEAN = ("clean", "target", "gt", "norain", "ground_truth", "groundtruth", "sharp")
DEGRADED = ("input", "lq", "rain", "rainy", "snow", "synthetic", "degraded", "in", "rainy_image")
MASKS = ("mask", "masks")

_CLEAN_MARK = "gt|clean|norain|target"
_DEGRADED_MARK = "in|input|lq|rain|rainy|snow|degraded"
_PREFIX = re.compile(r"^(no-?)?rain([-_]|(?=\d))")
_MARKS = (
    re.compile(r"(?<=\d)x2$"),
    re.compile(r"_s\d{2,3}_a\d\d$"),
    re.compile(rf"[-_]({_CLEAN_MARK}|{_DEGRADED_MARK})$"),
)
_CLEAN_NAME = re.compile(rf"^no-?rain([-_]|(?=\d))|[-_]({_CLEAN_MARK})$")
_DEGRADED_NAME = re.compile(rf"^rain([-_]|(?=\d))|[-_]({_DEGRADED_MARK})$")


def folded(name: str) -> str:
    """A folder's name in one form for comparison: ``Rainy image`` is ``rainy_image``."""
    return name.lower().replace(" ", "_").replace("-", "_")


def pairing_key(stem: str) -> str:
    """The part of a file's name by which it is paired: ``1`` of ``norain-001``, ``rain-1x2`` and ``001_GT``.

    The steps in order: lower case; without the prefix ``norain-`` or ``rain-``; without ``x2`` after a number,
    without ``_s80_a04``, without a mark such as ``_in`` or ``_gt``; a name of digits alone as a number.
    """
    key = _PREFIX.sub("", stem.lower())
    for mark in _MARKS:
        key = mark.sub("", key)
    key = key or stem.lower()
    return str(int(key)) if key.isascii() and key.isdigit() else key


def role_of(stem: str) -> Role | None:
    """The role that a name tells: ``clean`` (``norain-1``, ``1_GT``), ``degraded`` (``rain-1``) or None."""
    if _CLEAN_NAME.search(stem.lower()):
        return "clean"
    return "degraded" if _DEGRADED_NAME.search(stem.lower()) else None
