"""Colour pictures of 16 bit a channel, which Pillow reads and writes in 8 bit only.

Reading: Pillow's decoders are told the byte order, and keep the upper byte of every value. A second pass that
is told the other order therefore gives the lower byte. So compressed, tiled and interlaced files are read by
the decoders that read all others, and no second library has to agree with Pillow about what a file holds.

Writing: a PNG of unusual depth is a header and a zlib stream; what surrounds them is Pillow's. TIFF: tifffile.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image

from manas.photos.metadata import Metadata

LAYOUTS = ("RGB;16", "RGBA;16", "RGBX;16")
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

_BITS = 258  # the TIFF tag

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels
_STRIP = 256  # rows that are compressed at a time


def stored_layout(image: Image.Image) -> str:
    """How the values of an opened image lie in its file, in Pillow's words: ``RGB;16B``, ``L``, ..."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return image.mode
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def is_misread(image: Image.Image) -> bool:
    """Whether Pillow would take the bytes of a TIFF file with separate planes of 16 bit for values of 8 bit."""
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    return max(bits) > 8 and stored_layout(image) in ("R", "X")


def ask_for_lower_bytes(image: Any) -> None:
    """Makes an opened image of one of the `LAYOUTS` load the lower byte of every value, not the upper."""
    image.tile = [tile._replace(args=_turned(tile.args)) for tile in image.tile]


def _turned(arguments: str | tuple) -> str | tuple:
    layout, rest = (arguments, ()) if isinstance(arguments, str) else (arguments[0], arguments[1:])
    turned = layout[:-1] + _OTHER[layout[-1]]
    return turned if isinstance(arguments, str) else (turned, *rest)


def joined(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """uint16 from its two bytes, of any shape."""
    values = upper.astype(np.uint16)
    values <<= 8
    values |= lower
    return values


def write_png(path: Path, values: np.ndarray, options: dict[str, Any]) -> None:
    """Writes uint16 (H, W, channels), channels 1 to 4, with the metadata that Pillow makes of `options`."""
    height, width, channels = values.shape
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0))
        for kind, content in _chunks(_blank_png(channels, options)):
            if kind not in (b"IHDR", b"IDAT", b"IEND"):
                _write_chunk(file, kind, content)
        for compressed in _compressed(values):
            _write_chunk(file, b"IDAT", compressed)
        _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    checksum = struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    file.write(struct.pack(">I", len(content)) + kind + content + checksum)


def _blank_png(channels: int, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.new("L" if channels < 3 else "RGB", (1, 1)).save(file, **options)
    return file.getvalue()


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        yield kind, png[place + 8 : place + 8 + length]
        place += 12 + length


def _compressed(values: np.ndarray) -> Iterator[bytes]:
    """The rows, each as its difference from the one above (PNG's filter 2), as one zlib stream in pieces."""
    stream = zlib.compressobj()
    above = np.zeros(values[0].size * 2, np.uint8)
    for start in range(0, len(values), _STRIP):
        rows = values[start : start + _STRIP].astype(">u2").reshape(-1, values[0].size).view(np.uint8)
        filtered = np.full((len(rows), rows.shape[1] + 1), 2, np.uint8)
        filtered[:, 1:] = rows - np.vstack([above[None], rows[:-1]])
        above = rows[-1]
        yield stream.compress(filtered.tobytes())
    yield stream.flush()


def write_tiff(path: Path, values: np.ndarray, metadata: Metadata) -> None:
    """Writes uint16 (H, W, channels), channels 1 to 4, without loss; of the metadata all but EXIF."""
    channels = values.shape[2]
    tags = [(700, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else []
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
