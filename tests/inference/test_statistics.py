"""What pooling layers see of an image that is restored in tiles."""

import pytest
import torch
from inference.tiny_networks import Squashed, local_stack, pools_twice, restoration, uneven

from manas.inference.statistics import (
    NotFiniteError,
    exact_statistics,
    pooling_depth,
    sampled_statistics,
    with_statistics,
)
from manas.inference.tiling import Tiling
from manas.restoration.pooling import image_mean, pooled_by
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES

HALO = 24  # covers every network here


class Seen:
    """Pools as a layer does alone, and remembers what it found."""

    def __init__(self):
        self.found = []

    def __call__(self, x, kind):
        self.found.append(x.mean((2, 3)) if kind == "mean" else x.amax((2, 3)))
        return self.found[-1]


def statistics_of_whole(network, image):
    seen = Seen()
    with torch.no_grad(), pooled_by(seen):
        network(image)
    return seen.found


def tiles_of(image, tile, multiple=2, halo=HALO):
    """A function that gives the tiles of an image with their cores."""
    tiling = Tiling(multiple, tile, halo)
    return lambda: (
        (tiling.cut(image, rows.run, columns.run), (rows.core, columns.core))
        for rows, columns in tiling.tiles(*image.shape[-2:])
    )


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class TestExact:
    @torch.no_grad()
    def test_they_are_those_of_the_whole(self):
        network, image = pools_twice(), uneven(1, 3, 20, 26)
        assert_alike(exact_statistics(network, tiles_of(image, 6, halo=2)), statistics_of_whole(network, image))

    @pytest.mark.parametrize("gate", PUBLISHED_GATES)
    @torch.no_grad()
    def test_behind_every_gate_and_at_every_scale(self, gate, randomised):
        network, image = Squashed(restoration(randomised, 0, gate)), uneven(1, 3, 12, 10)
        assert_alike(exact_statistics(network, tiles_of(image, 6)), statistics_of_whole(network, image))

    @torch.no_grad()
    def test_the_brightest_pixel_may_be_in_any_tile(self):
        network = pools_twice()
        for row, column in ((0, 0), (0, 11), (11, 0), (11, 11), (6, 5)):
            image = torch.full((1, 3, 12, 12), 0.2)
            image[..., row, column] = 1
            assert_alike(
                exact_statistics(network, tiles_of(image, 4, halo=2)), statistics_of_whole(network, image)
            )

    @torch.no_grad()
    def test_one_pass_a_depth_leaves_tiles_early_and_one_tile_tells_the_end(self):
        network, tiles = pools_twice(), 12
        exact_statistics(network, tiles_of(uneven(1, 3, 9, 12), 3, multiple=1))
        assert network.runs == 2 * tiles + 1
        # Only the first tile of a pass is run on, to find which layers have their turn.
        assert network.ends == 3

    @torch.no_grad()
    def test_layers_side_by_side_share_a_pass(self):
        first, second = pools_twice(), pools_twice()
        exact_statistics(lambda x: first(x) + second(x), tiles_of(uneven(1, 3, 9, 12), 3, multiple=1))
        assert first.runs == 2 * 12 + 1

    @torch.no_grad()
    def test_a_network_without_pooling_has_none(self):
        assert exact_statistics(local_stack(1), tiles_of(torch.rand(1, 3, 8, 8), 4)) == []

    @torch.no_grad()
    def test_features_that_are_nan_are_an_error(self):
        network = pools_twice()
        network.second.weight.data.fill_(torch.nan)
        with pytest.raises(NotFiniteError):
            exact_statistics(network, tiles_of(torch.rand(1, 3, 8, 8), 4))

    @torch.no_grad()
    def test_means_are_summed_in_a_wide_type(self):
        bright = torch.full((1, 3, 512, 512), 0.1)
        (mean,) = exact_statistics(lambda x: image_mean(x)[..., None, None] * x, tiles_of(bright, 8, halo=0))
        torch.testing.assert_close(mean, torch.full((1, 3), 0.1), rtol=1e-7, atol=0)
        assert mean.dtype == torch.float32

    @torch.no_grad()
    def test_in_half_precision_they_are_close(self):
        network, image = pools_twice(), uneven(1, 3, 16, 16)
        with torch.autocast("cpu", torch.bfloat16):
            found = exact_statistics(network, tiles_of(image, 8))
            restored = with_statistics(network, image, found)
        for ours, theirs in zip(found, statistics_of_whole(network, image), strict=True):
            torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.02)
        torch.testing.assert_close(restored.float(), network(image), rtol=0, atol=0.02)


class TestSampled:
    @torch.no_grad()
    def test_of_the_whole_they_are_exact(self):
        network, image = pools_twice(), uneven(1, 3, 20, 26)
        assert_alike(sampled_statistics(network, image), statistics_of_whole(network, image))
        assert network.runs == 2  # one for each

    @torch.no_grad()
    def test_windows_pool_together(self):
        network, windows = pools_twice(), uneven(4, 3, 9, 9)
        windows[2] *= 3
        mean, maximum = sampled_statistics(network, windows)
        features = network.first(windows)
        torch.testing.assert_close(mean, features.mean((0, 2, 3))[None])
        features = network.second(features * (4 * mean).exp()[:, :, None, None])
        torch.testing.assert_close(maximum, features.amax((0, 2, 3))[None])


class TestGiven:
    @torch.no_grad()
    def test_with_its_own_statistics_an_image_is_restored_as_alone(self):
        network, image = pools_twice(), uneven(1, 3, 11, 8)
        given = statistics_of_whole(network, image)
        torch.testing.assert_close(with_statistics(network, image, given), network(image))

    @torch.no_grad()
    def test_others_change_it(self):
        network, image = pools_twice(), uneven(1, 3, 11, 8)
        given = statistics_of_whole(network, image / 2)
        assert (with_statistics(network, image, given) - network(image)).abs().max() > 1e-2

    @torch.no_grad()
    def test_they_are_of_every_image_of_a_batch(self):
        network, images = pools_twice(), uneven(3, 3, 8, 8)
        given = statistics_of_whole(network, images[:1])
        each = [with_statistics(network, image[None], given) for image in images]
        torch.testing.assert_close(with_statistics(network, images, given), torch.cat(each))


@torch.no_grad()
def test_the_depth_of_pooling():
    def pools(behind):
        def network(x):
            for _ in range(behind):
                x = x * image_mean(x)[..., None, None].sigmoid()
            return x

        return network

    smallest = torch.full((1, 3, 2, 2), 0.5)
    assert [pooling_depth(pools(behind), smallest) for behind in (0, 1, 4)] == [0, 1, 4]
    assert pooling_depth(lambda x: pools(3)(x) + pools(2)(x), smallest) == 3
    assert pooling_depth(local_stack(1), smallest) == 0
