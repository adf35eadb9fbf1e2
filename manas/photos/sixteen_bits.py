"""Reading 16 bit a channel of colour pictures, of which Pillow gives the upper 8.

Pillow's decoders are told the byte order, and keep the upper byte of every value. A second pass that is told
the other order therefore gives the lower byte. So compressed, tiled and interlaced files are read by the
decoders that read all others, and no second library has to agree with Pillow about what a file holds.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL.ImageFile import ImageFile

LAYOUTS = ("RGB;16", "RGBA;16", "RGBX;16")
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

_BITS = 258  # the TIFF tag


def stored_layout(image: ImageFile) -> str:
    """How the values of an opened image lie in its file, in Pillow's words: ``RGB;16B``, ``L``, ..."""
    if not image.tile:
        return image.mode
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def is_misread(image: ImageFile) -> bool:
    """Whether Pillow would take the bytes of a TIFF file with separate planes of 16 bit for values of 8 bit."""
    bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
    return max(bits) > 8 and stored_layout(image) in ("R", "X")


def ask_for_lower_bytes(image: ImageFile) -> None:
    """Makes an opened image of one of the `LAYOUTS` load the lower byte of every value, not the upper."""
    image.tile = [tile._replace(args=_in_other_order(tile.args)) for tile in image.tile]


def _in_other_order(arguments: str | tuple | None) -> str | tuple:
    layout, *rest = arguments if isinstance(arguments, tuple) else (str(arguments),)
    other = layout[:-1] + _OTHER[layout[-1]]
    return (other, *rest) if isinstance(arguments, tuple) else other


def values_of(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """uint16 from its two bytes, of any shape."""
    values = upper.astype(np.uint16)
    values <<= 8
    values |= lower
    return values
