"""The probabilities that a checkpoint of the released MANAS search has for the forks of this space.

`arch_param` has a row for every column, cell by cell. `auto_param` has a row for every edge of the attention
modules, cell by cell, branch by branch, and in a module in the order of MANAS eq. 2: node0/input, node1/input,
node1/node0. Rows are logits over the candidates. ``best_*.pt`` hold each as a tensor, ``last_weights.pt`` as a
list with that tensor in it.

The released code does not derive the network that it searched: the cells take three rows of `auto_param` after
three, and all branches of a cell share them, so that 18 of 27 rows are never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from manas.architecture.space import Reading
from manas.errors import ManasError
from search_spaces.multi_scale_attentive.columns import PUBLISHED_COLUMNS
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES

COLUMNS = tuple(PUBLISHED_COLUMNS)
PRIMITIVES = tuple(PUBLISHED_GATES)
MOST_KEYS_NAMED = 8


def probabilities(
    choices: Mapping[str, tuple[str, ...]], checkpoint: Mapping[str, Any], reading: Reading
) -> dict[str, dict[str, float]]:
    """The softmax of the row of every fork: label -> candidate -> p.

    Args:
        choices: of the space, label -> candidates.
        checkpoint: the content of the file.
        reading: as of `SearchSpace.imported`.

    Raises:
        ManasError: for a space with other gates or columns than the released code, and for a checkpoint in
            which a table is missing, of another shape than the forks of the space, or not finite.
    """
    columns = [label for label in choices if "/column" in label]
    edges = [label for label in choices if "/branch" in label]
    _require_released("gates", edges, choices, PRIMITIVES)
    _require_released("columns", columns, choices, COLUMNS)
    of_columns = _softmax(checkpoint, "arch_param", len(columns), COLUMNS)
    of_edges = _softmax(checkpoint, "auto_param", len(edges), PRIMITIVES)
    if reading == "released":
        of_edges = [of_edges[row] for row in _rows_read(edges)]
    return dict(zip(columns, of_columns, strict=True)) | dict(zip(edges, of_edges, strict=True))


def _require_released(
    what: str, labels: Sequence[str], choices: Mapping[str, tuple[str, ...]], released: tuple[str, ...]
) -> None:
    for names in {choices[label] for label in labels}:
        if set(names) != set(released):
            raise ManasError(
                f"the space has the {what} {', '.join(names)}, and the released search has "
                f"{', '.join(released)}; give a space with those"
            )


def _rows_read(edges: Sequence[str]) -> list[int]:
    """The row of `auto_param` that the released code takes for each edge; branches of a cell share theirs."""
    rows: list[int] = []
    for (cell, _branch), labels in groupby(edges, lambda label: label.split("/")[:2]):
        module = len(list(labels))
        rows += [int(cell.removeprefix("cell")) * module + edge for edge in range(module)]
    return rows


def _softmax(
    checkpoint: Mapping[str, Any], key: str, rows: int, names: tuple[str, ...]
) -> list[dict[str, float]]:
    if rows == 0 and key not in checkpoint:
        return []
    table = _table(checkpoint, key, (rows, len(names)))
    return [dict(zip(names, row, strict=True)) for row in table.softmax(1).tolist()]


def _table(checkpoint: Mapping[str, Any], key: str, shape: tuple[int, int]) -> Tensor:
    """The logits under a key as a table of `shape`, float64."""
    if key not in checkpoint:
        raise ManasError(f"no {key!r} in the checkpoint; it has {_some(checkpoint)}")
    try:
        table = torch.tensor(_plain(checkpoint[key]), dtype=torch.float64)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ManasError(f"{key!r} is no table of numbers ({error}); expected {_by(shape)}") from error
    while table.ndim > len(shape) and len(table) == 1:
        table = table[0]
    if table.shape != shape:
        raise ManasError(
            f"{key!r} is {_by(table.shape)}, but the forks of the space need {_by(shape)}; give the space that "
            "was searched with --space"
        )
    broken = [str(row) for row, values in enumerate(table) if not values.isfinite().all()]
    if broken:
        raise ManasError(f"{key!r} is NaN or infinite in row {', '.join(broken)}; give an earlier checkpoint")
    return table


def _plain(value: Any) -> Any:
    """Tensors, and those in lists, as lists of numbers."""
    if isinstance(value, Tensor):
        return value.tolist()
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _some(checkpoint: Mapping[str, Any]) -> str:
    keys = [repr(key) for key in checkpoint]
    more = len(keys) - MOST_KEYS_NAMED
    return ", ".join(keys[:MOST_KEYS_NAMED]) + (f" and {more} more" if more > 0 else "") or "no keys"
