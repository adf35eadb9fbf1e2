"""Pictures of noise, of every kind, for the tests of files."""

import numpy as np
from PIL import ImageCms

from manas.data.images import to_eight_bits
from manas.photos.picture import Picture

DRAWN = np.random.default_rng(0).integers(0, 65536, (12, 17, 4), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CMYK_PROFILE = SRGB[:16] + b"CMYK" + SRGB[20:]

LOSSLESS = ("png", "webp", "bmp", "tif")
ALL = (*LOSSLESS, "jpg")


def drawn(channels, dtype):
    values = DRAWN[..., :channels]
    return values if dtype == np.uint16 else to_eight_bits(values)


def picture_of(channels, dtype=np.uint8, **more):
    """1: grey, 2: grey and alpha, 3: RGB, 4: RGB and alpha."""
    values = drawn(channels, dtype)
    colours = np.repeat(values[..., :1], 3, axis=2) if channels < 3 else values[..., :3]
    return Picture(colours, values[..., -1] if channels in (2, 4) else None, channels < 3, **more)


def assert_same(read, written):
    assert read.pixels.dtype == written.pixels.dtype
    np.testing.assert_array_equal(read.pixels, written.pixels)
    assert (read.alpha is None) == (written.alpha is None)
    if read.alpha is not None:
        assert read.alpha.dtype == written.alpha.dtype
        np.testing.assert_array_equal(read.alpha, written.alpha)
    assert read.grey == written.grey
