"""A picture that shows other pixels."""

import numpy as np
from photos.drawn import assert_same, drawn, picture_of

from manas.photos.picture import Picture


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
