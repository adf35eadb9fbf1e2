"""Whatever a file holds is read upright and written back alike; what cannot be kept is said."""

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from manas import files
from manas.data.images import to_eight_bits
from manas.errors import ManasError
from manas.photos import pictures
from manas.photos.metadata import Metadata
from manas.photos.pictures import Picture, read_picture, write_picture

DRAWN = np.random.default_rng(0).integers(0, 65536, (12, 17, 4), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]  # only its header is looked at
CMYK_PROFILE = SRGB[:16] + b"CMYK" + SRGB[20:]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note/></x:xmpmeta>'

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


class TestRoundTrips:
    @pytest.mark.parametrize("suffix", LOSSLESS)
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_eight_bit(self, suffix, channels, tmp_path):
        path, written = tmp_path / "new" / f"a.{suffix}", picture_of(channels)
        losses = write_picture(path, written)
        read = read_picture(path)
        assert os.listdir(path.parent) == [path.name]
        if channels in (2, 4) and suffix == "bmp":
            assert losses == ["alpha is not kept in BMP"]
            written = picture_of(channels - 1)
            written = Picture(picture_of(channels).pixels, None, channels == 2)
        else:
            assert losses == []
        if suffix == "webp":
            written = Picture(written.pixels, written.alpha)  # it knows no grey
        assert_same(read, written)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_sixteen_bit(self, suffix, channels, tmp_path):
        written = picture_of(channels, np.uint16)
        assert write_picture(tmp_path / f"a.{suffix}", written) == []
        assert_same(read_picture(tmp_path / f"a.{suffix}"), written)

    @pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
    def test_sixteen_bit_where_there_is_none(self, suffix, tmp_path):
        written = picture_of(3, np.uint16)
        (loss,) = write_picture(tmp_path / f"a.{suffix}", written)
        assert "16 bit became 8 bit" in loss
        read = read_picture(tmp_path / f"a.{suffix}").pixels
        assert read.dtype == np.uint8
        if suffix != "jpg":
            np.testing.assert_array_equal(read, to_eight_bits(written.pixels))

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_jpeg_keeps_smooth_colours_and_grey(self, channels, tmp_path):
        row, column = np.mgrid[:40, :50]
        smooth = np.stack([5 * row, 5 * column, 2 * (row + column)], axis=-1).astype(np.uint8)
        smooth = smooth if channels > 2 else np.repeat(smooth[..., :1], 3, axis=2)
        alpha = smooth[..., 0] if channels in (2, 4) else None
        losses = write_picture(tmp_path / "a.jpg", Picture(smooth, alpha, channels < 3))
        assert losses == (["alpha is not kept in JPEG"] if channels in (2, 4) else [])
        read = read_picture(tmp_path / "a.jpg")
        assert read.grey == (channels < 3)
        assert np.abs(read.pixels.astype(int) - smooth).mean() < 2

    @settings(max_examples=25)
    @given(data=st.data())
    def test_any_size_and_depth_of_png_and_tiff(self, data, tmp_path_factory):
        shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
        values = data.draw(arrays(dtype, (*shape, 4)))
        alpha = values[..., 3] if data.draw(st.booleans()) else None
        path = tmp_path_factory.mktemp("any") / f"a.{data.draw(st.sampled_from(['png', 'tif']))}"
        written = Picture(values[..., :3], alpha)
        assert write_picture(path, written) == []
        assert_same(read_picture(path), written)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_colours_under_full_transparency_are_kept(suffix, tmp_path):
    written = Picture(drawn(3, np.uint8), np.zeros((12, 17), np.uint8))
    write_picture(tmp_path / f"a.{suffix}", written)
    assert_same(read_picture(tmp_path / f"a.{suffix}"), written)


def test_a_large_sixteen_bit_png_is_written_in_strips(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (600, 3, 3), dtype=np.uint16)
    write_picture(tmp_path / "a.png", Picture(values))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, values)


class TestSixteenBitFilesOfOthers:
    @pytest.mark.parametrize(
        "how",
        [
            {},
            {"byteorder": ">"},
            {"compression": "zlib"},
            {"compression": "zlib", "predictor": True, "byteorder": ">"},
            {"tile": (16, 16)},
            {"rowsperstrip": 5},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("channels", [3, 4])
    def test_tiff(self, how, channels, tmp_path):
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(tmp_path / "a.tif", drawn(channels, np.uint16), photometric="rgb", **how, **extra)
        assert_same(read_picture(tmp_path / "a.tif"), picture_of(channels, np.uint16))

    def test_separate_planes_are_refused_not_misread(self, tmp_path):
        planes = drawn(3, np.uint16).transpose(2, 0, 1)
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
        with pytest.raises(ManasError, match=r"a\.tif: cannot read it as an image"):
            read_picture(tmp_path / "a.tif")

    @pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B")])
    def test_grey(self, suffix, mode, tmp_path):
        values = drawn(1, np.uint16)[..., 0]
        image = Image.frombytes(mode, (17, 12), values.astype(">u2" if mode[-1] == "B" else "<u2").tobytes())
        image.save(tmp_path / f"a.{suffix}")
        assert_same(read_picture(tmp_path / f"a.{suffix}"), picture_of(1, np.uint16))

    def test_grey_with_alpha_is_read_in_eight_bit(self, tmp_path):
        write_picture(tmp_path / "a.png", picture_of(2, np.uint16))
        read = read_picture(tmp_path / "a.png")
        assert (read.pixels.dtype, read.grey) == (np.uint8, True)
        np.testing.assert_array_equal(read.pixels[..., 0], DRAWN[..., 0] >> 8)
        np.testing.assert_array_equal(read.alpha, DRAWN[..., 1] >> 8)
        assert "became 8 bit" in read.losses[0]

    def test_a_transparent_colour(self, tmp_path):
        write_picture(tmp_path / "a.png", picture_of(3, np.uint16))
        png = (tmp_path / "a.png").read_bytes()
        chunk = b"tRNS" + DRAWN[3, 5, :3].astype(">u2").tobytes()
        chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (tmp_path / "b.png").write_bytes(png[:33] + chunk + png[33:])
        alpha = read_picture(tmp_path / "b.png").alpha
        assert alpha[3, 5] == 0
        assert (alpha == 65535).sum() == alpha.size - 1

    def test_deeper_values_are_refused(self, tmp_path):
        Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)).save(tmp_path / "float.tif")
        Image.fromarray(np.array([[0, 1 << 20]], dtype=np.int32)).save(tmp_path / "wide.tif")
        for name in ("float.tif", "wide.tif"):
            with pytest.raises(ManasError, match="neither 8 nor 16 bit"):
                read_picture(tmp_path / name)


class TestWhatBecomesAnother:
    @pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
    def test_palettes(self, transparency, tmp_path):
        indexed = Image.new("P", (3, 1))
        indexed.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
        indexed.putdata([0, 1, 2])
        indexed.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
        read = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels[0], [[255, 0, 0], [0, 255, 0], [10, 20, 30]])
        expected = {None: None, 1: [255, 0, 255]}.get(transparency, [0, 128, 255])
        assert (None if read.alpha is None else read.alpha[0].tolist()) == expected
        assert read.losses == ("the palette became RGB",)
        assert write_picture(tmp_path / "b.png", read) == ["the palette became RGB"]

    def test_black_and_white(self, tmp_path):
        Image.fromarray(drawn(1, np.uint8)[..., 0] > 100).save(tmp_path / "a.png")
        read = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels[..., 1], 255 * (drawn(1, np.uint8)[..., 0] > 100))
        assert (read.grey, read.losses) == (True, ("black and white became grey",))

    @pytest.mark.parametrize("profile", [None, CMYK_PROFILE, b"none"], ids=["without", "unusable", "broken"])
    @pytest.mark.parametrize("suffix", ["jpg", "tif"])
    def test_inks(self, profile, suffix, tmp_path):
        ink = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
        ink.save(tmp_path / f"a.{suffix}", icc_profile=profile)
        read = read_picture(tmp_path / f"a.{suffix}")
        np.testing.assert_allclose(read.pixels.mean(axis=(0, 1)), [255, 0, 0], atol=4)
        assert read.losses == ("CMYK became RGB",)
        assert read.metadata.icc is None

    def test_frames_are_refused(self, tmp_path):
        page = Image.fromarray(drawn(3, np.uint8))
        other = Image.fromarray(255 - drawn(3, np.uint8))
        for suffix in ("tif", "webp", "png"):
            page.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[other])
            with pytest.raises(ManasError, match="2 frames or pages"):
                read_picture(tmp_path / f"a.{suffix}")

    def test_of_a_photograph_with_previews_the_first_is_read(self, tmp_path):
        page = Image.new("RGB", (16, 8), (200, 100, 50))
        page.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 2))])
        read = read_picture(tmp_path / "a.jpg")
        np.testing.assert_allclose(read.pixels.mean(axis=(0, 1)), [200, 100, 50], atol=4)
        assert read.losses == ("only the first picture of the file is kept",)


class TestGrey:
    def test_neutral_colours_stay_as_they_are(self):
        for dtype in (np.uint8, np.uint16):
            values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(16, -1)
            neutral = np.repeat(values[..., None], 3, axis=2)
            np.testing.assert_array_equal(Picture(neutral, grey=True).showing(neutral).pixels, neutral)

    def test_a_tint_becomes_its_luma(self):
        grey = picture_of(1).showing(np.full((12, 17, 3), [100, 200, 50], np.uint8))
        assert np.unique(grey.pixels).tolist() == [153]  # 29.9 + 117.4 + 5.7

    def test_colours_are_left_alone(self):
        assert_same(picture_of(4).showing(drawn(3, np.uint8)), picture_of(4))


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
        losses = write_picture(tmp_path / f"a.{suffix}", picture_of(3, dtype, metadata=FULL))
        read = read_picture(tmp_path / f"a.{suffix}").metadata
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
        read = read_picture(tmp_path / f"a.{suffix}")
        upright = smooth if orientation < 5 else smooth.transpose(1, 0, 2)
        turned = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
        down, across = turned.get(orientation, (1, 1))
        assert read.pixels.shape == upright.shape
        assert np.abs(read.pixels.astype(int) - upright[::down, ::across]).mean() < 3
        write_picture(tmp_path / f"b.{suffix}", read)
        again = read_picture(tmp_path / f"b.{suffix}")
        assert np.abs(again.pixels.astype(int) - read.pixels).mean() < 3
        assert exif_of(again.metadata)[0] == "Maker"

    def test_sixteen_bit_is_turned_upright(self, tmp_path):
        metadata = Metadata(exif=exif_block(6))
        for channels in (1, 3):
            write_picture(tmp_path / "a.png", picture_of(channels, np.uint16, metadata=metadata))
            expected = picture_of(channels, np.uint16).pixels.transpose(1, 0, 2)[:, ::-1]
            np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, expected)

    def test_thumbnails_are_not_kept(self, tmp_path):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Maker"
        block = exif.tobytes()
        linked = block[:-4] + struct.pack("<I", len(block) - 6)  # a second directory, as cameras write one
        thumbnail = linked + struct.pack("<HHHIII", 1, 0x0100, 4, 1, 7777, 0)
        Image.fromarray(drawn(3, np.uint8)).save(tmp_path / "a.jpg", exif=thumbnail)
        kept = Image.Exif()
        kept.load(read_picture(tmp_path / "a.jpg").metadata.exif)
        assert not kept.get_ifd(ExifTags.IFD.IFD1)

    def test_the_tags_of_a_tiff_that_describe_its_pixels_stay_behind(self, tmp_path):
        tags = {ExifTags.Base.Make: "Maker"}
        image = Image.fromarray(drawn(1, np.uint8)[..., 0])
        image.save(tmp_path / "a.tif", tiffinfo=tags, compression="tiff_lzw", dpi=(72, 72))
        read = read_picture(tmp_path / "a.tif")
        for suffix in ALL:
            write_picture(tmp_path / f"b.{suffix}", Picture(drawn(3, np.uint8), metadata=read.metadata))
            assert read_picture(tmp_path / f"b.{suffix}").pixels.shape == (12, 17, 3)
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
        losses = write_picture(tmp_path / f"a.{suffix}", written)
        assert (losses == []) == kept
        with Image.open(tmp_path / f"a.{suffix}") as image:
            assert image.info.get("icc_profile") == (profile if kept else None)

    def test_damaged_exif_does_not_cost_the_picture(self, tmp_path):
        image = Image.fromarray(drawn(3, np.uint8))
        image.save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03")
        read = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels, drawn(3, np.uint8))
        for suffix in ALL:
            write_picture(tmp_path / f"b.{suffix}", read)

    def test_what_is_too_long_for_jpeg_is_left_out(self, tmp_path):
        long = Metadata(xmp=b"x" * 70_000, text={"Comment": "y" * 70_000})
        assert "XMP is too long for JPEG" in write_picture(tmp_path / "a.jpg", picture_of(3, metadata=long))
        assert len(read_picture(tmp_path / "a.jpg").metadata.text["Comment"]) == 65_000

    def test_an_absurd_resolution_is_none(self, tmp_path):
        for dpi in ((0, 0), (1, 1), (40_000, 72)):
            image = Image.fromarray(drawn(3, np.uint8))
            image.save(tmp_path / "a.png", dpi=dpi)
            assert read_picture(tmp_path / "a.png").metadata.dpi is None


def png_of(width, height, content=b""):
    """A PNG of that size that holds the zlib stream of `content`, whatever its length."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestWhatCannotBeRead:
    def check(self, path, match="cannot read it as an image"):
        with pytest.raises(ManasError, match=match) as error:
            read_picture(path)
        assert str(error.value).startswith(f"{path}: ")

    def test_nothing_there(self, tmp_path):
        self.check(tmp_path / "a.png", "no such file")
        self.check(tmp_path, "no such file")

    def test_empty_text_and_foreign_files(self, tmp_path):
        for content in (b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
            (tmp_path / "a.png").write_bytes(content)
            self.check(tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", ALL)
    def test_truncated(self, suffix, tmp_path):
        write_picture(tmp_path / f"a.{suffix}", picture_of(3))
        whole = (tmp_path / f"a.{suffix}").read_bytes()
        for part in (0.1, 0.5, 0.8):
            (tmp_path / f"b.{suffix}").write_bytes(whole[: int(part * len(whole))])
            self.check(tmp_path / f"b.{suffix}")

    def test_a_header_of_absurd_size(self, tmp_path):
        (tmp_path / "a.png").write_bytes(png_of(100_000, 100_000))
        self.check(tmp_path / "a.png", "exceeds limit of 500000000 pixels")

    def test_more_pixels_than_the_file_holds(self, tmp_path):
        (tmp_path / "a.png").write_bytes(png_of(20_000, 20_000))
        self.check(tmp_path / "a.png")

    def test_the_limit_is_pillows_again_afterwards(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
        write_picture(tmp_path / "a.png", picture_of(3))
        read_picture(tmp_path / "a.png")
        with pytest.raises(ManasError):
            read_picture(tmp_path / "none.png")
        assert Image.MAX_IMAGE_PIXELS == 1234

    def test_pictures_above_pillows_limit(self, tmp_path, monkeypatch):
        write_picture(tmp_path / "a.png", picture_of(3))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 17 // 3)
        assert read_picture(tmp_path / "a.png").pixels.shape == (12, 17, 3)
        monkeypatch.setattr(pictures, "LARGEST", 12 * 17 - 1)
        self.check(tmp_path / "a.png", "exceeds limit")

    def test_long_texts(self, tmp_path):
        texts = PngImagePlugin.PngInfo()
        texts.add_text("bomb", "a" * 10_000_000, zip=True)
        Image.fromarray(drawn(3, np.uint8)).save(tmp_path / "a.png", pnginfo=texts)
        self.check(tmp_path / "a.png")


class TestWhatCannotBeWritten:
    def test_an_unknown_suffix(self, tmp_path):
        with pytest.raises(ManasError, match=r"use one of \.png"):
            write_picture(tmp_path / "folder" / "a.gif", picture_of(3))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [*ALL, "deep.png", "deep.tif"])
    def test_a_failed_write_leaves_the_old_file(self, suffix, tmp_path, monkeypatch):
        path = tmp_path / f"a.{suffix}"
        path.write_text("old")

        def fail(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(files.os, "replace", fail)
        with pytest.raises(ManasError, match="No space left"):
            write_picture(path, picture_of(3, np.uint16 if "deep" in suffix else np.uint8))
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_text() == "old"

    def test_a_side_longer_than_the_format_allows(self, tmp_path):
        for name in ("long.webp", "long.jpg"):
            with pytest.raises(ManasError, match=f"{name}: cannot be written .*another place or format"):
                write_picture(tmp_path / name, Picture(np.zeros((1, 70000, 3), np.uint8)))
        assert not os.listdir(tmp_path)
