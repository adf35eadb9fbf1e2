"""Padding by reflected indices, and images that are parted."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.export import Dim, export

from manas.errors import ManasError
from manas.inference.tiling import Tiling, crop_to, pad_to_multiple

sides = st.integers(1, 100)
multiples = st.sampled_from([1, 2, 3, 8, 32])


@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=multiples)
@settings(max_examples=60, deadline=None)
@example(height=1, width=1, multiple=8)
@example(height=2, width=3, multiple=32)
def test_padding_reflects_however_small_the_image(height, width, multiple):
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    bottom, right = -height % multiple, -width % multiple
    # numpy's reflection repeats as ours does, and of a side of one pixel it repeats the pixel
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(crop_to(padded, height, width), image)


class _Padded(nn.Module):
    """A network with two scales, padded and cropped inside, as it is exported."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, stride=2)

    def forward(self, image):
        padded = pad_to_multiple(image, 8)
        coarse = nn.functional.interpolate(self.coarse(padded), scale_factor=2)
        return crop_to(self.fine(padded) + coarse, *image.shape[-2:])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.export itself
def test_padding_and_cropping_export_with_dynamic_sizes():
    network = _Padded().eval()
    sizes = {2: Dim("height", min=1, max=4096), 3: Dim("width", min=1, max=4096)}
    exported = export(network, (torch.rand(1, 3, 37, 45),), dynamic_shapes=(sizes,)).module()
    for height, width in ((41, 67), (5, 3), (64, 64), (1, 9)):
        image = torch.rand(1, 3, height, width)
        assert exported(image).shape == image.shape
        torch.testing.assert_close(exported(image), network(image))


def placed(part, within):
    """A slice of a slice, of what the outer one is of."""
    return slice(within.start + part.start, within.start + part.stop)


def rounded_up(value, multiple):
    return -(-value // multiple) * multiple


any_tiling = given(
    height=sides, width=sides, multiple=multiples, tile=st.none() | st.integers(1, 130), halo=st.integers(0, 50)
)


class TestTiles:
    @any_tiling
    def test_cores_part_the_padded_image_and_what_is_kept_the_image(self, height, width, multiple, tile, halo):
        padded = np.zeros([rounded_up(side, multiple) for side in (height, width)], int)
        image = np.zeros((height, width), int)
        for rows, columns in Tiling(multiple, tile, halo).tiles(height, width):
            padded[placed(rows.core, rows.run), placed(columns.core, columns.run)] += 1
            image[rows.kept, columns.kept] += 1
        assert (padded == 1).all()
        assert (image == 1).all()

    @any_tiling
    def test_what_is_kept_begins_where_the_core_does(self, height, width, multiple, tile, halo):
        for spans in Tiling(multiple, tile, halo).tiles(height, width):
            for span, side in zip(spans, (height, width), strict=True):
                core = placed(span.core, span.run)
                assert (span.kept.start, span.kept.stop) == (core.start, min(core.stop, side))

    @any_tiling
    def test_tiles_start_and_end_at_multiples_inside(self, height, width, multiple, tile, halo):
        for spans in Tiling(multiple, tile, halo).tiles(height, width):
            for span, side in zip(spans, (height, width), strict=True):
                ends = (span.run.start, span.run.stop, span.core.start, span.core.stop)
                assert [end % multiple for end in ends] == [0, 0, 0, 0]
                assert 0 <= span.run.start < span.run.stop <= rounded_up(side, multiple)

    @any_tiling
    def test_a_core_has_its_halo_and_no_more(self, height, width, multiple, tile, halo):
        for spans in Tiling(multiple, tile, halo).tiles(height, width):
            for span, side in zip(spans, (height, width), strict=True):
                core, end = placed(span.core, span.run), rounded_up(side, multiple)
                around = rounded_up(halo, multiple)
                assert span.run == slice(max(core.start - around, 0), min(core.stop + around, end))
                assert core.stop - core.start <= (end if tile is None else rounded_up(tile, multiple))


def test_tiles_come_row_by_row():
    starts = [(rows.kept.start, columns.kept.start) for rows, columns in Tiling(2, 4, 2).tiles(7, 9)]
    assert starts == [(0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (4, 8)]


@pytest.mark.parametrize("tile", [None, 64, 1000])
def test_an_image_that_fits_is_one_tile(tile):
    (tile,) = Tiling(8, tile, 16).tiles(63, 5)
    assert tile.rows == (slice(0, 64), slice(0, 64), slice(0, 63))
    assert tile.columns == (slice(0, 8), slice(0, 8), slice(0, 5))


any_sample = given(
    height=sides, width=sides, multiple=multiples, side=st.integers(1, 60), most=st.integers(1, 4)
)


class TestWindows:
    @any_sample
    def test_they_lie_inside_at_multiples(self, height, width, multiple, side, most):
        for window in Tiling(multiple).windows(height, width, side, most):
            for part, end in zip(window, (height, width), strict=True):
                assert 0 <= part.start < part.stop <= rounded_up(end, multiple)
                assert part.start % multiple == part.stop % multiple == 0
                assert part.stop - part.start == min(rounded_up(side, multiple), rounded_up(end, multiple))

    @any_sample
    def test_there_are_few_and_no_two_alike(self, height, width, multiple, side, most):
        windows = Tiling(multiple).windows(height, width, side, most)
        assert 1 <= len(windows) <= most**2
        assert len({(rows.start, columns.start) for rows, columns in windows}) == len(windows)

    @any_sample
    def test_they_are_spread_from_end_to_end(self, height, width, multiple, side, most):
        windows = Tiling(multiple).windows(height, width, side, most)
        for axis, end in enumerate((height, width)):
            starts = sorted({window[axis].start for window in windows})
            steps = np.diff(starts)
            assert starts[0] == 0
            if len(starts) > 1:
                assert max(window[axis].stop for window in windows) == rounded_up(end, multiple)
                assert steps.max() - steps.min() <= multiple

    @any_sample
    def test_they_cover_all_that_they_can(self, height, width, multiple, side, most):
        seen = np.zeros([rounded_up(end, multiple) for end in (height, width)], bool)
        for rows, columns in Tiling(multiple).windows(height, width, side, most):
            seen[rows, columns] = True
        for axis, end in enumerate(seen.shape):
            # Spread over more than they cover, they may overlap by what is lost to multiples.
            least = min(end, most * rounded_up(side, multiple) - (most - 1) * (multiple - 1))
            assert seen.any(1 - axis).sum() >= least

    @any_sample
    def test_an_image_that_fits_is_one_window(self, height, width, multiple, side, most):
        windows = Tiling(multiple).windows(height, width, max(height, width), most)
        assert windows == [tuple(slice(0, rounded_up(end, multiple)) for end in (height, width))]


@given(height=sides, width=sides, multiple=multiples, data=st.data())
@settings(max_examples=25)
def test_a_cut_is_a_part_of_the_padded_image(height, width, multiple, data):
    image = torch.rand(2, 3, height, width)
    tiling = Tiling(multiple, data.draw(sides), data.draw(st.integers(0, 9)))
    for rows, columns in tiling.tiles(height, width)[:20]:
        expected = pad_to_multiple(image, multiple)[..., rows.run, columns.run]
        assert torch.equal(tiling.cut(image, rows.run, columns.run), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float64])
def test_a_cut_has_the_type_of_the_image_and_memory_of_its_own(dtype):
    image = (torch.rand(1, 3, 9, 9) * 200).to(dtype)
    part = Tiling(8).cut(image, slice(8, 16), slice(0, 8))
    assert (part.dtype, part.shape) == (dtype, (1, 3, 8, 8))
    assert part.untyped_storage().nbytes() == 3 * 8 * 8 * dtype.itemsize
    assert torch.equal(part[..., 1, :].int(), image[..., 7, :8].int())  # reflected about row 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 0}, "tile must be at least 1"),
        ({"tile": -8}, "tile must be at least 1"),
        ({"halo": -1}, "halo must be at least 0"),
        ({"multiple": 0}, "multiple must be at least 1"),
    ],
)
def test_impossible_tiles_are_refused(arguments, message):
    with pytest.raises(ManasError, match=message):
        Tiling(**{"multiple": 8, "tile": 8, "halo": 0, **arguments})
