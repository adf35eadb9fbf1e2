"""Genotypes from checkpoints of searches that other programs ran.

Such a file comes from someone else, so nothing but tensors and plain values is unpickled. The space interprets
its content (`SearchSpace.imported`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from manas.architecture.genotype import Genotype
from manas.architecture.space import Reading, SearchSpace
from manas.cost.selection import argmax, most_probable
from manas.errors import ManasError, nearest
from manas.training.run import versions

# The words by which torch says that a pickle names something to import or to call.
ASKS_FOR_CODE = re.compile(r"GLOBAL|Trying to call|Can only (build|create)")


def import_checkpoint(path: str | Path, space: SearchSpace, reading: str = "searched") -> Genotype:
    """Reads the genotype that a checkpoint holds.

    Args:
        path: a file that `torch.save` wrote.
        space: the space that was searched.
        reading: ``searched`` takes the most probable candidate of every fork, except that no node loses its
            last input; ``released`` takes exactly the network that the other program derived.

    Raises:
        ManasError: for a file that cannot be read, or does not fit the space.
    """
    if reading not in get_args(Reading):
        raise ManasError(f"no reading {reading!r} of a checkpoint; {nearest(reading, get_args(Reading))}")
    content = content_of(Path(path))
    try:
        probabilities = space.imported(content, reading)  # type: ignore[arg-type]
    except ManasError as error:
        raise ManasError(f"{path}: {error}") from error
    select = argmax if reading == "searched" else most_probable
    provenance = versions() | {"imported_from": Path(path).name, "reading": reading}
    shared = {"rows_shared": True} if reading == "released" else {}
    return Genotype(space=space, choices=select(space, probabilities), provenance=provenance | shared)


def content_of(path: Path) -> Mapping[str, Any]:
    """Reads the mapping in a file of `torch.save`; ManasError for any other file, or if it would run code."""
    try:
        with warnings.catch_warnings():  # torch warns about pickles before it refuses them
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ManasError(f"{path}: cannot be read ({error.strerror}); give a checkpoint file") from error
    except Exception as error:  # torch's reader raises whatever damage makes it trip over
        raise ManasError(f"{path}: {_complaint(error)}") from error
    if not isinstance(content, Mapping):
        raise ManasError(f"{path}: holds a {type(content).__name__}; give a checkpoint, a mapping by name")
    return content


def _complaint(error: Exception) -> str:
    if ASKS_FOR_CODE.search(str(error)):
        return (
            "refused, since reading it would run code from the file; where you trust it, load it yourself and "
            "torch.save a dict of its tensors alone, of a search arch_param and auto_param"
        )
    return "damaged or not a checkpoint; give a file that torch.save wrote, with its own pickle protocol"
