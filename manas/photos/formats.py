"""The file formats: what each keeps of a picture, one row a format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manas.photos.metadata import COMMENT, NAMES, Metadata
from manas.photos.png import png_options, write_deep_png
from manas.photos.tiff import tiff_options, write_deep_tiff

_SEGMENT = 65_000  # bytes that EXIF, XMP or a comment may take in a JPEG file, with room for its header


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: Pillow's name of it.
        metadata: the fields of `Metadata` that it keeps.
        options: the options with which Pillow writes metadata, all of which the format keeps.
        write_deep: writes (H, W, 1 to 4) of uint16, which Pillow does not; None where there is no 16 bit.
        alpha: whether it keeps alpha.
        grey: whether it knows grey, which is else written as RGB.
        longest: bytes that EXIF and XMP may take; None where there is no bound.
        not_deep: the fields of `Metadata` that it does not keep beside 16 bit.
    """

    name: str
    metadata: tuple[str, ...]
    options: Callable[[Metadata], dict[str, Any]]
    write_deep: Callable[[Path, np.ndarray, Metadata], None] | None = None
    alpha: bool = False
    grey: bool = True
    longest: int | None = None
    not_deep: tuple[str, ...] = ()


def _plain_options(metadata: Metadata) -> dict[str, Any]:
    """The options of the formats that Pillow writes alike; it passes over what a format does not have."""
    options = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    options["comment"] = metadata.text.get(COMMENT, "").encode()[:_SEGMENT]
    return {name: value for name, value in options.items() if value}


def _webp_options(metadata: Metadata) -> dict[str, Any]:
    """Exact, since WebP would otherwise replace the colours under full transparency."""
    return {**_plain_options(metadata), "exact": True}


_BUT_TEXT = ("icc", "exif", "xmp", "dpi")

FORMATS = {
    format.name: format
    for format in (
        Format("PNG", tuple(NAMES), png_options, write_deep_png, alpha=True),
        Format("TIFF", _BUT_TEXT, tiff_options, write_deep_tiff, alpha=True, not_deep=("exif",)),
        Format("WEBP", ("icc", "exif", "xmp"), _webp_options, alpha=True, grey=False),
        Format("JPEG", tuple(NAMES), _plain_options, longest=_SEGMENT),
        Format("BMP", ("dpi",), _plain_options),
    )
}
