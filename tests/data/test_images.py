"""Every kind of image file in, and files out; whatever cannot be read is one clear error."""

import os
import stat
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manas import files
from manas.data.archives.checks import sizes_in_headers
from manas.data.images import IMAGE_SUFFIXES, read_image, write_image
from manas.errors import ManasError


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)


LOSSLESS = [suffix for suffix in IMAGE_SUFFIXES if suffix not in (".jpg", ".jpeg")]


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".PNG"])
def test_what_is_written_is_read_back(suffix, picture, tmp_path):
    path = write_image(tmp_path / "new" / "folder" / f"picture{suffix}", picture)
    assert os.listdir(path.parent) == [path.name]
    read = read_image(str(path))
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, picture)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_keeps_the_colours_of_a_smooth_picture(suffix, tmp_path):
    row, column = np.mgrid[:40, :50]
    smooth = np.stack([5 * row, 5 * column, 2 * (row + column)], axis=-1).astype(np.uint8)
    read = read_image(write_image(tmp_path / f"smooth{suffix}", smooth))
    assert np.abs(read.astype(int) - smooth).mean() < 2


def test_views_are_written_as_they_look(picture, tmp_path):
    turned = picture[::-1, ::2]
    np.testing.assert_array_equal(read_image(write_image(tmp_path / "turned.png", turned)), turned)


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.png.exe"])
def test_an_unknown_suffix_is_refused_before_anything_is_written(name, picture, tmp_path):
    with pytest.raises(ManasError, match=r"use one of \.png"):
        write_image(tmp_path / "folder" / name, picture)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 4), (3, 4, 5), (0, 5, 3)])
def test_what_is_no_picture_is_refused_before_anything_is_written(shape, tmp_path):
    with pytest.raises(ManasError, match="uint8 of shape"):
        write_image(tmp_path / "folder" / "picture.png", np.zeros(shape, np.uint8))
    with pytest.raises(ManasError, match="float64"):
        write_image(tmp_path / "folder" / "picture.png", np.zeros((4, 5, 3)))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(picture, tmp_path, monkeypatch):
    path = write_image(tmp_path / "picture.png", picture)

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(ManasError, match="No space left"):
        write_image(path, 255 - picture)
    assert os.listdir(tmp_path) == ["picture.png"]
    np.testing.assert_array_equal(read_image(path), picture)


def test_a_place_that_cannot_be_written_is_an_error(picture, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "picture.png", tmp_path / "folder.png"):
        with pytest.raises(ManasError, match="cannot write"):
            write_image(path, picture)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_a_side_longer_than_the_format_allows_is_an_error(tmp_path):
    for name in ("long.webp", "long.jpg"):
        with pytest.raises(ManasError, match=f"{name} .*another place or format"):
            write_image(tmp_path / name, np.zeros((1, 70000, 3), np.uint8))
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_a_written_file_has_the_usual_permissions(picture, tmp_path):
    (tmp_path / "other").touch()
    path = write_image(tmp_path / "picture.png", picture)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_grey_and_black_and_white(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 1], 255 * (grey > 100))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(suffix, tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65278, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep{suffix}")
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / f"deep{suffix}")[..., 2], expected)


def test_deeper_grey_is_refused(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.array([[0, 1 << 20]], dtype=np.int32)).save(tmp_path / "wide.tif")
    for name in ("float.tif", "wide.tif"):
        with pytest.raises(ManasError, match="neither 8 nor 16 bit"):
            read_image(tmp_path / name)


def test_alpha_is_dropped_not_composed(picture, tmp_path):
    alpha = np.zeros_like(picture[..., :1])
    Image.fromarray(np.concatenate([picture, alpha], axis=2)).save(tmp_path / "alpha.png")
    Image.fromarray(np.concatenate([picture[..., :1], alpha], axis=2)).save(tmp_path / "grey_alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), picture)
    np.testing.assert_array_equal(read_image(tmp_path / "grey_alpha.png")[..., 0], picture[..., 0])


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palettes_with_and_without_transparency(transparency, tmp_path):
    indexed = Image.new("P", (3, 2))
    indexed.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    indexed.putdata([0, 1, 2, 2, 1, 0])
    settings = {} if transparency is None else {"transparency": transparency}
    indexed.save(tmp_path / "palette.png", **settings)
    read = read_image(tmp_path / "palette.png")
    np.testing.assert_array_equal(read[0], [[255, 0, 0], [0, 255, 0], [10, 20, 30]])


def test_cmyk_jpeg(tmp_path):
    ink = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    ink.save(tmp_path / "ink.jpg", quality=95)
    red = read_image(tmp_path / "ink.jpg")
    assert red.shape == (8, 16, 3)
    np.testing.assert_allclose(red.mean(axis=(0, 1)), [255, 0, 0], atol=4)


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(orientation, quarter_turns, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(picture, quarter_turns))


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("kept", [0, 3, 30, -200])
def test_truncated_and_empty_files_name_their_path(suffix, kept, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    path = write_image(tmp_path / f"picture{suffix}", large)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ManasError, match=f"picture{suffix}: cannot read it as an image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_names_its_path(tmp_path):
    (tmp_path / "text.png").write_text("this is no picture\n" * 20)
    (tmp_path / "folder.png").mkdir()
    for name in ("text.png", "folder.png", "missing.png"):
        with pytest.raises(ManasError, match=name):
            read_image(tmp_path / name)


@settings(max_examples=60, deadline=None)
@given(
    suffix=st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".tif"]),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_damaged_files_are_read_or_refused(suffix, damage, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    smooth = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    contents = bytearray(write_image(path, smooth).read_bytes())
    for position, value in damage:
        contents[int(position * len(contents))] = value
    path.write_bytes(contents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read = read_image(path)
        except ManasError:
            return
    assert read.dtype == np.uint8
    assert read.ndim == 3


def test_only_formats_that_start_no_program_are_opened(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png", format="EPS")
    with pytest.raises(ManasError, match="cannot read it as an image"):
        read_image(tmp_path / "a.png")
    assert [problem.kind for problem in sizes_in_headers([tmp_path / "a.png"])[1]] == ["unreadable"]
