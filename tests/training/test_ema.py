"""The moving average against its recurrence, computed by hand."""

import pytest
import torch
from torch import nn

from manas.training.ema import MovingAverage


def changed(network, seed):
    """Other weights and running statistics, as a step of training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor += 3


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_follows_the_recurrence_buffers_included(decay):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    average = MovingAverage(network, decay)
    expected = {name: tensor.double() for name, tensor in network.state_dict().items()}
    for step in range(30):
        changed(network, step)
        average.update(step)
        keep = min(decay, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            count = name.endswith("num_batches_tracked")
            expected[name] = tensor if count else keep * expected[name] + (1 - keep) * tensor.double()
    state = average.network.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-5, atol=1e-6)


def test_it_is_a_copy_in_evaluation_mode_without_gradients():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    average = MovingAverage(network, 0.9)
    assert not any(module.training for module in average.network.modules())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    before = network[0].weight.clone()
    changed(average.network, 1)
    assert torch.equal(network[0].weight, before)
