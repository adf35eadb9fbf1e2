"""Pictures into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from manas.data.images import first_line, format_of, to_eight_bits
from manas.errors import ManasError
from manas.files import replacing
from manas.photos.formats import FORMATS, Format
from manas.photos.metadata import NAMES, Metadata
from manas.photos.picture import Picture


def encode(picture: Picture, path: str | Path) -> list[str]:
    """Writes a picture in the format of the suffix: whole, or not at all; returns what was lost on the way.

    PNG and TIFF keep everything (texts but in TIFF, and EXIF but in 16-bit TIFF); WebP has no 16 bit, grey,
    resolution or texts; JPEG (quality 95) no alpha and 16 bit; BMP hardly anything. Alpha that is not kept is
    dropped, not composed.

    Raises:
        ManasError: if the suffix is of no known format, or the file cannot be written.
    """
    path = Path(path)
    settings = format_of(path)
    format = FORMATS[settings["format"]]
    values, losses = _values(picture, format)
    left_out = _left_out(picture.metadata, values, format)
    try:
        with replacing(path) as unfinished:
            _write(unfinished, values, picture.metadata.without(left_out), format, settings)
    except MemoryError:
        raise
    except Exception as error:  # what damaged metadata makes an encoder trip over is no better known
        raise ManasError(
            f"{path}: cannot be written ({first_line(error)}); choose another place or format"
        ) from error
    return [*picture.losses, *losses, *left_out.values()]


def _values(picture: Picture, format: Format) -> tuple[np.ndarray, list[str]]:
    """(H, W, 1 to 4) as the format can hold it, and what it cannot."""
    losses, pixels, alpha = [], picture.pixels, picture.alpha
    if picture.grey and format.grey:
        pixels = pixels[..., :1]
    if alpha is not None and not format.alpha:
        losses, alpha = [f"alpha is not kept in {format.name}"], None
    if pixels.dtype == np.uint16 and not format.write_deep:
        losses.append(f"16 bit became 8 bit in {format.name}")
        pixels, alpha = to_eight_bits(pixels), None if alpha is None else to_eight_bits(alpha)
    return pixels if alpha is None else np.dstack([pixels, alpha]), losses


def _left_out(metadata: Metadata, values: np.ndarray, format: Format) -> dict[str, str]:
    """The fields of metadata that a file of these values does not keep: name -> loss."""
    held = [name for name in NAMES if getattr(metadata, name)]
    losses = {
        name: f"{NAMES[name]} is not kept in {format.name}" for name in held if name not in format.metadata
    }
    if metadata.colours not in (None, "GRAY" if values.shape[2] < 3 else "RGB"):
        losses["icc"] = "the colour profile is not kept where pixels are converted"
    for name in ("exif", "xmp"):
        if format.longest and len(getattr(metadata, name) or b"") > format.longest:
            losses[name] = f"{NAMES[name]} is too long for {format.name}"
    for name in format.not_deep:
        if name in held and values.dtype == np.uint16:
            losses[name] = f"{NAMES[name]} is not kept in {format.name} of 16 bit"
    return losses


def _write(
    path: Path, values: np.ndarray, metadata: Metadata, format: Format, settings: dict[str, Any]
) -> None:
    """Settings are Pillow's for the pixels."""
    if format.write_deep and values.dtype == np.uint16:
        format.write_deep(path, values, metadata)
        return
    single = values[..., 0] if values.shape[2] == 1 else values
    Image.fromarray(np.ascontiguousarray(single)).save(path, **{**settings, **format.options(metadata)})
