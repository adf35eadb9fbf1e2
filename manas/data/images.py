"""The edge to image files: every kind of file is read as an RGB array, and arrays are written as files."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from manas.errors import ManasError
from manas.files import replacing

# The formats that a file may have, whatever its name says: Pillow would start a program to read an EPS.
FORMATS_READ = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
_TIFF: dict[str, Any] = {"format": "TIFF", "compression": "tiff_deflate"}
_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"format": "WEBP", "lossless": True},
    ".bmp": {"format": "BMP"},
    ".tif": _TIFF,
    ".tiff": _TIFF,
}


def read_image(path: str | Path) -> np.ndarray:
    """Reads the picture in a file as (H, W, 3) uint8 RGB, upright.

    EXIF orientation is applied; palettes, grey, 16-bit grey and CMYK are converted; alpha is dropped, not
    composed.

    Raises:
        ManasError: for a file that is missing, empty, truncated or no image; the message names the path.
    """
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata and then reads the picture
        with Image.open(path, formats=FORMATS_READ) as picture:
            return np.array(upright_rgb(picture))


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turns every failure to read an image file within the block into a ManasError that names the file."""
    if not Path(path).is_file():
        raise ManasError(f"{path}: no such file; check the path")
    try:
        yield
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # Pillow's decoders raise whatever a malformed file makes them trip over
        raise ManasError(
            f"{path}: cannot read it as an image ({first_line(error)}); replace the file or leave it out"
        ) from error


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Converts a picture of any mode to upright RGB of 8 bit, without alpha."""
    picture = ImageOps.exif_transpose(picture)
    if is_deep_grey(picture):
        return Image.fromarray(to_eight_bits(sixteen_bit_grey(picture))).convert("RGB")
    if picture.mode in ("P", "PA"):  # by way of RGBA, because a palette may hold transparency
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def is_deep_grey(picture: Image.Image) -> bool:
    """Whether a picture is grey of more than 8 bit."""
    return picture.mode.startswith("I") or picture.mode == "F"


def sixteen_bit_grey(picture: Image.Image) -> np.ndarray:
    """(H, W) uint16, the values of a grey image of more than 8 bit, which Pillow would clip at 255."""
    values = np.asarray(picture)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise ValueError("its values are neither 8 nor 16 bit")
    return values.astype(np.uint16)


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Converts uint16 of any shape to uint8, rounded."""
    return (values // 257).astype(np.uint8) + (values % 257 > 128)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_image(path: str | Path, array: np.ndarray) -> Path:
    """Writes (H, W, 3) uint8 RGB in the format of the suffix, WebP and TIFF without loss, JPEG at quality 95.

    Parents are created. The file is written under another name in the same folder and renamed, so that an
    interruption leaves no incomplete file.

    Raises:
        ManasError: for a suffix or an array that does not fit, before anything is written, or if it cannot be
            written.
    """
    path = Path(path)
    options = format_of(path)
    _check_picture(array, path)
    try:
        with replacing(path) as unfinished:
            Image.fromarray(np.ascontiguousarray(array)).save(unfinished, **options)
    except (OSError, ValueError) as error:  # ValueError where a side is longer than the format allows
        raise ManasError(
            f"cannot write {path} ({first_line(error)}): choose another place or format"
        ) from error
    return path


def format_of(path: Path) -> dict[str, Any]:
    """Pillow's format and settings for the suffix of a path; ManasError for an unknown suffix."""
    if path.suffix.lower() not in _FORMATS:
        suffix = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ManasError(f"cannot write {path} with {suffix}: use one of {', '.join(IMAGE_SUFFIXES)}")
    return _FORMATS[path.suffix.lower()]


def _check_picture(array: np.ndarray, path: Path) -> None:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ManasError(
            f"cannot write {path}: a picture is uint8 of shape (H, W, 3), got {array.dtype} {array.shape}; "
            "convert floats with as_bytes"
        )


def as_floats(image: np.ndarray) -> np.ndarray:
    """Converts uint8 of any shape to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Converts floats in [0, 1] of any shape to uint8; halves are rounded up."""
    return (image * 255 + 0.5).astype(np.uint8)
