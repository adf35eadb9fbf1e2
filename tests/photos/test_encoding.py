"""Pictures are written whole and as they are, or not at all; what cannot be kept is said."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from photos.drawn import ALL, LOSSLESS, assert_same, drawn, picture_of

from manas import files
from manas.data.images import IMAGE_SUFFIXES, format_of, to_eight_bits
from manas.errors import ManasError
from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.formats import FORMATS
from manas.photos.picture import Picture


def test_every_suffix_has_a_format():
    assert {format_of(Path(f"a{suffix}"))["format"] for suffix in IMAGE_SUFFIXES} == set(FORMATS)


class TestRoundTrips:
    @pytest.mark.parametrize("suffix", LOSSLESS)
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_eight_bit(self, suffix, channels, tmp_path):
        path, written = tmp_path / "new" / f"a.{suffix}", picture_of(channels)
        losses = encode(written, path)
        read = decode(path)
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
        assert encode(written, tmp_path / f"a.{suffix}") == []
        assert_same(decode(tmp_path / f"a.{suffix}"), written)

    @pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
    def test_sixteen_bit_where_there_is_none(self, suffix, tmp_path):
        written = picture_of(3, np.uint16)
        (loss,) = encode(written, tmp_path / f"a.{suffix}")
        assert "16 bit became 8 bit" in loss
        read = decode(tmp_path / f"a.{suffix}").pixels
        assert read.dtype == np.uint8
        if suffix != "jpg":
            np.testing.assert_array_equal(read, to_eight_bits(written.pixels))

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_jpeg_keeps_smooth_colours_and_grey(self, channels, tmp_path):
        row, column = np.mgrid[:40, :50]
        smooth = np.stack([5 * row, 5 * column, 2 * (row + column)], axis=-1).astype(np.uint8)
        smooth = smooth if channels > 2 else np.repeat(smooth[..., :1], 3, axis=2)
        alpha = smooth[..., 0] if channels in (2, 4) else None
        losses = encode(Picture(smooth, alpha, channels < 3), tmp_path / "a.jpg")
        assert losses == (["alpha is not kept in JPEG"] if channels in (2, 4) else [])
        read = decode(tmp_path / "a.jpg")
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
        assert encode(written, path) == []
        assert_same(decode(path), written)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_colours_under_full_transparency_are_kept(suffix, tmp_path):
    written = Picture(drawn(3, np.uint8), np.zeros((12, 17), np.uint8))
    encode(written, tmp_path / f"a.{suffix}")
    assert_same(decode(tmp_path / f"a.{suffix}"), written)


def test_a_large_sixteen_bit_png_is_written_in_strips(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (600, 3, 3), dtype=np.uint16)
    encode(Picture(values), tmp_path / "a.png")
    np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, values)


class TestWhatCannotBeWritten:
    def test_an_unknown_suffix(self, tmp_path):
        with pytest.raises(ManasError, match=r"use one of \.png"):
            encode(picture_of(3), tmp_path / "folder" / "a.gif")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [*ALL, "deep.png", "deep.tif"])
    def test_a_failed_write_leaves_the_old_file(self, suffix, tmp_path, monkeypatch):
        path = tmp_path / f"a.{suffix}"
        path.write_text("old")

        def fail(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(files.os, "replace", fail)
        with pytest.raises(ManasError, match="No space left"):
            encode(picture_of(3, np.uint16 if "deep" in suffix else np.uint8), path)
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_text() == "old"

    def test_a_side_longer_than_the_format_allows(self, tmp_path):
        for name in ("long.webp", "long.jpg"):
            with pytest.raises(ManasError, match=f"{name}: cannot be written .*another place or format"):
                encode(Picture(np.zeros((1, 70000, 3), np.uint8)), tmp_path / name)
        assert not os.listdir(tmp_path)
