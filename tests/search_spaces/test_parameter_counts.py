"""Parameter counts at paper size, against those measured on the released MANAS code; nothing is allocated."""

import pytest
import torch
from torch import nn

from manas.architecture.choice import architecture_parameters, weight_parameters
from manas.architecture.decide import Relaxed
from manas.architecture.finding import load_space
from manas.relaxations.softmax import Softmax
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.attention import Attention
from search_spaces.multi_scale_attentive.columns import (
    Bottleneck,
    Fusion,
    FusionAt,
    Parallel,
    ResidualBlock,
    Transition,
)
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES


@pytest.fixture(autouse=True)
def _on_meta():
    with torch.device("meta"):
        yield


@pytest.fixture(scope="module")
def manas():
    return load_space("manas")


def count(module):
    return sum(parameter.numel() for parameter in weight_parameters(module))


def count_affine(module):
    """Scales and shifts of batch normalisations."""
    return sum(count(layer) for layer in module.modules() if isinstance(layer, nn.BatchNorm2d))


PARALLEL = [([32, 64], 92_544, 384), ([32, 64, 128], 387_968, 896), ([32, 64, 128, 256], 1_568_640, 1_920)]
FUSION = [([32, 64], 20_672, 192), ([32, 64, 128], 153_536, 960), ([32, 64, 128, 256], 784_512, 3_200)]
TRANSITION = [
    ([128], [32, 64], 110_784, 192),
    ([3], [32, 64], 2_784, 192),
    ([32, 64], [32, 64, 128], 73_984, 256),
    ([32, 64, 128], [32, 64, 128, 256], 295_424, 512),
]


@pytest.mark.parametrize(("channels", "parameters", "affine"), PARALLEL)
def test_parallel(channels, parameters, affine):
    module = Parallel(channels, "batch")
    assert (count(module), count_affine(module)) == (parameters, affine)


@pytest.mark.parametrize(("channels", "parameters", "affine"), FUSION)
def test_fusion(channels, parameters, affine):
    module = Fusion(channels, "batch")
    assert (count(module), count_affine(module)) == (parameters, affine)


def test_last_fusion():
    module = FusionAt([32, 64, 128, 256], 0, "batch")
    assert (count(module), count_affine(module)) == (14_528, 192)


@pytest.mark.parametrize(("inputs", "outputs", "parameters", "affine"), TRANSITION)
def test_transition(inputs, outputs, parameters, affine):
    module = Transition(inputs, outputs, "batch")
    assert (count(module), count_affine(module)) == (parameters, affine)


@pytest.mark.parametrize(
    ("width", "parameters", "affine"),
    [(32, 18_560, 128), (64, 73_984, 256), (128, 295_424, 512), (256, 1_180_672, 1_024)],
)
def test_residual_block(width, parameters, affine):
    module = ResidualBlock(width, "batch")
    assert (count(module), count_affine(module)) == (parameters, affine)


@pytest.mark.parametrize(("inputs", "parameters", "affine"), [(3, 14_432, 640), (128, 17_792, 384)])
def test_bottleneck(inputs, parameters, affine):
    module = Bottleneck(inputs, 32, 4, "batch")
    assert (count(module), count_affine(module)) == (parameters, affine)


GATE_COUNTS = {
    "none": (0, 0, 0, 0),
    "skip_connect": (0, 0, 0, 0),
    "sep_conv_3x3": (800, 2_624, 9_344, 35_072),
    "dil_conv_3x3": (400, 1_312, 4_672, 17_536),
    "sep_conv_3x3_spatial": (42, 42, 42, 42),
    "dil_conv_3x3_spatial": (19, 19, 19, 19),
    "channel_attention": (128, 512, 2_048, 8_192),
    "channel_attention_v2": (128, 512, 2_048, 8_192),
    "cbam": (248, 652, 2_228, 8_452),
}


def test_gates_are_those_of_the_released_code_in_its_order():
    assert list(PUBLISHED_GATES) == list(GATE_COUNTS)


@pytest.mark.parametrize("gate", GATE_COUNTS)
@pytest.mark.parametrize(("place", "width"), list(enumerate([16, 32, 64, 128])))
def test_gate(gate, place, width):
    module = PUBLISHED_GATES[gate](width, 4, "batch")
    assert count(module) == GATE_COUNTS[gate][place]
    assert count_affine(module) == (2 if gate == "cbam" else 0)


@pytest.mark.parametrize(
    ("groups", "width", "parameters"),
    [
        (2, 32, 8_239),
        (2, 64, 28_539),
        (2, 128, 106_771),
        (2, 256, 413_763),
        (4, 32, 9_342),
        (4, 64, 27_762),
        (4, 128, 96_666),
        (4, 256, 362_730),
    ],
)
def test_attention(groups, width, parameters):
    module = Attention(width, groups, tuple(PUBLISHED_GATES), "batch", Relaxed(Softmax()), "label")
    assert count(module) == parameters
    assert len(architecture_parameters(module)) == groups * (groups + 1) // 2


@pytest.mark.parametrize(
    ("width", "merge", "whole", "output"),
    [(32, 2_688, 128, 128), (64, 10_496, 512, 512), (128, 41_472, 2_048, 2_048), (256, 164_864, 8_192, 8_192)],
)
def test_parts_of_attention(width, merge, whole, output):
    module = Attention(width, 2, tuple(PUBLISHED_GATES), "batch", Relaxed(Softmax()), "label")
    assert (count(module.merge), count(module.whole), count(module.output)) == (merge, whole, output)


def test_supernet(manas):
    supernet = manas.supernet()
    assert count(supernet) == 13_296_167
    assert sum(alpha.numel() for alpha in architecture_parameters(supernet)) == 267


def test_parts_of_the_supernet(manas):
    supernet = manas.supernet()
    assert count(supernet.bottlenecks) == 32_224
    assert [count(cell.transition) for cell in supernet.cells] == [110_784, 73_984, 295_424]
    assert [count(cell.columns) for cell in supernet.cells] == [452_864, 2_166_016, 9_412_608]
    assert [count(cell.attention) for cell in supernet.cells] == [36_778, 143_549, 557_312]
    assert count(supernet.fusion) == 14_528
    assert count(supernet.output) == 96


@pytest.mark.parametrize(
    ("column", "gate", "parameters"),
    [
        ("parallel", "skip_connect", 9_039_424),
        ("fusion", "cbam", 4_724_520),
        ("parallel", "sep_conv_3x3", 9_231_520),
        ("fusion", "none", 4_677_696),
    ],
)
def test_derived_networks(manas, column, gate, parameters):
    choices = {label: column if "column" in label else gate for label in manas.choices()}
    assert count(manas.network(choices)) == parameters


def test_clearer_is_manas_without_attention():
    clearer = load_space("clearer")
    attention = 36_778 + 143_549 + 557_312
    assert count(clearer.supernet()) == 13_296_167 - attention
    assert sum(alpha.numel() for alpha in architecture_parameters(clearer.supernet())) == 12 * 2
    assert clearer.size() == 2**12


def test_manas_has_39_decisions(manas):
    columns = [f"cell{c}/column{n}" for c in range(3) for n in range(4)]
    edges = [
        f"cell{c}/branch{b}/{edge}"
        for c in range(3)
        for b in range(c + 2)
        for edge in ("node0/input", "node1/input", "node1/node0")
    ]
    choices = manas.choices()
    assert len(choices) == 39
    assert set(choices) == {*columns, *edges}
    assert all(choices[label] == ("parallel", "fusion") for label in columns)
    assert all(choices[label] == tuple(GATE_COUNTS) for label in edges)
    assert manas.size() == 2**12 * 9**27


def test_the_order_of_decisions(manas):
    labels = list(manas.choices())
    assert labels[:7] == [
        "cell0/column0",
        "cell0/column1",
        "cell0/column2",
        "cell0/column3",
        "cell0/branch0/node0/input",
        "cell0/branch0/node1/input",
        "cell0/branch0/node1/node0",
    ]
    assert labels[-1] == "cell2/branch3/node1/node0"
    assert [label.split("/")[0] for label in labels] == ["cell0"] * 10 + ["cell1"] * 13 + ["cell2"] * 16


def test_two_towers_of_paper_size(manas):
    space = RestorationSpace(towers={"derain": manas, "desnow": manas}, stitch="layer", fusion="mask")
    supernet = space.supernet()
    stitches = (2 + 3 + 4) * 2 * 2
    mask = (9 * 16 * 9 + 16) + (16 * 2 * 9 + 2)
    assert count(supernet.stitches) == stitches
    assert count(supernet.fusion) == mask
    assert count(supernet) == 2 * 13_296_167 + stitches + mask
    assert sum(alpha.numel() for alpha in architecture_parameters(supernet)) == 2 * 267
    assert len(space.choices()) == 2 * 39
    assert all(tensor.is_meta for tensor in [*supernet.parameters(), *supernet.buffers()])
