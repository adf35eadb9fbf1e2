"""Invariant 1: the supernet under one-hot weights is the derived network with the supernet's weights."""

import copy

import pytest
import torch
from architecture.toy_spaces import NESTED, FirstIsFork, Plain, architectures, trees
from hypothesis import given, settings

from manas.architecture.choice import relaxed_by
from manas.architecture.finding import load_space, presets
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.errors import ManasError
from manas.restoration.network import Restoration, RestorationSpace


def images(output):
    """All images of an output, whatever network it is of."""
    if isinstance(output, Restoration):
        return torch.stack([*output.tasks.values(), output.fused])
    return output


def difference(space, genotype, supernet, *, dtype=torch.float32, shape=(2, 3, 16, 16)):
    """Greatest difference between supernet and derived network, relative to an output above one."""
    choices = getattr(genotype, "choices", genotype)
    network = space.inherit(supernet, genotype).to(dtype).eval()
    supernet = copy.deepcopy(supernet).to(dtype).eval()
    image = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), relaxed_by(supernet, OneHot(choices)):
        searched, derived = images(supernet(image)), images(network(image))
    assert searched.isfinite().all()
    assert searched.std() > 0
    scale = max(1.0, searched.abs().max().item())
    return (searched - derived).abs().max().item() / scale


@pytest.mark.parametrize("preset", sorted(presets()))
def test_presets_in_float32(preset, randomised):
    space = load_space(preset)
    supernet = randomised(space.supernet())
    for seed in range(2):
        assert difference(space, Genotype.sample(space, seed), supernet, shape=(1, 3, 16, 16)) <= 1e-6


@pytest.mark.parametrize("preset", ["manas_tiny", "manas_small"])
def test_presets_in_float64(preset, randomised):
    space = load_space(preset)
    supernet = randomised(space.supernet())
    for seed in range(2):
        assert difference(space, Genotype.sample(space, seed), supernet, dtype=torch.float64) <= 1e-12


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_other_normalisations(norm, small_tower, randomised):
    space = small_tower.model_copy(update={"norm": norm})
    supernet = randomised(space.supernet())
    assert difference(space, Genotype.sample(space, seed=0), supernet, dtype=torch.float64) <= 1e-12


def test_towers_on_the_image_unshuffled(small_shuffled, randomised):
    supernet = randomised(small_shuffled.supernet())
    for seed in range(2):
        genotype = Genotype.sample(small_shuffled, seed)
        assert difference(small_shuffled, genotype, supernet) <= 1e-6
        assert difference(small_shuffled, genotype, supernet, dtype=torch.float64) <= 1e-12


def test_every_architecture_of_a_nested_space(randomised):
    supernet = randomised(NESTED.supernet())
    for choices in architectures(NESTED.root):
        assert difference(NESTED, choices, supernet, dtype=torch.float64) <= 1e-12


@settings(max_examples=15)
@given(space=trees(max_architectures=20))
def test_random_nested_spaces(space, randomised):
    supernet = randomised(space.supernet())
    for choices in architectures(space.root):
        assert difference(space, choices, supernet, shape=(2, 3, 5, 5)) <= 1e-6


@pytest.mark.parametrize("choices", [{"body": "skip"}, {"body": "convolution", "body/size": "large"}])
def test_a_fork_at_the_root_of_the_network(choices, randomised):
    supernet = randomised(FirstIsFork().supernet())
    assert difference(FirstIsFork(), choices, supernet, dtype=torch.float64) <= 1e-12


def test_a_space_without_forks(randomised):
    assert difference(Plain(), {}, randomised(Plain().supernet()), dtype=torch.float64) == 0


@pytest.mark.parametrize("stitch", ["none", "layer", "channel", "searched"])
def test_two_towers(stitch, small_tower, randomised):
    towers = {"derain": small_tower, "desnow": small_tower}
    space = RestorationSpace(towers=towers, stitch=stitch, fusion="searched")
    supernet = randomised(space.supernet())
    assert difference(space, Genotype.sample(space, seed=0), supernet, dtype=torch.float64) <= 1e-12


def test_inheriting_copies(randomised):
    supernet = randomised(NESTED.supernet())
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    network = NESTED.inherit(supernet, Genotype.sample(NESTED, seed=0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(supernet.state_dict()[name], tensor) for name, tensor in before.items())


def test_running_statistics_are_inherited(small_tower, randomised):
    supernet = randomised(small_tower.supernet())
    network = small_tower.inherit(supernet, Genotype.sample(small_tower, seed=0))
    inherited, theirs = network.state_dict(), supernet.state_dict()
    name = "bottlenecks.0.layers.0.1.running_mean"
    assert torch.equal(inherited[name], theirs[name])
    assert inherited[name].any()


@pytest.mark.parametrize(
    "choices", [{}, {"fork0": "c0", "fork1": "c9"}, {"fork0": "c0", "fork1": "c0", "x": "c0"}]
)
def test_choices_that_do_not_fit_are_refused(choices):
    with pytest.raises(ManasError):
        NESTED.inherit(NESTED.supernet(), choices)
