"""From pixels to restored pixels: tiles equal the whole."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inference.tiny_networks import Squashed, local_stack, pools_twice, restoration, uneven
from torch import nn

from manas.errors import ManasError
from manas.inference import pipeline
from manas.inference.ensemble import ALL_TURNS, NO_TURN
from manas.inference.pipeline import NotFiniteError, Pipeline
from manas.inference.receptive import receptive_radius
from manas.inference.statistics import sampled_statistics, with_statistics
from manas.inference.tiling import Tiling, pad_to_multiple
from search_spaces.dual_recursive import DualRecursive
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES

CPU = torch.device("cpu")

sides = st.integers(1, 70)


def whole(network, multiple=1, **options):
    return Pipeline(network, CPU, Tiling(multiple), **options)


def tiled(network, tile, halo, multiple=1, **options):
    return Pipeline(network, CPU, Tiling(multiple, tile, halo), **options)


def assert_equal(restored, expected):
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5)


def apart(restored, other):
    return (restored - other).abs().max()


class TestLocalNetworks:
    """Where nothing is pooled, tiles need the receptive radius alone."""

    @settings(max_examples=60)
    @given(
        height=sides,
        width=sides,
        multiple=st.sampled_from([1, 2, 8]),
        tile=st.integers(1, 100),
        radius=st.integers(1, 6),
        gathering=st.sampled_from([None, "sampled", "exact"]),
    )
    @example(height=1, width=1, multiple=8, tile=8, radius=3, gathering=None)
    @example(height=33, width=64, multiple=8, tile=32, radius=6, gathering="sampled")
    def test_tiles_equal_the_whole(self, height, width, multiple, tile, radius, gathering):
        network, image = local_stack(radius), torch.rand(1, 3, height, width)
        tile = max(tile, height // 6, width // 6)  # bounds the number of tiles, for time
        restored = tiled(network, tile, radius, multiple, gathering=gathering)(image)
        assert_equal(restored, whole(network, multiple)(image))

    def test_two_scales_agree_when_tiles_start_at_the_multiple(self):
        torch.manual_seed(0)
        down, image = nn.Conv2d(3, 3, 3, padding=1, stride=2), torch.rand(2, 3, 45, 51)

        def network(image):
            return nn.functional.interpolate(down(image).sigmoid(), scale_factor=2)

        assert_equal(tiled(network, 15, 3, 2)(image), whole(network, 2)(image))

    @pytest.mark.parametrize("shuffle", [2, 4])
    def test_recursions_on_the_image_unshuffled(self, shuffle, randomised):
        space = DualRecursive(channels=4, stages=2, recursions=1, shuffle=shuffle)
        network, image = nn.Sequential(randomised(space.network()), nn.Sigmoid()), torch.rand(1, 3, 45, 131)
        radius = receptive_radius(network, shuffle)
        expected = whole(network, shuffle)(image)
        assert_equal(tiled(network, 21, radius, shuffle)(image), expected)
        assert apart(tiled(network, 21, 0, shuffle)(image), expected) > 1e-3

    def test_too_small_a_halo_shows(self):
        network, image = local_stack(4), torch.rand(1, 3, 40, 40)
        assert apart(tiled(network, 16, 1)(image), whole(network)(image)) > 1e-4
        assert apart(tiled(network, 16, 3)(image), whole(network)(image)) > 1e-6


class TestExactStatistics:
    """Tiles equal the whole for every network whose pooling is gathered over the image."""

    @settings(max_examples=25)
    @given(height=sides, width=sides, tile=st.integers(8, 100), ensemble=st.booleans())
    @example(height=1, width=1, tile=1, ensemble=True)
    @example(height=2, width=70, tile=9, ensemble=False)
    def test_two_depths_of_pooling(self, height, width, tile, ensemble):
        network, image = pools_twice(), uneven(1, 3, height, width)
        turns = ALL_TURNS if ensemble else (NO_TURN,)
        restored = tiled(network, tile, 2, gathering="exact", turns=turns)(image)
        assert_equal(restored, whole(network, turns=turns)(image))

    @settings(max_examples=8)
    @given(
        height=st.integers(1, 40),
        width=st.integers(1, 40),
        tile=st.integers(1, 50),
        seed=st.integers(0, 9),
        towers=st.integers(1, 2),
        ensemble=st.booleans(),
    )
    @example(height=1, width=1, tile=1, seed=0, towers=2, ensemble=False)
    @example(height=40, width=3, tile=10, seed=1, towers=2, ensemble=True)
    def test_any_genotype(self, randomised, height, width, tile, seed, towers, ensemble):
        network = Squashed(restoration(randomised, seed, towers=towers))
        turns, tile = ALL_TURNS if ensemble else (NO_TURN,), max(tile, height // 3, width // 3)
        image, radius = uneven(1, 3, height, width), receptive_radius(network, 2)
        restored = tiled(network, tile, radius, 2, gathering="exact", turns=turns)(image)
        assert_equal(restored, whole(network, 2, turns=turns)(image))

    @pytest.mark.parametrize("norm", ["batch", "layer", "none"])
    @pytest.mark.parametrize("gate", PUBLISHED_GATES)
    def test_every_gate(self, randomised, gate, norm):
        network = Squashed(restoration(randomised, 0, gate, norm=norm))
        image, radius = uneven(1, 3, 12, 90), receptive_radius(network, 2)
        expected = whole(network, 2)(image)
        assert_equal(tiled(network, 10, radius, 2, gathering="exact")(image), expected)
        # Without the statistics of the whole, tiles are wrong: what is tested here can be told apart.
        assert apart(tiled(network, 10, radius, 2, gathering=None)(image), expected) > 3e-5

    @pytest.mark.parametrize("shuffle", [2, 4])
    @pytest.mark.parametrize("gate", ["none", "channel_attention_v2", "cbam"])
    def test_scales_of_the_image_unshuffled(self, randomised, gate, shuffle):
        network = Squashed(restoration(randomised, 0, gate, shuffle=shuffle))
        multiple, image = 2 * shuffle, uneven(1, 3, 21, 131)
        radius, expected = receptive_radius(network, multiple), whole(network, multiple)(image)
        assert_equal(tiled(network, 18, radius, multiple, gathering="exact")(image), expected)

    def test_each_image_of_a_batch_has_its_own(self):
        network, images = pools_twice(), uneven(3, 3, 20, 20) * torch.tensor([0.2, 0.5, 1]).view(3, 1, 1, 1)
        for gathering in ("exact", "sampled"):
            assert_equal(tiled(network, 8, 2, gathering=gathering)(images), whole(network)(images))


class TestSampledStatistics:
    @settings(max_examples=15)
    @given(height=sides, width=sides, tile=st.integers(8, 100), ensemble=st.booleans())
    @example(height=1, width=1, tile=1, ensemble=True)
    def test_an_image_that_fits_into_the_sample_is_as_the_whole(self, height, width, tile, ensemble):
        network, image = pools_twice(), uneven(1, 3, height, width)
        turns = ALL_TURNS if ensemble else (NO_TURN,)
        assert_equal(tiled(network, tile, 2, turns=turns)(image), whole(network, turns=turns)(image))

    def test_beyond_it_the_size_of_the_tiles_does_not_matter(self, image, small_sample):
        network = pools_twice()
        first, *others = (tiled(network, tile, 2, 4)(image) for tile in (8, 20, 36, 56))
        for other in others:
            assert_equal(other, first)
        assert apart(first, whole(network, 4)(image)) > 1e-4  # it is a sample

    def test_no_seam_shows(self, image, small_sample):
        """Tiles equal the whole image under the statistics of the sample, on both sides of every border."""
        network, tiling = pools_twice(), Tiling(4)
        windows = [tiling.cut(image, *part) for part in tiling.windows(*image.shape[-2:], *small_sample)]
        with torch.no_grad():
            statistics = sampled_statistics(network, torch.cat(windows))
            expected = with_statistics(network, pad_to_multiple(image, 4), statistics)
        assert_equal(tiled(network, 16, 2, 4)(image), expected[..., :57, :49])
        seams = tiled(network, 16, 2, 4, gathering=None)(image)
        assert apart(seams, expected[..., :57, :49]) > 1e-2

    def test_the_network_is_run_once_more_than_there_are_tiles(self, image, small_sample):
        network = pools_twice()
        tiled(network, 16, 2, 4)(image)
        assert network.runs == 1 + 4 * 4

    @pytest.fixture
    def image(self):
        return uneven(1, 3, 57, 49)

    @pytest.fixture
    def small_sample(self, monkeypatch):
        sample = (8, 3)
        monkeypatch.setattr(pipeline, "WINDOW", sample[0])
        monkeypatch.setattr(pipeline, "WINDOWS", sample[1])
        return sample


class TestPixels:
    @pytest.mark.parametrize("tile", [None, 8])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_floats_come_back_as_they_are(self, dtype, tile):
        image = torch.rand(2, 3, 19, 13).to(dtype)
        restored = tiled(nn.Identity(), tile, 0, 8)(image)
        assert (restored.dtype, restored.device) == (dtype, image.device)
        assert torch.equal(restored, image)

    @pytest.mark.parametrize("tile", [None, 64])
    @pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535)])
    def test_every_level_comes_back(self, dtype, white, tile):
        levels = torch.arange(white + 1).reshape(1, 1, -1, 256).expand(1, 3, -1, -1).to(dtype)
        assert torch.equal(tiled(nn.Identity(), tile, 0)(levels).int(), levels.int())

    @pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535)])
    def test_levels_are_rounded_and_cut_off(self, dtype, white):
        image = torch.zeros(1, 3, 1, 6).to(dtype)
        values = torch.tensor([-0.3, 0.0, 0.4 / white, 0.6 / white, 1.0, 1.4])
        restored = whole(lambda x: values.expand_as(x))(image)
        assert restored[0, 0, 0].tolist() == [0, 0, 0, 1, white, white]

    def test_floats_are_cut_off(self):
        restored = whole(lambda x: x * 4 - 1)(torch.tensor([0.0, 0.3, 0.9]).expand(1, 3, 1, 3))
        torch.testing.assert_close(restored[0, 0, 0], torch.tensor([0.0, 0.2, 1.0]))

    def test_the_network_sees_single_precision_between_zero_and_one(self):
        def network(x):
            assert x.dtype == torch.float32
            torch.testing.assert_close(x.amax(), torch.tensor(1.0))
            return x

        for image in (torch.tensor(255, dtype=torch.uint8), torch.tensor(65535).to(torch.uint16)):
            whole(network)(image.expand(1, 3, 2, 2))
        whole(network)(torch.ones(1, 3, 2, 2, dtype=torch.float64))

    def test_the_image_is_not_changed(self):
        image = torch.rand(1, 3, 9, 9)
        before = image.clone()
        tiled(lambda x: x.mul_(0.5), 4, 0)(image)
        whole(lambda x: x.mul_(0.5))(image)
        assert torch.equal(image, before)

    def test_no_graph_is_kept(self):
        network, image = local_stack(1), torch.rand(1, 3, 9, 9, requires_grad=True)
        assert not whole(network, 8)(image).requires_grad
        assert not tiled(network, 8, 1, 8)(image).requires_grad

    def test_the_result_is_a_tensor_like_any_other(self):
        restored = whole(local_stack(1))(torch.rand(1, 3, 9, 9))
        restored.mul_(0.5)
        (restored * torch.ones(1, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("tile", [None, 4])
class TestStrength:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
    def test_zero_is_the_image_itself(self, dtype, tile):
        image = (torch.rand(1, 3, 9, 9) * (1 if dtype.is_floating_point else 255)).to(dtype)
        restored = tiled(local_stack(1), tile, 1, strength=0.0)(image)
        assert torch.equal(restored.double(), image.double())

    def test_one_is_the_restoration(self, tile):
        image, network = torch.rand(1, 3, 9, 9), local_stack(1)
        with torch.no_grad():
            assert_equal(tiled(network, tile, 1, strength=1.0)(image), network(image))

    def test_between_them_it_is_a_mixture(self, tile):
        image, network = torch.rand(1, 3, 9, 9), local_stack(1)
        with torch.no_grad():
            mixed = 0.75 * image + 0.25 * network(image)
        assert_equal(tiled(network, tile, 1, strength=0.25)(image), mixed)


class TestProgress:
    def seen(self, restore, image):
        seen = []
        restore(image, lambda *each: seen.append(each))
        return seen

    def test_it_counts_tiles(self):
        assert self.seen(tiled(nn.Identity(), 4, 0), torch.rand(1, 3, 8, 9)) == [(n, 6) for n in range(1, 7)]

    def test_and_those_of_every_image(self):
        assert self.seen(tiled(nn.Identity(), 8, 0), torch.rand(3, 3, 8, 9)) == [(n, 6) for n in range(1, 7)]

    def test_a_batch_that_is_whole_is_one(self):
        assert self.seen(whole(nn.Identity()), torch.rand(3, 3, 8, 9)) == [(1, 1)]


class TestDevice:
    def test_only_tiles_go_there(self):
        seen = []

        def network(image):
            seen.append((image.device.type, tuple(image.shape)))
            raise NotImplementedError  # nothing can come back from the meta device

        elsewhere = Pipeline(network, torch.device("meta"), Tiling(8, 8, 8))
        with pytest.raises(NotImplementedError):
            elsewhere(torch.rand(1, 3, 32, 32))
        assert {device for device, _ in seen} == {"meta"}

    @pytest.mark.parametrize("gathering", [None, "exact"])
    def test_none_is_larger_than_its_core_and_halo(self, gathering):
        shapes = []

        def network(image):
            shapes.append(image.shape)
            return image

        tiled(network, 8, 8, 8, gathering=gathering)(torch.rand(2, 3, 64, 64))
        assert {shape[0] for shape in shapes} == {1}
        assert max(max(shape[-2:]) for shape in shapes) == 24


class TestRefused:
    @pytest.mark.parametrize("shape", [(3, 9, 9), (1, 3, 0, 9), (0, 3, 9, 9)])
    @pytest.mark.parametrize("tile", [None, 8])
    def test_what_is_no_batch_of_images(self, shape, tile):
        with pytest.raises(ManasError, match="takes a batch of images"):
            tiled(nn.Identity(), tile, 0, 8)(torch.rand(*shape))

    @pytest.mark.parametrize("gathering", [None, "sampled", "exact"])
    def test_a_network_that_changes_the_shape(self, gathering):
        restore = tiled(nn.AvgPool2d(2), 8, 0, 8, gathering=gathering)
        with pytest.raises(ManasError, match=r"turned \(1, 3, 8, 8\) into \(1, 3, 4, 4\)"):
            restore(torch.rand(1, 3, 9, 9))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_what_is_not_finite_is_told(self, value, dtype):
        def network(image):
            image[..., -1, -1] = value
            return image

        with pytest.raises(NotFiniteError):
            tiled(network, 4, 0)(torch.zeros(1, 3, 9, 9, dtype=dtype))
