"""The gates against plain formulas, their shapes, and how one is added."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from manas.architecture.decide import Fixed
from manas.architecture.finding import load_space, presets
from manas.architecture.genotype import Genotype
from search_spaces.layers import ChannelLayerNorm, normalised
from search_spaces.multi_scale_attentive import columns, gates
from search_spaces.multi_scale_attentive.attention import Attention
from search_spaces.multi_scale_attentive.gates import GATES, Pooled
from search_spaces.multi_scale_attentive.tower import AttentionOptions, MultiScaleAttentive

B, C, H, W = 2, 16, 8, 16
SHAPES = {
    "none": (1, 1, 1, 1),
    "skip_connect": (1, 1, 1, 1),
    "sep_conv_3x3": (B, C, H, W),
    "dil_conv_3x3": (B, C, H, W),
    "sep_conv_3x3_spatial": (B, 1, H, W),
    "dil_conv_3x3_spatial": (B, 1, H, W),
    "channel_attention": (B, C, 1, 1),
    "channel_attention_v2": (B, C, 1, 1),
    "cbam": (B, C, H, W),
    "local_channel_attention": (B, C, H, W),
}


@pytest.fixture
def x():
    return torch.randn(B, C, H, W)


def gate_of(name, norm="batch"):
    return GATES[name](C, 4, norm)


def layers_of(gate, kind):
    return [layer for layer in gate.modules() if isinstance(layer, kind)]


def standardised(x):
    """Batch normalisation in training, without scale and shift."""
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def channel_statistics(x):
    """(B, 2, H, W) as the spatial gates see their input."""
    return torch.stack([x.max(1).values, x.mean(1)], 1)


def separable(x, depthwise, pointwise, *, dilation=1):
    x = F.conv2d(x, depthwise.weight, padding=dilation, dilation=dilation, groups=x.shape[1])
    return standardised(F.conv2d(x, pointwise.weight))


def perceptron(x, first, second):
    hidden = (x @ first.weight.flatten(1).T + (0 if first.bias is None else first.bias)).clamp(min=0)
    return hidden @ second.weight.flatten(1).T + (0 if second.bias is None else second.bias)


def formula(name, gate, x):
    """What each gate is, from its own weights."""
    convolutions, linear = layers_of(gate, nn.Conv2d), layers_of(gate, nn.Linear)
    mean, maximum = x.mean((2, 3)), x.flatten(2).max(2).values
    if name in ("none", "skip_connect"):
        return torch.full((1, 1, 1, 1), float(name == "skip_connect"))
    if name == "sep_conv_3x3":
        first = separable(x, *convolutions[:2]).relu()
        return separable(first, *convolutions[2:]).sigmoid()
    if name == "dil_conv_3x3":
        return separable(x, *convolutions, dilation=2).sigmoid()
    if name == "sep_conv_3x3_spatial":
        first = separable(channel_statistics(x), *convolutions[:2]).relu()
        return separable(first, *convolutions[2:]).sigmoid()
    if name == "dil_conv_3x3_spatial":
        dilated = F.conv2d(channel_statistics(x), convolutions[0].weight, padding=2, dilation=2)
        return standardised(F.conv2d(dilated, convolutions[1].weight)).sigmoid()
    if name == "channel_attention":
        return perceptron(mean, *linear).sigmoid()[:, :, None, None]
    if name == "local_channel_attention":  # the window is larger than x
        return perceptron(mean, *convolutions).sigmoid()[:, :, None, None].expand(x.shape)
    channel = (perceptron(mean, *linear) + perceptron(maximum, *linear)).sigmoid()[:, :, None, None]
    if name == "channel_attention_v2":
        return channel
    spatial = F.conv2d(channel_statistics(x * channel), convolutions[0].weight, padding=3)
    return channel * standardised(spatial).sigmoid()


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_its_formula(name, x):
    gate = gate_of(name)
    torch.testing.assert_close(gate(Pooled(x)), formula(name, gate, x), rtol=1e-4, atol=1e-5)


def test_local_attention_sees_its_window_and_no_more():
    gate, x = gate_of("local_channel_attention"), torch.randn(1, C, 8, 8 * 40)
    there = gate(Pooled(x))
    for cell in (0, 5, 20, 39):
        window = x[..., max(0, cell - 10) * 8 : (cell + 11) * 8]
        means = torch.stack([each.mean((2, 3)) for each in window.split(8, 3)]).mean(0)  # as whole cells
        expected = perceptron(means, *layers_of(gate, nn.Conv2d)).sigmoid()
        middle = there[0, :, 0, 8 * cell + 3 : 8 * cell + 5].mean(1)  # the gate of a cell, and its neighbours'
        torch.testing.assert_close(middle, expected[0], rtol=0, atol=0.02)
    moved = x.clone()
    moved[..., : 8 * 8] += 1
    changed = (gate(Pooled(moved)) - there).abs().amax((0, 1, 2)) > 0
    assert changed[: 8 * (8 + 10)].all()
    assert not changed[8 * (8 + 11) :].any()


@pytest.mark.parametrize("name", ["channel_attention", "local_channel_attention"])
def test_the_size_that_gates_need(name):
    assert gates.gate_multiple(["cbam", name]) == (8 if name == "local_channel_attention" else 1)
    space = MultiScaleAttentive(channels=(4, 8), columns=(1,), attention={"groups": 2, "gates": (name,)})
    network = Genotype.sample(space, 0).network().eval()
    image = torch.rand(1, 3, network.size_multiple, 3 * network.size_multiple)
    assert network(image).shape == image.shape


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("name", GATES)
def test_the_shape_of_a_gate_broadcasts(name, norm, x):
    before = x.clone()
    g = gate_of(name, norm)(Pooled(x))
    assert g.shape == SHAPES[name]
    assert torch.broadcast_shapes(g.shape, x.shape) == x.shape
    assert ((g >= 0) & (g <= 1)).all()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [name for name in GATES if name not in ("none", "skip_connect")])
def test_gradients_reach_the_input_and_every_weight(name, x):
    gate = gate_of(name)
    x.requires_grad_()
    (x * gate(Pooled(x))).square().sum().backward()
    assert x.grad.any()
    assert all(parameter.grad.any() for parameter in gate.parameters())


@pytest.mark.parametrize(("name", "reach"), [("sep_conv_3x3", 2), ("dil_conv_3x3", 2), ("cbam", 3)])
def test_the_receptive_field_of_a_gate(name, reach):
    gate = gate_of(name).eval()
    x = torch.randn(1, C, 15, 15).requires_grad_()
    gate_at_centre = gate.spatial(Pooled(x).across_channels) if name == "cbam" else gate(Pooled(x))
    (gradient,) = torch.autograd.grad(gate_at_centre[0, :, 7, 7].sum(), x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows.min().item(), rows.max().item()) == (7 - reach, 7 + reach)


def test_pooled_statistics(x):
    pooled = Pooled(x)
    torch.testing.assert_close(pooled.mean, x.mean((2, 3)))
    assert torch.equal(pooled.maximum, x.flatten(2).max(2).values)
    torch.testing.assert_close(pooled.across_channels, channel_statistics(x))
    assert pooled.mean is pooled.mean  # computed once


def test_statistics_are_shared_by_the_candidates_of_an_edge(monkeypatch):
    made = []
    monkeypatch.setattr(Pooled, "__init__", lambda self, x: made.append(self) or setattr(self, "x", x))
    space = MultiScaleAttentive(
        channels=(8, 12), columns=(0,), attention=AttentionOptions(gates=("channel_attention", "skip_connect"))
    )
    space.supernet().eval()(torch.rand(1, 3, 8, 8))
    edges, others = 3, 2  # of one attention module
    assert len(made) == 2 * (edges + others)


class Halved(nn.Module):
    def forward(self, pooled):
        return pooled.x.new_full((1, 1, 1, 1), 0.5)


def test_a_gate_entered_in_the_table_is_searchable_at_once(monkeypatch):
    monkeypatch.setitem(gates.GATES, "halved", lambda channels, reduction, norm: Halved())
    options = AttentionOptions(gates=("none", "halved", "cbam"))
    space = MultiScaleAttentive(channels=(8, 12), columns=(1,), attention=options)
    label = "cell0/branch1/node1/node0"
    assert space.choices()[label] == ("none", "halved", "cbam")
    choices = {other: "halved" for other in space.choices() if "branch" in other} | {
        "cell0/column0": "parallel"
    }
    network = space.network(choices)
    assert len([module for module in network.modules() if isinstance(module, Halved)]) == 6
    x = torch.rand(2, 3, 8, 8)
    assert network(x).shape == x.shape
    assert space.supernet()(x).shape == x.shape


def test_entering_a_gate_or_a_column_changes_no_space_that_does_not_name_it(monkeypatch):
    def said():
        spaces = {name: load_space(name) for name in presets()}
        genotypes = {name: Genotype.sample(space, seed=0).choices for name, space in spaces.items()}
        return {name: space.choices() for name, space in spaces.items()}, genotypes

    before = said()
    monkeypatch.setitem(gates.GATES, "halved", lambda channels, reduction, norm: Halved())
    monkeypatch.setitem(columns.COLUMNS, "same", lambda channels, norm: nn.Identity())
    assert said() == before
    assert AttentionOptions().gates == tuple(gates.PUBLISHED_GATES)


def test_a_column_entered_in_the_table_is_searchable_at_once(monkeypatch):
    monkeypatch.setitem(columns.COLUMNS, "same", lambda channels, norm: nn.Identity())
    space = MultiScaleAttentive(
        channels=(8, 12), columns=(1,), attention=None, column_candidates=("same", "fusion")
    )
    assert space.choices() == {"cell0/column0": ("same", "fusion")}
    x = torch.rand(2, 3, 8, 8)
    assert space.supernet()(x).shape == space.network({"cell0/column0": "same"})(x).shape == x.shape


@pytest.mark.parametrize(
    ("names", "said"),
    [(("parallell",), "unknown column 'parallell'.*parallel"), (("fusion", "fusion"), "named twice")],
)
def test_columns_are_known_and_named_once(names, said):
    with pytest.raises(ValidationError, match=said):
        MultiScaleAttentive(column_candidates=names)


def test_the_reduction_never_leaves_nothing():
    gate = GATES["channel_attention"](2, 4, "batch")
    assert [layer.weight.shape for layer in layers_of(gate, nn.Linear)] == [(1, 2), (2, 1)]
    edges = ("node0/input", "node1/input", "node1/node0")
    only = Fixed({f"label/{edge}": "cbam" for edge in edges})
    attention = Attention(8, 2, ("cbam",), "batch", only, "label")
    assert attention(torch.rand(2, 8, 4, 4)).shape == (2, 8, 4, 4)


# Normalisations


def test_layer_norm_standardises_each_pixel_over_its_channels(x):
    y = ChannelLayerNorm(C, affine=True)(x)
    torch.testing.assert_close(y.mean(1), torch.zeros(B, H, W), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(B, H, W), atol=1e-3, rtol=0)


def test_layer_norm_scales_and_shifts_each_channel(x):
    norm = ChannelLayerNorm(C, affine=True)
    plain = norm(x)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(C))
        norm.bias.copy_(-torch.arange(C))
    channels = torch.arange(C)[:, None, None]
    torch.testing.assert_close(norm(x), plain * channels - channels)


@pytest.mark.parametrize(
    ("norm", "channels", "affine", "kinds", "parameters"),
    [
        ("batch", 8, True, ["Conv2d", "BatchNorm2d"], 16),
        ("batch", 1, False, ["Conv2d", "BatchNorm2d"], 0),
        ("layer", 8, True, ["Conv2d", "ChannelLayerNorm"], 16),
        ("layer", 8, False, ["Conv2d", "ChannelLayerNorm"], 0),
        ("layer", 2, True, ["UnitConvolution"], 2),  # a layer norm over two channels leaves no information
        ("none", 8, True, ["UnitConvolution"], 8),
        ("none", 8, False, ["UnitConvolution"], 8),
    ],
)
def test_normalised(norm, channels, affine, kinds, parameters):
    layers = nn.Sequential(*normalised(norm, 3, channels, 1, affine=affine))
    assert [type(layer).__name__ for layer in layers] == kinds
    assert sum(parameter.numel() for parameter in layers.parameters()) == 3 * channels + parameters
