"""Sensor noise and JPEG: reproducible, as strong as they say, and left out where they are not asked for."""

import numpy as np
import pytest

from manas.config import read_config
from manas.data.weather import Capture
from manas.errors import ManasError

GREY = np.full((2, 64, 64, 3), 0.5, np.float32)


def of(capture: Capture, pictures: np.ndarray = GREY, seed: int = 0) -> np.ndarray:
    return capture.of(pictures, np.random.default_rng(seed))


def test_without_either_nothing_changes():
    assert np.array_equal(of(Capture()), GREY)


@pytest.mark.parametrize("strength", [1, 4])
def test_noise_has_its_strength_at_white_and_less_in_the_shadows(strength):
    capture = Capture(noise=(strength, strength))
    bright, dark = (of(capture, np.full((1, 128, 128, 3), v, np.float32)).std() * 255 for v in (0.9, 0.1))
    assert bright == pytest.approx(strength * np.sqrt(0.925), rel=0.05)
    assert dark < 0.7 * bright


def test_jpeg_leaves_eight_bits_and_the_marks_of_its_quality():
    pictures = np.random.default_rng(1).random((1, 48, 40, 3), dtype=np.float32)
    errors = [np.abs(of(Capture(jpeg=(q, q)), pictures) - pictures).mean() for q in (20, 60, 98)]
    assert errors[0] > errors[1] > errors[2] > 0
    kept = of(Capture(jpeg=(50, 50)), pictures) * 255
    np.testing.assert_allclose(kept, np.rint(kept), atol=1e-4)


@pytest.mark.parametrize(
    "capture", [Capture(noise=(1, 3)), Capture(jpeg=(40, 95)), Capture(noise=(1, 3), jpeg=(40, 95))]
)
def test_draws_are_a_function_of_the_generator_and_differ_among_pictures(capture):
    pictures = np.repeat(np.random.default_rng(1).random((1, 32, 32, 3), dtype=np.float32), 4, axis=0)
    first, again, other = of(capture, pictures), of(capture, pictures), of(capture, pictures, seed=1)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({picture.tobytes() for picture in first}) > 1


@pytest.mark.parametrize(
    "wrong", [{"noise": (3, 1)}, {"noise": (-1, 2)}, {"jpeg": (0, 50)}, {"jpeg": (50, 101)}]
)
def test_ranges_out_of_order_or_bounds_are_refused(wrong):
    with pytest.raises(ManasError, match="two numbers in order"):
        read_config(Capture, wrong)
