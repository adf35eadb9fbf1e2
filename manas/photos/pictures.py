"""A picture with all that its file says of it: read upright, and written back alike."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from manas.data.images import (
    FORMATS_READ,
    first_line,
    format_of,
    reading,
    sixteen_bit_grey,
    to_eight_bits,
)
from manas.errors import ManasError
from manas.files import replacing
from manas.photos import sixteen_bits
from manas.photos.metadata import Metadata, kept_by, metadata_of, save_options

LARGEST = 500_000_000  # pixels; a few kilobytes can claim any number, and all of them would be allocated

_WITH_ALPHA, _SIXTEEN_BIT, _WITHOUT_GREY = ("PNG", "WEBP", "TIFF"), ("PNG", "TIFF"), ("WEBP",)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's own conversion to grey
_ROWS = 512  # converted at a time, so that a large picture is never a second time in memory as floats

_limit = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16; of a grey picture three equal channels.
        alpha: (H, W) of the same type, or None.
        grey: whether it is written as grey.
        metadata: colour profile, EXIF, XMP, resolution, texts.
        losses: what its file holds and this does not.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    metadata: Metadata = Metadata()
    losses: tuple[str, ...] = ()

    def showing(self, pixels: np.ndarray) -> Picture:
        """The same with other pixels; those of a grey picture become their luma.

        Any mean leaves a neutral colour as it is. Luma weighs the tint that a network may give to grey as
        the eye does, by which the noise of its blue channel hardly counts.
        """
        return replace(self, pixels=_as_grey(pixels) if self.grey else pixels)


def _as_grey(pixels: np.ndarray) -> np.ndarray:
    grey = np.empty_like(pixels)
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        grey[rows] = (pixels[rows].astype(np.float32) @ _LUMA + 0.5)[..., None]
    return grey


def read_picture(path: str | Path) -> Picture:
    """The picture in a PNG, JPEG, WebP, BMP or TIFF file, whatever its suffix.

    Palettes become RGB and so does CMYK, through its colour profile where it has one. Grey stays grey, 16 bit
    stays 16 bit. Of a JPEG file that holds several pictures (previews, depth) the first is read.

    Raises:
        ManasError: if the file is missing, damaged, truncated, no picture, larger than `LARGEST`, or holds
            several frames or pages, since writing one of them back would lose the others.
    """
    path = Path(path)
    with reading(path), _up_to(LARGEST), Image.open(path, formats=FORMATS_READ) as image:
        return _picture_in(image, path)


@contextmanager
def _up_to(pixels: int) -> Iterator[None]:
    """Pillow opens images of so many pixels, and keeps its warnings about odd metadata to itself.

    Both settings are the process's, so one thread at a time is in here.
    """
    with _limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = pixels // 2  # Pillow warns from here on and refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _picture_in(image: Image.Image, path: Path) -> Picture:
    frames, mode, layout = getattr(image, "n_frames", 1), image.mode, sixteen_bits.stored_layout(image)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it holds {frames} frames or pages, which would have to be files of their own")
    if sixteen_bits.is_misread(image):
        raise ValueError("its colours of 16 bit lie in separate planes")
    losses = list(_conversions(mode, layout, frames))
    _turn_upright(image)
    pixels, alpha = _planes(image, layout, path)
    metadata, damaged = metadata_of(image)
    if mode == "CMYK":
        metadata = replace(metadata, icc=None)
    grey = mode[0] in "1LI" and mode != "LAB" or layout.startswith("LA;")
    return Picture(pixels, alpha, grey, metadata, (*losses, *damaged))


def _conversions(mode: str, layout: str, frames: int) -> Iterator[str]:
    """What becomes of pictures that are not kept as they are."""
    if frames > 1:
        yield "only the first picture of the file is kept"
    if mode in ("P", "PA"):
        yield "the palette became RGB"
    if mode == "CMYK":
        yield "CMYK became RGB"
    if mode == "1":
        yield "black and white became grey"
    if ";16" in layout and not layout.startswith((*sixteen_bits.LAYOUTS, "I;16")):
        yield f"16 bit of the layout {layout} became 8 bit"


def _turn_upright(image: Image.Image) -> None:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF says nothing about the orientation; `metadata_of` reports it
        return


def _planes(image: Image.Image, layout: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W, 3) and alpha (H, W)."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = sixteen_bit_grey(image)
        return np.repeat(grey[..., None], 3, axis=2), _keyed(grey[..., None], image)
    if layout.startswith(sixteen_bits.LAYOUTS):
        values = sixteen_bits.joined(np.asarray(image), _lower_bytes(path))
        alpha = values[..., 3] if values.shape[2] == 4 else _keyed(values, image)
        return values[..., :3], alpha
    if image.has_transparency_data:
        values = np.array(image.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.array(_without_inks(image) if image.mode == "CMYK" else image.convert("RGB")), None


def _lower_bytes(path: Path) -> np.ndarray:
    with Image.open(path, formats=FORMATS_READ) as image:
        sixteen_bits.ask_for_lower_bytes(image)
        _turn_upright(image)
        return np.asarray(image)


def _keyed(values: np.ndarray, image: Image.Image) -> np.ndarray | None:
    """The alpha of a picture in which one colour is declared transparent."""
    key = image.info.get("transparency")
    if key is None:
        return None
    return np.where((values == np.array(key)).all(axis=-1), 0, 65535).astype(np.uint16)


def _without_inks(image: Image.Image) -> Image.Image:
    """CMYK as sRGB, by its profile if that is there and usable."""
    try:
        inks = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, KeyError, OSError, TypeError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def write_picture(path: str | Path, picture: Picture) -> list[str]:
    """Writes a picture in the format of the suffix: whole, or not at all; returns what was lost on the way.

    PNG and TIFF keep everything (texts but in TIFF, and EXIF but in 16-bit TIFF); WebP has no 16 bit, grey,
    resolution or texts; JPEG (quality 95) no alpha and 16 bit; BMP hardly anything. Alpha that is not kept is
    dropped, not composed.

    Raises:
        ManasError: if the suffix is of no known format, or the file cannot be written.
    """
    path = Path(path)
    options = format_of(path)
    values, losses = _stored(picture, options["format"])
    grey = values.shape[2] < 3
    metadata, left_out = kept_by(picture.metadata, options["format"], "GRAY" if grey else "RGB")
    losses = [*picture.losses, *losses, *left_out]
    if values.dtype == np.uint16 and options["format"] == "TIFF" and metadata.exif:
        losses.append("EXIF is not kept in TIFF of 16 bit")
    try:
        with replacing(path) as unfinished:
            _write(unfinished, values, metadata, options)
    except MemoryError:
        raise
    except Exception as error:  # what damaged metadata makes an encoder trip over is no better known
        raise ManasError(
            f"{path}: cannot be written ({first_line(error)}); choose another place or format"
        ) from error
    return losses


def _stored(picture: Picture, format: str) -> tuple[np.ndarray, list[str]]:
    """(H, W, 1 to 4) as the format can hold it, and what it cannot."""
    losses, pixels, alpha = [], picture.pixels, picture.alpha
    if picture.grey and format not in _WITHOUT_GREY:
        pixels = pixels[..., :1]
    if alpha is not None and format not in _WITH_ALPHA:
        losses, alpha = [f"alpha is not kept in {format}"], None
    if pixels.dtype == np.uint16 and format not in _SIXTEEN_BIT:
        losses.append(f"16 bit became 8 bit in {format}")
        pixels, alpha = to_eight_bits(pixels), None if alpha is None else to_eight_bits(alpha)
    return pixels if alpha is None else np.dstack([pixels, alpha]), losses


def _write(path: Path, values: np.ndarray, metadata: Metadata, options: dict[str, Any]) -> None:
    format = options["format"]
    if values.dtype == np.uint16 and format == "TIFF":
        sixteen_bits.write_tiff(path, values, metadata)
        return
    options = {**options, **save_options(metadata, format)}
    if values.dtype == np.uint16:
        sixteen_bits.write_png(path, values, options)
        return
    single = values[..., 0] if values.shape[2] == 1 else values
    Image.fromarray(np.ascontiguousarray(single)).save(path, **options, **_exact(format))


def _exact(format: str) -> dict[str, Any]:
    """WebP would otherwise replace the colours under full transparency."""
    return {"exact": True} if format == "WEBP" else {}
