"""How much memory a network needs, against sums by hand."""

import pytest
import torch
from inference.tiny_networks import Squashed, restoration
from torch import nn
from training.tiny_runs import tower

from manas.architecture.genotype import Genotype
from manas.inference import footprint
from manas.inference.footprint import CPU_MEMORY, GPU_SHARE, bytes_a_pixel, memory_for

FLOAT = 4  # bytes


class Function(nn.Module):
    """A network that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(image)


def bytes_of(function, multiple=1):
    return bytes_a_pixel(Function(function), multiple)


class TestByHand:
    def test_a_layer_needs_its_output(self):
        assert bytes_a_pixel(nn.Conv2d(3, 8, 3, padding=1), 1) == 8 * FLOAT

    def test_layers_in_a_row_need_the_two_that_meet(self):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 3, 1)
        )
        assert bytes_a_pixel(network, 1) == (8 + 16) * FLOAT

    def test_what_works_in_place_needs_nothing_more(self):
        first, last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        assert bytes_a_pixel(nn.Sequential(first, nn.ReLU(inplace=True), last), 1) == (8 + 3) * FLOAT
        assert bytes_a_pixel(nn.Sequential(first, nn.ReLU(), last), 1) == (8 + 8) * FLOAT

    def test_a_shortcut_stays_alive(self):
        def network(image):
            kept = torch.cat([image, image])
            x = torch.relu(kept) + 1
            return x + kept

        # kept, and of relu(kept), 1 + relu(kept) and the sum the two that meet
        assert bytes_of(network) == 3 * 6 * FLOAT

    def test_scales_need_a_quarter(self):
        def network(image):
            small = torch.nn.functional.avg_pool2d(image, 2)
            return torch.nn.functional.interpolate(small, scale_factor=2)

        assert bytes_of(network, 2) == 3 * FLOAT * 5 // 4

    def test_everything_that_is_kept_counts(self):
        def network(image):
            kept = [image + n for n in range(7)]
            return torch.relu(kept[0])

        assert bytes_of(network) == 8 * 3 * FLOAT

    def test_nothing_that_was_let_go_does(self):
        def network(image):
            for _ in range(7):
                image = image + 1
            return image

        assert bytes_of(network) == 2 * 3 * FLOAT

    def test_views_need_nothing(self):
        def network(image):
            made = image + 1
            parts = [part.mT.flip(-1)[..., None] for part in ()] + list(made.chunk(3, 1))
            return [part.permute(0, 2, 3, 1) for part in parts][0]

        assert bytes_of(network) == 3 * FLOAT

    def test_operations_that_give_several_tensors(self):
        def network(image):
            values, places = image.max(1)  # of one channel, the second in int64
            return values, places

        assert bytes_of(network) == FLOAT + 8

    @pytest.mark.parametrize("multiple", [3, 32, 100])
    def test_of_any_multiple(self, multiple):
        assert bytes_a_pixel(nn.Conv2d(3, 8, 1), multiple) == 8 * FLOAT


class TestNetworks:
    def test_wider_ones_need_more(self):
        narrow, wide = (
            bytes_a_pixel(Genotype.sample(tower(channels=[n, 2 * n]), 0).network().eval(), 2) for n in (8, 32)
        )
        assert 2 * narrow < wide < 4 * narrow

    def test_two_towers_need_the_features_of_both(self, randomised):
        one, two = (bytes_a_pixel(Squashed(restoration(randomised, 0, towers=n)), 2) for n in (1, 2))
        assert one + 8 * 4 * 0.5 < two < 2 * one + 100

    def test_they_are_left_where_they_are(self, randomised):
        network = restoration(randomised, 0)
        bytes_a_pixel(Squashed(network), 2)
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}

    def test_nothing_is_left_counting(self):
        network = nn.Conv2d(3, 8, 1)
        assert [bytes_a_pixel(network, 1) for _ in range(3)] == [8 * FLOAT] * 3


class TestMemory:
    def test_of_the_cpu(self):
        assert memory_for(torch.device("cpu")) == CPU_MEMORY == 1.5 * 2**30

    def test_of_a_gpu_is_a_share_of_what_is_free(self, monkeypatch):
        monkeypatch.setattr(footprint.torch.cuda, "mem_get_info", lambda device: (1000, 4000))
        assert memory_for(torch.device("cuda")) == 1000 * GPU_SHARE
