"""Before and after: degraded, restored and clean pictures side by side, as one file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from manas.data.images import write_image
from manas.errors import ManasError

HEADINGS = ("degraded", "restored", "clean")
MARGIN = 12
NARROWEST = 120  # pixels of a column, so that headings and captions of small pictures can be read

_BLACK, _GREY, _WHITE = (0, 0, 0), (90, 90, 90), (255, 255, 255)
_TITLE, _NOTE = 17, 14


class Row(NamedTuple):
    """One scene: pictures of one size, (H, W, 3) uint8, with a caption and notes.

    The caption stands above the row ("light rain"), each note below its picture ("24.1 dB").
    """

    caption: str
    pictures: Sequence[np.ndarray]
    notes: Sequence[str] = ()


def before_after(
    rows: Sequence[Row],
    path: str | Path,
    *,
    headings: Sequence[str] = HEADINGS,
    title: str = "",
    width: int = 320,
) -> Path:
    """Writes a grid of pictures on white, one scene a row, headings above; returns its path.

    Pictures wider than `width` pixels are scaled down to it in proportion, smaller ones are left as they are.
    The title stands above all rows.

    Raises:
        ManasError: if there is no row, if a row has not one picture for each heading, all of one size, or if
            the file cannot be written.
    """
    _check(rows, headings, width)
    column = max(NARROWEST, min(width, max(row.pictures[0].shape[1] for row in rows)))
    bands = [_headings(headings, column)] + [_band(row, width, column) for row in rows]
    bands = [_title(title, bands[0].width), *bands] if title else bands
    page = Image.new("RGB", (bands[0].width, sum(band.height for band in bands) + MARGIN), _WHITE)
    top = 0
    for band in bands:
        page.paste(band, (0, top))
        top += band.height
    return write_image(path, np.asarray(page))


def _check(rows: Sequence[Row], headings: Sequence[str], width: int) -> None:
    if not rows:
        raise ManasError("a before-and-after grid needs at least one row of pictures: give one")
    if width < 1:
        raise ManasError(f"the width of a picture must be at least 1 pixel, got {width}: give a larger width")
    for row in rows:
        shapes = {picture.shape for picture in row.pictures}
        shape = next(iter(shapes), ())
        alike = len(shapes) == 1 and len(row.pictures) == len(headings)
        eight_bit = all(picture.dtype == np.uint8 for picture in row.pictures)
        if not alike or len(shape) != 3 or shape[2] != 3 or 0 in shape or not eight_bit:
            shapes_given = ", ".join(f"{picture.dtype} {picture.shape}" for picture in row.pictures)
            raise ManasError(
                f"the row {row.caption!r} needs {len(headings)} uint8 pictures of one shape (H, W, 3), "
                f"got {shapes_given or 'none'}"
            )


def _title(title: str, width: int) -> Image.Image:
    band = Image.new("RGB", (width, _line(_NOTE) + MARGIN), _WHITE)
    _write(band, (MARGIN, MARGIN), title, _NOTE, _BLACK, width - 2 * MARGIN)
    return band


def _headings(headings: Sequence[str], column: int) -> Image.Image:
    band = _blank(len(headings), column, _line(_TITLE) + MARGIN)
    for place, heading in enumerate(headings):
        _write(band, (_left(place, column), MARGIN), heading, _TITLE, _BLACK, column)
    return band


def _band(row: Row, width: int, column: int) -> Image.Image:
    """The band of a row: the caption, the pictures below it and the notes below the pictures."""
    pictures = [_scale_down(picture, width) for picture in row.pictures]
    top = MARGIN + _line(_NOTE)
    bottom = top + pictures[0].height
    band = _blank(len(pictures), column, bottom + _line(_NOTE) if any(row.notes) else bottom)
    _write(band, (MARGIN, MARGIN), row.caption, _NOTE, _BLACK, band.width - 2 * MARGIN)
    for place, picture in enumerate(pictures):
        band.paste(picture, (_left(place, column), top))
    for place, note in enumerate(row.notes):
        _write(band, (_left(place, column), bottom + 3), note, _NOTE, _GREY, column)
    return band


def _blank(columns: int, column: int, height: int) -> Image.Image:
    return Image.new("RGB", (_left(columns, column), height), _WHITE)


def _left(place: int, column: int) -> int:
    return MARGIN + place * (column + MARGIN)


def _line(size: int) -> int:
    return size + 8


def _scale_down(picture: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width <= width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _write(
    page: Image.Image, corner: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int
) -> None:
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(page).text(corner, _shorten(text, font, width), fill=colour, font=font)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Makes a text one line of at most `width` pixels, with dots in the place of an end that does not fit."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."
