"""Padding by reflected indices, and tiles that equal the whole."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.export import Dim, export

from manas.errors import ManasError
from manas.inference.tiling import crop_to, pad_to_multiple, restore_tiled, restore_whole


@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from([1, 2, 3, 8, 32]))
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


def local_network(radius, dtype=torch.float32):
    """A stack of 3 x 3 convolutions: nothing farther than `radius` pixels is seen."""
    torch.manual_seed(0)
    layers = []
    for _ in range(radius):
        layers += [nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers).to(dtype).eval()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    multiple=st.sampled_from([1, 2, 8]),
    tile=st.integers(1, 40),
    radius=st.integers(1, 6),
)
@example(height=1, width=1, multiple=8, tile=8, radius=3)
@example(height=33, width=64, multiple=8, tile=32, radius=6)
def test_tiles_equal_the_whole_where_the_halo_covers_the_receptive_radius(
    height, width, multiple, tile, radius
):
    network = local_network(radius)
    image = torch.rand(1, 3, height, width)
    whole = restore_whole(network, image, multiple)
    tile = max(tile, height // 6, width // 6)  # bounds the number of tiles, for time
    tiled = restore_tiled(network, image, multiple, tile, halo=radius)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_two_scales_agree_when_tiles_start_at_the_multiple():
    torch.manual_seed(0)
    down = nn.Conv2d(3, 3, 3, padding=1, stride=2)

    def network(image):
        return nn.functional.interpolate(down(image).tanh(), scale_factor=2)

    image = torch.rand(2, 3, 45, 51)
    whole = restore_whole(network, image, 2)
    torch.testing.assert_close(restore_tiled(network, image, 2, tile=15, halo=3), whole, rtol=0, atol=1e-5)


def test_too_small_a_halo_shows():
    network = local_network(4)
    image = torch.rand(1, 3, 40, 40)
    whole, tiled = restore_whole(network, image, 1), restore_tiled(network, image, 1, tile=16, halo=1)
    assert (whole - tiled).abs().max() > 1e-4


@pytest.mark.parametrize(("multiple", "tile", "halo"), [(8, 20, 5), (4, 4, 0), (1, 100, 3)])
def test_tiles_start_and_end_at_multiples_and_stay_within_their_size(multiple, tile, halo):
    positions = torch.arange(50 * 61).reshape(1, 1, 50, 61).expand(1, 3, 50, 61).double()
    whole = pad_to_multiple(positions, multiple)
    limit = sum(-(-part // multiple) * multiple for part in (tile, halo, halo))

    def network(image):
        assert image.shape[-2] % multiple == image.shape[-1] % multiple == 0
        assert max(image.shape[-2:]) <= limit
        row, column = (whole[0, 0] == image[0, 0, 0, 0]).nonzero()[0].tolist()
        assert row % multiple == column % multiple == 0
        return image

    assert torch.equal(restore_tiled(network, positions, multiple, tile, halo), positions)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_result_is_where_and_what_the_image_is(dtype):
    image = torch.rand(2, 3, 19, 13, dtype=dtype)
    network = nn.Identity()
    for restored in (restore_whole(network, image, 8), restore_tiled(network, image, 8, 8, 0)):
        assert restored.dtype == dtype
        assert restored.device == image.device
        assert torch.equal(restored, image)


def test_only_tiles_go_to_the_device_of_the_network():
    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 1, 1, device="meta"))
            self.seen = []

        def forward(self, image):
            self.seen.append((image.device.type, tuple(image.shape)))
            return image * self.weight

    network = Elsewhere()
    with pytest.raises(NotImplementedError):  # nothing can come back from the meta device
        restore_tiled(network, torch.rand(1, 3, 32, 32), 8, tile=8, halo=8)
    assert network.seen == [("meta", (1, 3, 16, 16))]


def test_no_graph_is_kept():
    network, image = local_network(1), torch.rand(1, 3, 9, 9)
    assert not restore_whole(network, image, 8).requires_grad
    assert not restore_tiled(network, image, 8, 8, 1).requires_grad


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
        restore_tiled(
            nn.Identity(), torch.rand(1, 3, 9, 9), **{"multiple": 8, "tile": 8, "halo": 0, **arguments}
        )


@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 3, 0, 9), (0, 3, 9, 9)])
def test_what_is_no_batch_of_images_is_refused(shape):
    with pytest.raises(ManasError, match="takes a batch of images"):
        restore_whole(nn.Identity(), torch.rand(*shape), 8)
    with pytest.raises(ManasError, match="takes a batch of images"):
        restore_tiled(nn.Identity(), torch.rand(*shape), 8, 8, 0)


def test_a_network_that_changes_the_shape_is_refused():
    with pytest.raises(ManasError, match=r"turned \(1, 3, 16, 16\) into \(1, 3, 8, 8\)"):
        restore_whole(nn.AvgPool2d(2), torch.rand(1, 3, 9, 9), 8)
