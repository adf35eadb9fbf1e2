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
NARROWEST = 120  # of a column, so that headings and captions of small pictures can be read

_BLACK, _GREY, _WHITE = (0, 0, 0), (90, 90, 90), (255, 255, 255)
_TITLE, _NOTE = 17, 14


class Row(NamedTuple):
    """One scene: three pictures of one size, (H, W, 3) uint8, and what is written with them.

    The caption stands above the row ("light rain"), each note below its picture ("24.1 dB").
    """

    caption: str
    degraded: np.ndarray
    restored: np.ndarray
    clean: np.ndarray
    notes: tuple[str, str, str] = ("", "", "")

    @property
    def pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.degraded, self.restored, self.clean


def before_after(rows: Sequence[Row | tuple], path: str | Path, *, width: int = 320) -> Path:
    """Writes a grid of degraded, restored and clean pictures on white, one scene a row; returns its path.

    rows: `Row`s, or tuples (caption, degraded, restored, clean[, notes]). Pictures wider than `width` pixels
    are scaled down to it in proportion, smaller ones are left as they are. ManasError where there is no row,
    where the pictures of a row are not three of one size, or where the path cannot be written.
    """
    scenes = [Row(*row) for row in rows]
    _check(scenes, width)
    column = max(NARROWEST, min(width, max(scene.degraded.shape[1] for scene in scenes)))
    bands = [_headings(column)] + [_band(scene, width, column) for scene in scenes]
    page = Image.new("RGB", (bands[0].width, sum(band.height for band in bands) + MARGIN), _WHITE)
    top = 0
    for band in bands:
        page.paste(band, (0, top))
        top += band.height
    return write_image(path, np.asarray(page))


def _check(scenes: list[Row], width: int) -> None:
    if not scenes:
        raise ManasError("a before-and-after grid needs at least one row of pictures: give one")
    if width < 1:
        raise ManasError(f"the width of a picture must be at least 1 pixel, got {width}: give a larger width")
    for scene in scenes:
        shapes = {picture.shape for picture in scene.pictures}
        shape = scene.degraded.shape
        eight_bit = all(picture.dtype == np.uint8 for picture in scene.pictures)
        if len(shapes) > 1 or len(shape) != 3 or shape[2] != 3 or 0 in shape or not eight_bit:
            found = ", ".join(f"{picture.dtype} {picture.shape}" for picture in scene.pictures)
            raise ManasError(
                f"the row {scene.caption!r} needs three uint8 pictures of one shape (H, W, 3), got {found}"
            )


def _headings(column: int) -> Image.Image:
    band = _blank(column, _line(_TITLE) + MARGIN)
    for place, heading in enumerate(HEADINGS):
        _write(band, (_left(place, column), MARGIN), heading, _TITLE, _BLACK, column)
    return band


def _band(scene: Row, width: int, column: int) -> Image.Image:
    """The caption, the three pictures below it and the notes below these."""
    pictures = [_scaled(picture, width) for picture in scene.pictures]
    top = MARGIN + _line(_NOTE)
    bottom = top + pictures[0].height
    band = _blank(column, bottom + _line(_NOTE) if any(scene.notes) else bottom)
    _write(band, (MARGIN, MARGIN), scene.caption, _NOTE, _BLACK, band.width - 2 * MARGIN)
    for place, (picture, note) in enumerate(zip(pictures, scene.notes, strict=True)):
        left = _left(place, column)
        band.paste(picture, (left, top))
        _write(band, (left, bottom + 3), note, _NOTE, _GREY, column)
    return band


def _blank(column: int, height: int) -> Image.Image:
    return Image.new("RGB", (_left(len(HEADINGS), column), height), _WHITE)


def _left(place: int, column: int) -> int:
    return MARGIN + place * (column + MARGIN)


def _line(size: int) -> int:
    return size + 8


def _scaled(picture: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width <= width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _write(
    page: Image.Image, corner: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int
) -> None:
    font = ImageFont.load_default(size=size)
    ImageDraw.Draw(page).text(corner, _fitted(text, font, width), fill=colour, font=font)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """One line of at most `width` pixels, its end replaced by dots where it is longer."""
    line = " ".join(text.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."
