"""PNG: its metadata as Pillow writes it, and 16 bit of colour or alpha, which Pillow does not write.

No library that was compared keeps all that is kept here. Pillow 13.0.0, and imageio 2.38.1 through it, write
16 bit of grey alone. OpenCV 5.0.0 (Apache-2.0, 150 MB) has no resolution, no texts and no grey with alpha;
libvips 8.18.7 (LGPL-3.0, by pyvips 3.2.0) writes texts in UTF-8 where PNG has Latin-1, and both write XMP where
Pillow takes it for a text; numpngw 0.1.4 (BSD, of 2024) has no EXIF and XMP, pypng 0.20220715.0 (MIT, of 2022)
the resolution alone, imagecodecs 2026.3.6 (BSD, 80 MB) no metadata. Yet a PNG of 16 bit is but another header
and another zlib stream among the chunks that Pillow writes for one of 8 bit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo, getchunks, putchunk

from manas.photos.metadata import Metadata

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_STRIP = 256  # rows that are compressed at a time


def png_options(metadata: Metadata) -> dict[str, Any]:
    """The options with which Pillow writes metadata into a PNG."""
    options = {"icc_profile": metadata.icc, "exif": metadata.exif, "dpi": metadata.dpi}
    return {"pnginfo": _texts(metadata), **{name: value for name, value in options.items() if value}}


def _texts(metadata: Metadata) -> PngInfo:
    texts = PngInfo()
    for key, value in metadata.text.items():
        texts.add_text(key, value)
    if metadata.xmp:
        texts.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", errors="replace"))
    return texts


def write_deep_png(path: Path, values: np.ndarray, metadata: Metadata) -> None:
    """Writes uint16 (H, W, channels), channels 1 to 4, with all metadata."""
    height, width, channels = values.shape
    blank = Image.new("L" if channels < 3 else "RGB", (1, 1))
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        putchunk(file, b"IHDR", struct.pack(">2I5B", width, height, 16, _COLOUR_TYPE[channels], 0, 0, 0))
        for kind, content, _ in getchunks(blank, **png_options(metadata)):
            if kind not in (b"IHDR", b"IDAT", b"IEND"):
                putchunk(file, kind, content)
        for compressed in _compressed(values):
            putchunk(file, b"IDAT", compressed)
        putchunk(file, b"IEND")


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
