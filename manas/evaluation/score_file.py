"""The scores of every image as CSV, written and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from manas.errors import ManasError
from manas.evaluation.measures import Scores
from manas.evaluation.protocols import protocol_named
from manas.evaluation.scores import ImageScores

NAMES = ("protocol", "group", "level", "name")
ORIGIN = ("data", "model")  # may be missing
_NUMBERS = {1: "a number", 2: "two numbers"}


class ScoreFile(NamedTuple):
    """The content of a file; its fields are those of `manas.evaluation.results.Evaluation`."""

    protocol: str
    images: tuple[ImageScores, ...]
    data: str
    model: str


def text_of(scored: ScoreFile, measures: Sequence[str]) -> str:
    """One line an image; the columns are two a measure, the value before restoring and after it.

    Args:
        measures: their names.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NAMES, *(column for measure in measures for column in _columns(measure)), *ORIGIN])
    for image in scored.images:
        scores = (each.get(measure) for measure in measures for each in (image.degraded or {}, image.restored))
        cells = ("" if score is None else f"{score:.6f}" for score in scores)
        writer.writerow([scored.protocol, *image.key, *cells, scored.data, scored.model])
    return text.getvalue()


def read(path: Path) -> ScoreFile:
    """The scores that `text_of` wrote into a file.

    Raises:
        ManasError: if it is no such file, or is of several protocols or models, or of an unknown protocol.
    """
    rows = _rows(path)
    protocol, data, model = (_only(path, rows, column) for column in ("protocol", *ORIGIN))
    measures = _measures(path, rows[0], protocol)
    images = tuple(_image(path, line, row, measures) for line, row in enumerate(rows, start=2))
    return ScoreFile(protocol, images, data, model)


def _columns(measure: str) -> tuple[str, str]:
    return f"degraded_{measure}", f"restored_{measure}"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except OSError as error:
        raise ManasError(f"{path}: cannot be read ({error.strerror}); give a CSV file of scores") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManasError(f"{path}: not a CSV file ({error}); give one of manas evaluate --csv") from error
    if not rows:
        raise ManasError(f"{path}: no scores in it; give a file that manas evaluate --csv wrote")
    _check_columns(path, rows[0], NAMES)
    return rows


def _check_columns(path: Path, row: dict[str, str], columns: Iterable[str]) -> None:
    missing = next((column for column in columns if row.get(column) is None), None)
    if missing:
        raise ManasError(f"{path}: no column {missing!r} in it; give a file that manas evaluate --csv wrote")


def _only(path: Path, rows: Sequence[dict[str, str]], column: str) -> str:
    """The one value of a column that says the same in every line."""
    values = list(dict.fromkeys(row.get(column) or "" for row in rows))
    if len(values) > 1:
        raise ManasError(
            f"{path}: scores of {len(values)} in the column {column!r}: {values[0]}, {values[1]}; "
            "give a file of one"
        )
    return values[0]


def _measures(path: Path, row: dict[str, str], protocol: str) -> list[str]:
    """The names of the measures in a file, which may be older than one of its protocol."""
    try:
        names = [measure.name for measure in protocol_named(protocol).measures]
    except ManasError as error:
        raise ManasError(f"{path}: {error}") from error
    there = [name for name in names if any(row.get(column) is not None for column in _columns(name))]
    _check_columns(path, row, (column for name in there or names for column in _columns(name)))
    return there


def _image(path: Path, line: int, row: dict[str, str], measures: Sequence[str]) -> ImageScores:
    known = row[f"degraded_{measures[0]}"] != ""
    before = _scores(path, line, row, "degraded", measures) if known else None
    after = _scores(path, line, row, "restored", measures)
    return ImageScores(row["group"], row["level"], row["name"], before, after)


def _scores(path: Path, line: int, row: dict[str, str], which: str, measures: Sequence[str]) -> Scores:
    try:
        return {measure: float(row[f"{which}_{measure}"]) for measure in measures}
    except (TypeError, ValueError) as error:
        numbers = _NUMBERS.get(len(measures), f"{len(measures)} numbers")
        raise ManasError(f"{path}, line {line}: the scores {which} are not {numbers}; mend the line") from error
