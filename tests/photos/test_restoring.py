"""One file is decoded, restored and encoded, and its views lie beside it."""

import numpy as np
import pytest

from manas.data.images import read_image, write_image
from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.metadata import Metadata
from manas.photos.picture import Picture
from manas.photos.restoring import restore_file
from manas.photos.views import AMPLIFICATION, GAP


def invert(pixels, progress=None):
    """A restorer."""
    if progress:
        progress(1, 1)
    return np.iinfo(pixels.dtype).max - pixels


@pytest.fixture(params=[np.uint8, np.uint16])
def pixels(request):
    return np.random.default_rng(0).integers(0, np.iinfo(request.param).max, (5, 7, 3), dtype=request.param)


class TestRestoringAFile:
    def test_writes_the_restored_picture_alone(self, pixels, tmp_path):
        encode(Picture(pixels), tmp_path / "a.png")
        assert restore_file(invert, tmp_path / "a.png", tmp_path / "deep" / "b.png") == []
        np.testing.assert_array_equal(decode(tmp_path / "deep" / "b.png").pixels, invert(pixels))
        np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, pixels)
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["b.png"]

    def test_keeps_the_rest(self, pixels, tmp_path):
        written = Picture(pixels, pixels[..., 0], metadata=Metadata(text={"Title": "rain"}))
        encode(written, tmp_path / "a.png")
        restore_file(invert, tmp_path / "a.png", tmp_path / "b.png")
        read = decode(tmp_path / "b.png")
        np.testing.assert_array_equal(read.alpha, pixels[..., 0])
        assert read.metadata.text == {"Title": "rain"}

    def test_grey_stays_grey(self, pixels, tmp_path):
        grey = np.repeat(pixels[..., :1], 3, axis=2)
        encode(Picture(grey, grey=True), tmp_path / "a.png")
        restore_file(invert, tmp_path / "a.png", tmp_path / "b.png")
        read = decode(tmp_path / "b.png")
        assert read.grey
        np.testing.assert_array_equal(read.pixels, invert(grey))

    def test_writes_what_it_did_beside_it(self, tmp_path):
        pixels = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
        write_image(tmp_path / "a.png", pixels)
        restored = np.array([[[5, 20, 40], [0, 255, 0]]], np.uint8)
        views = ["compare", "difference"]
        restore_file(lambda *_, **__: restored, tmp_path / "a.png", tmp_path / "b.webp", views=views)
        both = read_image(tmp_path / "b.webp.compare.png")
        np.testing.assert_array_equal(both[:, :2], pixels)
        assert (both[:, 2 : 2 + GAP] == 255).all()
        np.testing.assert_array_equal(both[:, 2 + GAP :], restored)
        removed = read_image(tmp_path / "b.webp.difference.png")
        assert AMPLIFICATION == 2
        assert removed.tolist() == [[[138, 128, 108], [255, 0, 128]]]

    def test_views_of_sixteen_bit(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 65536, (600, 2, 3), dtype=np.uint16)
        encode(Picture(pixels), tmp_path / "a.png")
        views = ["compare", "difference"]
        restore_file(lambda x, **_: x, tmp_path / "a.png", tmp_path / "b.png", views=views)
        assert (read_image(tmp_path / "b.png.difference.png") == 128).all()
        assert read_image(tmp_path / "b.png.compare.png").shape == (600, 4 + GAP, 3)

    def test_tells_of_its_progress(self, tmp_path):
        write_image(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
        told = []
        restore_file(invert, tmp_path / "a.png", tmp_path / "b.png", progress=lambda *at: told.append(at))
        assert told == [(1, 1)]

    def test_says_what_is_lost(self, tmp_path):
        encode(Picture(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8)), tmp_path / "a.png")
        assert restore_file(invert, tmp_path / "a.png", tmp_path / "b.jpg") == ["alpha is not kept in JPEG"]
