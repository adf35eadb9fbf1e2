"""How far a network looks, against the gradient of its output."""

import copy

import pytest
import torch
from inference.tiny_networks import Squashed, local_stack, pools_twice, restoration
from torch import nn
from training.tiny_runs import identical, tower

from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.inference.receptive import receptive_radius
from manas.restoration.network import RestorationSpace
from manas.restoration.pooling import pooled_by
from manas.restoration.tower import Tower
from search_spaces.dual_recursive import DualRecursive
from search_spaces.frontier import Frontier
from search_spaces.multi_scale_attentive.gates import LOCAL, PUBLISHED_GATES, LocalChannelGate


def reach_by_gradient(network, multiple, radius):
    """The furthest pixel of the input by which any of `multiple` x `multiple` pixels of the output is moved."""
    middle = -(-(radius + 2 * multiple) // multiple) * multiple
    image = torch.rand(4, 3, 2 * middle, 2 * middle, dtype=torch.float64, requires_grad=True)
    with pooled_by(lambda x, kind: x.new_zeros(x.shape[:2])):
        restored = copy.deepcopy(network).double()(image)
    places = [(middle + i, middle + j) for i in range(multiple) for j in range(multiple)]
    return max(_furthest(image, restored[..., row, column], row, column) for row, column in places)


def _furthest(image, pixels, row, column):
    (gradient,) = torch.autograd.grad(pixels.sum(), image, retain_graph=True)
    moved = gradient.abs().sum((0, 1)).nonzero()  # (N, 2), in rows and columns
    return int((moved - torch.tensor([row, column])).abs().max()) if len(moved) else 0


def sees_all_it_can(network):
    """A copy with positive weights of sum 1: no ReLU is closed, no sigmoid flat, and no two paths cancel."""
    network = copy.deepcopy(network).eval()
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.abs_().div_(tensor.sum(tuple(range(1, tensor.ndim)), keepdim=True))
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.fill_(0 if name.endswith(("running_mean", "bias")) else 1)
    return network


@pytest.mark.parametrize(("preset", "radius"), [("drn", 210), ("cmudrn", 212), ("plain", 29)])
def test_hand_made_networks(preset, radius):
    network = Genotype.sample(load_space(preset), seed=0).network().eval()
    # Seven stages of a convolution, 7 x 2 blocks of two, and one more; the mask of cmudrn has two. Of plain, 14
    # convolutions of pixels that are two wide, and one more to the other side of such a pixel.
    assert receptive_radius(_fused(network), network.size_multiple) == radius


def _fused(network):
    return network if isinstance(network, Tower) else Squashed(network)


class TestGradients:
    @pytest.mark.parametrize("gate", PUBLISHED_GATES)
    def test_of_every_gate(self, gate, randomised):
        space = tower(attention={"groups": 2, "gates": [gate]})
        network = randomised(Genotype.sample(space, 0).network()).eval()
        radius = receptive_radius(network, 2)
        assert 0 < radius < 20
        assert reach_by_gradient(network, 2, radius) <= radius
        assert reach_by_gradient(sees_all_it_can(network), 2, radius) == radius

    def test_of_local_attention(self, randomised, monkeypatch):
        monkeypatch.setattr(LocalChannelGate, "CELL", 2)
        monkeypatch.setattr(LocalChannelGate, "AROUND", 12)
        space = Frontier(stages=1, width=4, gates=(LOCAL,), blocks=("residual",))
        genotype = Genotype(space=space, choices=space.by_hand()["RCAN, local"])
        network = sees_all_it_can(randomised(genotype.network()))
        radius = receptive_radius(network, network.size_multiple)
        reach = reach_by_gradient(network, network.size_multiple, radius)
        assert space.shuffle * 2 * 12 < reach <= radius < reach + 4

    @pytest.mark.parametrize("towers", [1, 2])
    @pytest.mark.parametrize("seed", range(3))
    def test_of_any_genotype(self, randomised, seed, towers):
        network = sees_all_it_can(Squashed(restoration(randomised, seed, towers=towers)))
        radius = receptive_radius(network, 2)
        assert reach_by_gradient(network, 2, radius) == radius

    def test_of_three_scales(self, randomised):
        space = tower(channels=[4, 4, 4], columns=[0, 0], attention={"groups": 2, "gates": ["skip_connect"]})
        network = sees_all_it_can(randomised(Genotype.sample(space, 0).network()))
        radius = receptive_radius(network, 4)
        assert reach_by_gradient(network, 4, radius) == radius

    @pytest.mark.parametrize("stitch", ["none", "layer"])
    def test_of_stitched_towers(self, stitch, randomised):
        """A stitch lets the tower that looks less far see what the other one does."""
        wide, narrow = (tower(attention=None, stem={"blocks": n, "planes": 2, "expansion": 2}) for n in (3, 1))
        space = RestorationSpace(towers={"derain": wide, "desnow": narrow}, stitch=stitch, fusion="mean")
        genotype = Genotype(space=space, choices=dict.fromkeys(space.choices(), "fusion"))
        network = sees_all_it_can(randomised(genotype.network()))
        radii = {}
        for task in ("derain", "desnow"):
            alone = _OfTask(network, task)
            radii[task] = receptive_radius(alone, 2)
            assert reach_by_gradient(alone, 2, radii[task]) == radii[task]
        assert (radii["derain"] == radii["desnow"]) == (stitch == "layer")

    def test_of_recursions(self, randomised):
        network = sees_all_it_can(
            randomised(Genotype.sample(DualRecursive(channels=2, stages=2, recursions=1), 0).network())
        )
        assert receptive_radius(network, 1) == 2 * (1 + 2 * 2 + 1)
        assert reach_by_gradient(network, 1, 12) == 12

    @pytest.mark.parametrize("shuffle", [2, 4])
    def test_of_recursions_on_the_image_unshuffled(self, shuffle, randomised):
        """Of a square of pixels one looks to the far end of the last square that it sees."""
        space = DualRecursive(channels=2, stages=1, recursions=1, shuffle=shuffle)
        network, radius = sees_all_it_can(randomised(space.network())), shuffle * (1 + 2 * 2 + 1) + shuffle - 1
        assert receptive_radius(network, shuffle) == radius
        assert reach_by_gradient(network, shuffle, radius) == radius

    def test_of_scales_of_the_image_unshuffled(self, randomised):
        network = Squashed(restoration(randomised, 0, shuffle=2))
        radius = receptive_radius(network, 4)
        assert reach_by_gradient(sees_all_it_can(network), 4, radius) == radius


class _OfTask(nn.Module):
    def __init__(self, network, task):
        super().__init__()
        self.network, self.task = network, task

    def forward(self, image):
        return self.network(image).tasks[self.task]


class TestSimpleNetworks:
    def test_of_single_pixels(self):
        assert receptive_radius(nn.Conv2d(3, 3, 1), 1) == 0

    @pytest.mark.parametrize("radius", [1, 5])
    def test_of_a_stack(self, radius):
        assert receptive_radius(local_stack(radius), 1) == radius

    def test_that_look_further_one_way(self):
        for size, padding in (((1, 9), (0, 4)), ((9, 1), (4, 0))):
            assert receptive_radius(nn.Conv2d(3, 3, size, padding=padding), 1) == 4

    def test_that_look_to_one_side(self):
        left = nn.Sequential(nn.ZeroPad2d((6, 0, 0, 0)), nn.Conv2d(3, 3, (1, 7)))
        right = nn.Sequential(nn.ZeroPad2d((0, 6, 0, 0)), nn.Conv2d(3, 3, (1, 7)))
        assert receptive_radius(left, 1) == receptive_radius(right, 1) == 6

    def test_that_look_from_some_pixels_further_than_from_others(self):
        """Of a square of four pixels all are the mean: the last is three from the first."""
        network = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4))
        assert receptive_radius(network, 4) == 3

    def test_that_take_the_last_pixel_of_each_square(self):
        assert receptive_radius(_LastOfFour(), 4) == 3

    def test_further_than_the_first_strip(self):
        assert receptive_radius(nn.Sequential(*(nn.Conv2d(3, 3, 9, padding=4) for _ in range(40))), 1) == 160

    def test_with_one_wide_jump(self):
        wide = nn.Conv2d(3, 3, 3, padding=200, dilation=200)
        assert receptive_radius(wide, 1) == 200

    def test_zero_weights_are_looked_through(self):
        network = local_stack(3)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        assert receptive_radius(network, 1) == 3

    def test_pooling_that_is_asked_for_is_apart(self):
        assert receptive_radius(pools_twice(), 1) == 2

    def test_the_network_is_left_as_it_is(self):
        network = local_stack(1).double().train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        receptive_radius(network, 1)
        assert network.training
        assert identical(network.state_dict(), before)


class _LastOfFour(nn.Module):
    def forward(self, image):
        return image[..., 3::4, 3::4].repeat_interleave(4, -2).repeat_interleave(4, -1)


class _PoolsByItself(nn.Module):
    def forward(self, image):
        return image * image.mean((2, 3), keepdim=True)


def test_a_network_that_pools_by_itself_is_told_what_to_do():
    with pytest.raises(
        ManasError, match=r"depends on all of the image: restore it whole, or .*restoration\.pooling"
    ):
        receptive_radius(_PoolsByItself(), 1)
