"""The scores of every image as CSV, written and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from manas.errors import ManasError
from manas.evaluation.protocols import Scores
from manas.evaluation.results import Evaluation, ImageScores

NAMES = ("protocol", "group", "level", "name")
SCORES = ("degraded_psnr", "restored_psnr", "degraded_ssim", "restored_ssim")
ORIGIN = ("data", "model")  # may be missing


def written(evaluation: Evaluation) -> str:
    """See `Evaluation.to_csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*NAMES, *SCORES, *ORIGIN])
    for image in evaluation.images:
        before, after = image.degraded or ("", ""), image.restored
        scores = (before[0], after.psnr, before[1], after.ssim)
        cells = [score if score == "" else f"{score:.6f}" for score in scores]
        writer.writerow([evaluation.protocol, *image.key, *cells, evaluation.data, evaluation.model])
    return text.getvalue()


def read(path: Path) -> Evaluation:
    """See `Evaluation.from_csv`."""
    rows = _rows(path)
    protocol, data, model = (_only(path, rows, column) for column in ("protocol", *ORIGIN))
    images = tuple(_image(path, line, row) for line, row in enumerate(rows, start=2))
    return Evaluation(protocol, images, data, model)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except OSError as error:
        raise ManasError(f"{path}: cannot be read ({error.strerror}); give a CSV file of scores") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ManasError(f"{path}: not a CSV file ({error}); give one of manas evaluate --csv") from error
    missing = [column for column in (*NAMES, *SCORES) if not rows or rows[0].get(column) is None]
    if missing:
        raise ManasError(
            f"{path}: {f'no column {missing[0]!r}' if rows else 'no scores'} in it; "
            "give a file that manas evaluate --csv wrote"
        )
    return rows


def _only(path: Path, rows: Sequence[dict[str, str]], column: str) -> str:
    """The one value of a column that says the same in every line."""
    values = list(dict.fromkeys(row.get(column) or "" for row in rows))
    if len(values) > 1:
        raise ManasError(
            f"{path}: scores of {len(values)} in the column {column!r}: {values[0]}, {values[1]}; "
            "give a file of one"
        )
    return values[0]


def _image(path: Path, line: int, row: dict[str, str]) -> ImageScores:
    before = None if row["degraded_psnr"] == "" else _scores(path, line, row, "degraded")
    after = _scores(path, line, row, "restored")
    return ImageScores(row["group"], row["level"], row["name"], before, after)


def _scores(path: Path, line: int, row: dict[str, str], which: str) -> Scores:
    try:
        return Scores(*(float(row[f"{which}_{measure}"]) for measure in Scores._fields))
    except (TypeError, ValueError) as error:
        raise ManasError(
            f"{path}, line {line}: the scores {which} are not two numbers; mend the line"
        ) from error
