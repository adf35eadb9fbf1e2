"""Metadata is kept where the format has it; what cannot be kept is said."""

import struct

import numpy as np
import pytest
from photos.drawn import ALL, CMYK_PROFILE, SRGB, drawn, picture_of
from PIL import ExifTags, Image

from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.metadata import Metadata
from manas.photos.picture import Picture

GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]  # only its header is looked at
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note/></x:xmpmeta>'


def exif_block(orientation=None):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = 0.125
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0note"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


FULL = Metadata(
    icc=SRGB, exif=exif_block(), xmp=XMP, dpi=(300.0, 200.0), text={"Comment": "hello", "Ünï": "ß€"}
)
NOTHING_LOST = {
    "png": ("icc", "exif", "xmp", "dpi", "text"),
    "jpg": ("icc", "exif", "xmp", "dpi"),
    "tif": ("icc", "exif", "xmp", "dpi"),
    "webp": ("icc", "exif", "xmp"),
    "bmp": ("dpi",),
}


def exif_of(metadata):
    if metadata.exif is None:
        return None
    exif = Image.Exif()
    exif.load(metadata.exif)
    tags = (exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo))
    return exif.get(ExifTags.Base.Make), tags[0].get(ExifTags.Base.UserComment), tags[1].get(1)


class TestMetadata:
    @pytest.mark.parametrize("suffix", ALL)
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_is_kept_where_the_format_can(self, suffix, dtype, tmp_path):
        losses = encode(picture_of(3, dtype, metadata=FULL), tmp_path / f"a.{suffix}")
        read = decode(tmp_path / f"a.{suffix}").metadata
        kept = NOTHING_LOST[suffix]
        if suffix == "tif" and dtype == np.uint16:
            kept = ("icc", "xmp", "dpi")
            assert "EXIF is not kept in TIFF of 16 bit" in losses
        assert read.icc == (SRGB if "icc" in kept else None)
        assert read.xmp == (XMP if "xmp" in kept else None)
        assert exif_of(read) == (("Maker", b"ASCII\0\0\0note", "N") if "exif" in kept else None)
        assert read.dpi == (pytest.approx((300, 200), abs=0.02) if "dpi" in kept else None)
        texts = {"png": FULL.text, "jpg": {"Comment": "hello"}}
        assert read.text == texts.get(suffix, {})
        told = " ".join(losses)
        for name, said in (("icc", "colour profile"), ("xmp", "XMP"), ("dpi", "resolution")):
            assert (said in told) == (name not in kept)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pixels_are_upright_and_written_so(self, suffix, orientation, tmp_path):
        row, column = np.mgrid[:24, :40]
        smooth = np.stack([10 * row, 6 * column, 0 * row], axis=-1).astype(np.uint8)
        Image.fromarray(smooth).save(tmp_path / f"a.{suffix}", exif=exif_block(orientation), quality=100)
        read = decode(tmp_path / f"a.{suffix}")
        upright = smooth if orientation < 5 else smooth.transpose(1, 0, 2)
        turned = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
        down, across = turned.get(orientation, (1, 1))
        assert read.pixels.shape == upright.shape
        assert np.abs(read.pixels.astype(int) - upright[::down, ::across]).mean() < 3
        encode(read, tmp_path / f"b.{suffix}")
        again = decode(tmp_path / f"b.{suffix}")
        assert np.abs(again.pixels.astype(int) - read.pixels).mean() < 3
        assert exif_of(again.metadata)[0] == "Maker"

    def test_sixteen_bit_is_turned_upright(self, tmp_path):
        metadata = Metadata(exif=exif_block(6))
        for channels in (1, 3):
            encode(picture_of(channels, np.uint16, metadata=metadata), tmp_path / "a.png")
            expected = picture_of(channels, np.uint16).pixels.transpose(1, 0, 2)[:, ::-1]
            np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, expected)

    def test_thumbnails_are_not_kept(self, tmp_path):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Maker"
        block = exif.tobytes()
        linked = block[:-4] + struct.pack("<I", len(block) - 6)  # a second directory, as cameras write one
        thumbnail = linked + struct.pack("<HHHIII", 1, 0x0100, 4, 1, 7777, 0)
        Image.fromarray(drawn(3, np.uint8)).save(tmp_path / "a.jpg", exif=thumbnail)
        kept = Image.Exif()
        kept.load(decode(tmp_path / "a.jpg").metadata.exif)
        assert not kept.get_ifd(ExifTags.IFD.IFD1)

    def test_the_tags_of_a_tiff_that_describe_its_pixels_stay_behind(self, tmp_path):
        tags = {ExifTags.Base.Make: "Maker"}
        image = Image.fromarray(drawn(1, np.uint8)[..., 0])
        image.save(tmp_path / "a.tif", tiffinfo=tags, compression="tiff_lzw", dpi=(72, 72))
        read = decode(tmp_path / "a.tif")
        for suffix in ALL:
            encode(Picture(drawn(3, np.uint8), metadata=read.metadata), tmp_path / f"b.{suffix}")
            assert decode(tmp_path / f"b.{suffix}").pixels.shape == (12, 17, 3)
        exif = Image.Exif()
        exif.load(read.metadata.exif)
        assert dict(exif) == tags

    @pytest.mark.parametrize(
        ("suffix", "channels", "profile", "kept"),
        [
            ("png", 1, GREY_PROFILE, True),
            ("png", 3, GREY_PROFILE, False),
            ("png", 1, SRGB, False),
            ("webp", 1, GREY_PROFILE, False),  # written as RGB
            ("jpg", 3, CMYK_PROFILE, False),
        ],
    )
    def test_a_profile_for_other_colours_is_left_out(self, suffix, channels, profile, kept, tmp_path):
        written = picture_of(channels, metadata=Metadata(icc=profile))
        losses = encode(written, tmp_path / f"a.{suffix}")
        assert (losses == []) == kept
        with Image.open(tmp_path / f"a.{suffix}") as image:
            assert image.info.get("icc_profile") == (profile if kept else None)

    def test_damaged_exif_does_not_cost_the_picture(self, tmp_path):
        image = Image.fromarray(drawn(3, np.uint8))
        image.save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03")
        read = decode(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels, drawn(3, np.uint8))
        for suffix in ALL:
            encode(read, tmp_path / f"b.{suffix}")

    def test_what_is_too_long_for_jpeg_is_left_out(self, tmp_path):
        long = Metadata(xmp=b"x" * 70_000, text={"Comment": "y" * 70_000})
        assert "XMP is too long for JPEG" in encode(picture_of(3, metadata=long), tmp_path / "a.jpg")
        assert len(decode(tmp_path / "a.jpg").metadata.text["Comment"]) == 65_000

    def test_an_absurd_resolution_is_none(self, tmp_path):
        for dpi in ((0, 0), (1, 1), (40_000, 72)):
            image = Image.fromarray(drawn(3, np.uint8))
            image.save(tmp_path / "a.png", dpi=dpi)
            assert decode(tmp_path / "a.png").metadata.dpi is None
