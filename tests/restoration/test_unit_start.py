"""Networks without normalisation begin with features of unit variance."""

import pytest
import torch
from torch import nn

import manas
from manas.architecture.genotype import Genotype
from manas.restoration.unit_start import BRANCH, UnitConvolution, unit_start
from search_spaces.multi_scale_attentive import MultiScaleAttentive


@pytest.fixture
def space():
    return MultiScaleAttentive(
        channels=(16, 24), columns=(2,), stem={"blocks": 1, "planes": 8, "expansion": 2}, norm="none"
    )


@pytest.fixture
def images():
    """Far from mean 0 and variance 1, as images are."""
    return 0.6 + 0.1 * torch.rand(4, 3, 16, 16)


def seen(network, images):
    """What each layer makes of the images, by name."""
    found = {}

    def see(name):
        def hook(layer, inputs, y):
            found.setdefault(name, (layer.gain, y.clone()))  # the ReLU behind it works in place

        return hook

    for name, module in network.named_modules():
        if isinstance(module, UnitConvolution):
            module.register_forward_hook(see(name))
    with torch.no_grad():
        network(images)
    return found


def test_every_channel_has_mean_0_and_its_deviation(space, images):
    network = Genotype.sample(space, 0).network()
    unit_start(network, images)
    outputs = seen(network, images)
    assert len(outputs) > 10
    assert sum((y.std((0, 2, 3)) > 1e-3).all().item() for _, y in outputs.values()) > 10
    assert {gain for gain, _ in outputs.values()} == {1.0, BRANCH}
    for gain, y in outputs.values():
        deviation, mean = torch.std_mean(y, (0, 2, 3), correction=0)
        live = deviation > 1e-3  # behind a gate that is closed, channels are constant
        torch.testing.assert_close(deviation[live], torch.full_like(deviation[live], gain), rtol=1e-3, atol=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-3)


def test_a_random_start_is_far_from_it(space, images):
    outputs = seen(Genotype.sample(space, 0).network(), images)
    assert max(y.mean((0, 2, 3)).abs().max().item() / y.std().item() for _, y in outputs.values()) > 1


def test_constant_channels_keep_their_scale():
    layer = UnitConvolution(1, 2, 1)
    before = layer.weight.detach().clone()
    unit_start(layer, torch.ones(2, 1, 4, 4))
    assert torch.equal(layer.weight, before)
    assert torch.equal(layer(torch.ones(2, 1, 4, 4)), torch.zeros(2, 2, 4, 4))


def test_a_layer_that_is_used_twice_is_scaled_at_its_first_use(images):
    layer = UnitConvolution(3, 3, 1)
    unit_start(nn.Sequential(layer, layer), images)
    torch.testing.assert_close(layer(images).std((0, 2, 3), correction=0), torch.ones(3), rtol=1e-4, atol=0)


def test_what_the_images_do_not_pass_stays_as_it_is(images):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = UnitConvolution(3, 3, 1), UnitConvolution(3, 3, 1)

        def forward(self, x):
            return self.used(x)

    network = Half()
    before = network.unused.weight.detach().clone()
    unit_start(network, images)
    assert torch.equal(network.unused.weight, before)
    assert not network.used._forward_hooks
    assert not network.unused._forward_hooks


def test_a_network_with_normalisation_is_not_run(images):
    network = Genotype.sample(manas.load_space("manas_tiny"), 0).network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unit_start(network, images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
