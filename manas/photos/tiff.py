"""TIFF: its metadata as Pillow writes it, and 16 bit a channel, which tifffile writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from manas.photos.metadata import Metadata

_XMP = 700  # the tag
_NESTED = frozenset([34665, 34853])  # what the camera says, and the place: directories of their own


def tiff_options(metadata: Metadata) -> dict[str, Any]:
    """The options with which Pillow writes metadata into a TIFF."""
    tags = _tags(metadata)
    options: dict[str, Any] = {"icc_profile": metadata.icc, "exif": tags, "dpi": metadata.dpi}
    if _NESTED & set(tags):
        options["compression"] = "raw"  # libtiff, which compresses, writes no directories below the first
    return {name: value for name, value in options.items() if value}


def _tags(metadata: Metadata) -> Image.Exif:
    tags = Image.Exif()
    tags.load(metadata.exif or b"")
    if metadata.xmp:
        tags[_XMP] = metadata.xmp
    return tags


def write_deep_tiff(path: Path, values: np.ndarray, metadata: Metadata) -> None:
    """Writes uint16 (H, W, channels), channels 1 to 4, without loss; of the metadata all but EXIF."""
    channels = values.shape[2]
    tags = [(_XMP, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []
    tifffile.imwrite(
        path,
        values if channels > 1 else values[..., 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        predictor=True,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        iccprofile=metadata.icc,
        extratags=tags,
        metadata=None,
        software=False,
    )
