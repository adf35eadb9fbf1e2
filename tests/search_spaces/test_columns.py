"""Columns and transitions against their equations, and none writes into what it was given (released bug B2)."""

from functools import partial

import pytest
import torch
from torch.nn.functional import interpolate, relu

from manas.architecture.decide import Relaxed
from manas.relaxations.softmax import Softmax
from search_spaces.multi_scale_attentive.columns import (
    Bottleneck,
    Fusion,
    FusionAt,
    Parallel,
    ResidualBlock,
    Transition,
)

CHANNELS = (4, 6, 8, 10)


@pytest.fixture
def features():
    return [torch.randn(2, width, 16 >> scale, 24 >> scale) for scale, width in enumerate(CHANNELS)]


@pytest.fixture
def evaluated(randomised):
    """A function that gives a module random weights and statistics, in evaluation mode."""
    return lambda module: randomised(module).eval()


@pytest.mark.parametrize("column", [Parallel, Fusion])
def test_a_column_leaves_the_list_and_its_tensors(column, features, evaluated):
    tensors, copies = list(features), [x.clone() for x in features]
    outputs = evaluated(column(CHANNELS, "batch"))(features)
    assert [x.shape for x in outputs] == [x.shape for x in tensors]
    assert all(x is tensor for x, tensor in zip(features, tensors, strict=True))
    assert all(torch.equal(x, copy) for x, copy in zip(features, copies, strict=True))
    assert outputs is not features


def test_a_transition_leaves_the_list_and_its_tensors(features, evaluated):
    given = features[:3]
    tensors, copies = list(given), [x.clone() for x in given]
    outputs = evaluated(Transition(CHANNELS[:3], (4, 6, 9, 10), "batch"))(given)
    assert [tuple(x.shape) for x in outputs] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 9, 4, 6), (2, 10, 2, 3)]
    assert all(x is tensor for x, tensor in zip(given, tensors, strict=True))
    assert all(torch.equal(x, copy) for x, copy in zip(given, copies, strict=True))
    assert torch.equal(outputs[0], given[0])  # kept as it is where the width does not change


def test_the_mixture_gives_both_columns_the_same_input(features, evaluated):
    candidates = {
        "parallel": partial(Parallel, CHANNELS, "batch"),
        "fusion": partial(Fusion, CHANNELS, "batch"),
    }
    choice = evaluated(Relaxed(Softmax())("label", candidates))
    p = choice.alpha.softmax(0)
    parallel, fusion = (choice.candidates[name]([*features]) for name in candidates)
    mixed = choice(features)
    for scale, x in enumerate(mixed):
        torch.testing.assert_close(x, p[0] * parallel[scale] + p[1] * fusion[scale])
    fused_parallel = choice.candidates["fusion"](parallel)[0]
    assert not torch.allclose(fused_parallel, fusion[0])  # the released code would have given this


def test_parallel_is_one_residual_block_a_scale(features, evaluated):
    module = evaluated(Parallel(CHANNELS, "batch"))
    for scale, x in enumerate(module(features)):
        assert torch.equal(x, module.blocks[scale](features[scale]))


@pytest.mark.parametrize("scale", range(4))
def test_fusion_at_a_scale_is_its_equation(scale, features, evaluated):
    module = evaluated(FusionAt(CHANNELS, scale, "batch"))
    total = features[scale]
    for j in range(scale):
        total = total + module.down[j](features[j])
    for j in range(scale + 1, 4):
        enlarged = interpolate(module.up[j - scale - 1](features[j]), scale_factor=2 ** (j - scale))
        total = total + enlarged
    torch.testing.assert_close(module(features), relu(total))


def test_fusion_is_the_fusion_at_every_scale(features, evaluated):
    module = evaluated(Fusion(CHANNELS, "batch"))
    for scale, x in enumerate(module(features)):
        assert torch.equal(x, module.scales[scale](features))


def test_steps_down_keep_the_width_and_halve_until_the_last():
    (down, *_) = FusionAt((4, 6, 8, 10), 3, "batch").down
    assert [(step[0].in_channels, step[0].out_channels, step[0].stride) for step in down] == [
        (4, 4, (2, 2)),
        (4, 4, (2, 2)),
        (4, 10, (2, 2)),
    ]
    assert [len(step) for step in down] == [3, 3, 2]  # the last has no ReLU


def test_residual_block_is_its_equation(features, evaluated):
    block = evaluated(ResidualBlock(4, "batch"))
    x = features[0]
    first, second = block.layers
    expected = relu(second[1](second[0](relu(first[1](first[0](x))))) + x)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(("inputs", "shortcut"), [(4, True), (12, False)])
def test_bottleneck_is_its_equation(inputs, shortcut, evaluated):
    block = evaluated(Bottleneck(inputs, 3, 4, "batch"))
    x = torch.randn(2, inputs, 5, 7)
    y = block.layers(x)
    assert [layer[0].kernel_size for layer in block.layers] == [(1, 1), (3, 3), (1, 1)]
    assert len(block.layers[2]) == 2  # no ReLU before the sum
    torch.testing.assert_close(block(x), relu(y + (block.shortcut(x) if shortcut else x)))


def test_features_of_another_number_of_scales_are_refused(features):
    with pytest.raises(ValueError, match="zip"):
        Parallel(CHANNELS, "batch")(features[:3])
    with pytest.raises(ValueError, match="zip"):
        Transition(CHANNELS[:2], CHANNELS[:3], "batch")(features)
