"""Whatever a file holds is read upright, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from photos.drawn import ALL, CMYK_PROFILE, DRAWN, assert_same, drawn, picture_of
from PIL import Image, PngImagePlugin

from manas.errors import ManasError
from manas.photos import decoding
from manas.photos.decoding import decode
from manas.photos.encoding import encode


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
        assert_same(decode(tmp_path / "a.tif"), picture_of(channels, np.uint16))

    def test_separate_planes_are_refused_not_misread(self, tmp_path):
        planes = drawn(3, np.uint16).transpose(2, 0, 1)
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
        with pytest.raises(ManasError, match=r"a\.tif: cannot read it as an image"):
            decode(tmp_path / "a.tif")

    @pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B")])
    def test_grey(self, suffix, mode, tmp_path):
        values = drawn(1, np.uint16)[..., 0]
        image = Image.frombytes(mode, (17, 12), values.astype(">u2" if mode[-1] == "B" else "<u2").tobytes())
        image.save(tmp_path / f"a.{suffix}")
        assert_same(decode(tmp_path / f"a.{suffix}"), picture_of(1, np.uint16))

    def test_grey_with_alpha_is_read_in_eight_bit(self, tmp_path):
        encode(picture_of(2, np.uint16), tmp_path / "a.png")
        read = decode(tmp_path / "a.png")
        assert (read.pixels.dtype, read.grey) == (np.uint8, True)
        np.testing.assert_array_equal(read.pixels[..., 0], DRAWN[..., 0] >> 8)
        np.testing.assert_array_equal(read.alpha, DRAWN[..., 1] >> 8)
        assert "became 8 bit" in read.losses[0]

    def test_a_transparent_colour(self, tmp_path):
        encode(picture_of(3, np.uint16), tmp_path / "a.png")
        png = (tmp_path / "a.png").read_bytes()
        chunk = b"tRNS" + DRAWN[3, 5, :3].astype(">u2").tobytes()
        chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
        (tmp_path / "b.png").write_bytes(png[:33] + chunk + png[33:])
        alpha = decode(tmp_path / "b.png").alpha
        assert alpha[3, 5] == 0
        assert (alpha == 65535).sum() == alpha.size - 1

    def test_deeper_values_are_refused(self, tmp_path):
        Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)).save(tmp_path / "float.tif")
        Image.fromarray(np.array([[0, 1 << 20]], dtype=np.int32)).save(tmp_path / "wide.tif")
        for name in ("float.tif", "wide.tif"):
            with pytest.raises(ManasError, match="neither 8 nor 16 bit"):
                decode(tmp_path / name)


class TestWhatBecomesAnother:
    @pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
    def test_palettes(self, transparency, tmp_path):
        indexed = Image.new("P", (3, 1))
        indexed.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
        indexed.putdata([0, 1, 2])
        indexed.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
        read = decode(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels[0], [[255, 0, 0], [0, 255, 0], [10, 20, 30]])
        expected = {None: None, 1: [255, 0, 255]}.get(transparency, [0, 128, 255])
        assert (None if read.alpha is None else read.alpha[0].tolist()) == expected
        assert read.losses == ("the palette became RGB",)
        assert encode(read, tmp_path / "b.png") == ["the palette became RGB"]

    def test_black_and_white(self, tmp_path):
        Image.fromarray(drawn(1, np.uint8)[..., 0] > 100).save(tmp_path / "a.png")
        read = decode(tmp_path / "a.png")
        np.testing.assert_array_equal(read.pixels[..., 1], 255 * (drawn(1, np.uint8)[..., 0] > 100))
        assert (read.grey, read.losses) == (True, ("black and white became grey",))

    @pytest.mark.parametrize("profile", [None, CMYK_PROFILE, b"none"], ids=["without", "unusable", "broken"])
    @pytest.mark.parametrize("suffix", ["jpg", "tif"])
    def test_inks(self, profile, suffix, tmp_path):
        ink = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
        ink.save(tmp_path / f"a.{suffix}", icc_profile=profile)
        read = decode(tmp_path / f"a.{suffix}")
        np.testing.assert_allclose(read.pixels.mean(axis=(0, 1)), [255, 0, 0], atol=4)
        assert read.losses == ("CMYK became RGB",)
        assert read.metadata.icc is None

    def test_frames_are_refused(self, tmp_path):
        page = Image.fromarray(drawn(3, np.uint8))
        other = Image.fromarray(255 - drawn(3, np.uint8))
        for suffix in ("tif", "webp", "png"):
            page.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[other])
            with pytest.raises(ManasError, match="2 frames or pages"):
                decode(tmp_path / f"a.{suffix}")

    def test_of_a_photograph_with_previews_the_first_is_read(self, tmp_path):
        page = Image.new("RGB", (16, 8), (200, 100, 50))
        page.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 2))])
        read = decode(tmp_path / "a.jpg")
        np.testing.assert_allclose(read.pixels.mean(axis=(0, 1)), [200, 100, 50], atol=4)
        assert read.losses == ("only the first picture of the file is kept",)


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
            decode(path)
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
        encode(picture_of(3), tmp_path / f"a.{suffix}")
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
        encode(picture_of(3), tmp_path / "a.png")
        decode(tmp_path / "a.png")
        with pytest.raises(ManasError):
            decode(tmp_path / "none.png")
        assert Image.MAX_IMAGE_PIXELS == 1234

    def test_pictures_above_pillows_limit(self, tmp_path, monkeypatch):
        encode(picture_of(3), tmp_path / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 17 // 3)
        assert decode(tmp_path / "a.png").pixels.shape == (12, 17, 3)
        monkeypatch.setattr(decoding, "LARGEST", 12 * 17 - 1)
        self.check(tmp_path / "a.png", "exceeds limit")

    def test_long_texts(self, tmp_path):
        texts = PngImagePlugin.PngInfo()
        texts.add_text("bomb", "a" * 10_000_000, zip=True)
        Image.fromarray(drawn(3, np.uint8)).save(tmp_path / "a.png", pnginfo=texts)
        self.check(tmp_path / "a.png")
