"""The network for inference: fewer layers, equal results."""

import copy

import pytest
import torch
from inference.tiny_networks import Squashed, restoration, uneven
from torch import nn

from manas.inference.optimised import optimised
from search_spaces.layers import convolution
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES

NORMS = ("batch", "layer", "none")


def pairs(network):
    """Each layer of a sequence with the one after it."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            layers = list(module.children())
            yield from zip(layers, layers[1:], strict=False)


def unfolded(network):
    return [(a, b) for a, b in pairs(network) if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)]


@pytest.mark.parametrize("norm", NORMS)
class TestNetworks:
    @pytest.mark.parametrize(("seed", "shuffle"), [(0, 1), (1, 1), (2, 1), (0, 2)])
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
    @torch.no_grad()
    def test_equal_results(self, randomised, norm, seed, shuffle, dtype, tolerance):
        made = restoration(randomised, seed, towers=2, norm=norm, shuffle=shuffle)
        network = Squashed(copy.deepcopy(made).to(dtype))
        image = uneven(2, 3, 12, 16).to(dtype)
        torch.testing.assert_close(optimised(network)(image), network(image), rtol=0, atol=tolerance)

    @pytest.mark.parametrize("gate", PUBLISHED_GATES)
    @torch.no_grad()
    def test_of_every_gate(self, randomised, norm, gate):
        network, image = Squashed(restoration(randomised, 0, gate, norm=norm)), uneven(1, 3, 8, 8)
        torch.testing.assert_close(optimised(network)(image), network(image), rtol=0, atol=1e-5)

    def test_nothing_is_left_to_fold(self, randomised, norm):
        network = restoration(randomised, 0, "cbam", norm=norm)
        assert bool(unfolded(network)) == (norm == "batch")
        assert not unfolded(optimised(network))
        assert not [m for m in optimised(network).modules() if isinstance(m, nn.BatchNorm2d)]

    def test_the_original_is_unchanged(self, randomised, norm):
        network = copy.deepcopy(restoration(randomised, 0, norm=norm)).train()
        before = copy.deepcopy(network)
        optimised(network)
        assert str(network) == str(before)
        assert all(module.training for module in network.modules())
        assert all(parameter.requires_grad for parameter in network.parameters())
        for ours, theirs in zip(network.state_dict().values(), before.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)

    @torch.no_grad()
    def test_a_network_in_training_is_made_for_evaluation(self, randomised, norm):
        network, image = Squashed(copy.deepcopy(restoration(randomised, 0, norm=norm))), uneven(2, 3, 8, 8)
        expected = network.eval()(image)
        made = optimised(network.train())
        assert not any(parameter.requires_grad for parameter in made.parameters())
        torch.testing.assert_close(made(image), expected, rtol=0, atol=1e-5)

    def test_every_module_is_in_evaluation(self, randomised, norm):
        made = optimised(copy.deepcopy(restoration(randomised, 0, norm=norm)).train())
        assert not any(module.training for module in made.modules())


class TestLayers:
    @pytest.mark.parametrize("affine", [True, False])
    @pytest.mark.parametrize("bias", [True, False])
    @torch.no_grad()
    def test_a_convolution_of_any_kind(self, randomised, bias, affine):
        for kind in ({"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding_mode": "reflect"}):
            convolution = nn.Conv2d(4, 6, 3, bias=bias, **({"padding": 1} | kind))
            layers = nn.Sequential(convolution, nn.BatchNorm2d(6, affine=affine), nn.ReLU())
            layers, x = randomised(layers).double().eval(), torch.randn(2, 4, 9, 9, dtype=torch.float64)
            torch.testing.assert_close(optimised(layers)(x), layers(x), rtol=0, atol=1e-12)
            assert isinstance(optimised(layers)[1], nn.Identity)

    @torch.no_grad()
    def test_a_normalisation_is_folded_into_what_is_before_it_alone(self, randomised):
        layers = randomised(
            nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
        ).eval()
        made, x = optimised(layers), torch.randn(1, 3, 4, 4)
        assert [type(layer) for layer in made] == [type(layer) for layer in layers]
        torch.testing.assert_close(made(x), layers(x), rtol=0, atol=1e-6)

    @torch.no_grad()
    def test_a_layer_that_is_used_twice_is_folded_once(self, randomised):
        shared = randomised(convolution("batch", 3, 3, 3))
        network, x = nn.Sequential(shared, shared).eval(), torch.randn(1, 3, 6, 6)
        torch.testing.assert_close(optimised(network)(x), network(x), rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_statistics_of_the_batch_are_left(self):
        layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
        made, x = optimised(layers), torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(made(x), layers(x))
