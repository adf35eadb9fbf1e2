"""Files into pictures."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps
from PIL.ImageFile import ImageFile

from manas.data.images import FORMATS_READ, is_deep_grey, reading, sixteen_bit_grey
from manas.photos import sixteen_bits
from manas.photos.metadata import metadata_of
from manas.photos.picture import Picture

LARGEST = 500_000_000  # pixels; a few kilobytes can claim any number, and all of them would be allocated

_limit = threading.Lock()


def decode(path: str | Path) -> Picture:
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


def _picture_in(image: ImageFile, path: Path) -> Picture:
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
        metadata = metadata.without(["icc"])
    grey = mode[0] in "1LI" and mode != "LAB" or layout.startswith("LA;")
    return Picture(pixels, alpha, grey, metadata, (*losses, *damaged))


def _conversions(mode: str, layout: str, frames: int) -> Iterator[str]:
    """The losses of pictures that are not kept as they are."""
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


def _turn_upright(image: ImageFile) -> None:
    image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF says nothing about the orientation; `metadata_of` reports it
        return


def _planes(image: ImageFile, layout: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (H, W, 3) and alpha (H, W)."""
    if is_deep_grey(image):
        grey = sixteen_bit_grey(image)
        return np.repeat(grey[..., None], 3, axis=2), _alpha_of_key(grey[..., None], image)
    if layout.startswith(sixteen_bits.LAYOUTS):
        values = sixteen_bits.values_of(np.asarray(image), _lower_bytes(path))
        alpha = values[..., 3] if values.shape[2] == 4 else _alpha_of_key(values, image)
        return values[..., :3], alpha
    if image.has_transparency_data:
        values = np.array(image.convert("RGBA"))
        return values[..., :3], values[..., 3]
    return np.array(_rgb_of_inks(image) if image.mode == "CMYK" else image.convert("RGB")), None


def _lower_bytes(path: Path) -> np.ndarray:
    with Image.open(path, formats=FORMATS_READ) as image:
        sixteen_bits.ask_for_lower_bytes(image)
        _turn_upright(image)
        return np.asarray(image)


def _alpha_of_key(values: np.ndarray, image: Image.Image) -> np.ndarray | None:
    """The alpha of a picture in which one colour is declared transparent."""
    key = image.info.get("transparency")
    if key is None:
        return None
    return np.where((values == np.array(key)).all(axis=-1), 0, 65535).astype(np.uint16)


def _rgb_of_inks(image: Image.Image) -> Image.Image:
    """CMYK as sRGB, by its profile if that is there and usable."""
    try:
        inks = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, KeyError, OSError, TypeError):
        return image.convert("RGB")
    return converted or image.convert("RGB")
