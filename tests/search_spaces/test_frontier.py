"""The space with headroom: its forks, its blocks by torch's functions, and its plain and U-shaped points."""

import random

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from manas.architecture.finding import load_space
from manas.architecture.forks import nodes_of, zeros_of
from manas.architecture.genotype import Genotype
from manas.cost.architectures import Architectures
from manas.cost.counting import cost_table, measure
from manas.device import place
from manas.inference.receptive import receptive_radius
from search_spaces.blocks import BLOCKS
from search_spaces.frontier import EXPANSIONS, SCALES, Frontier

SMALL = Frontier(stages=2, width=8)


def of_blocks(stages, kind="residual", expansion="same", second="none"):
    """The choices of a network each of whose stages works at the scales given for it."""
    choices = {}
    for number, scales in enumerate(stages):
        choices |= {f"stage{number}/{scale}": "none" for scale in SCALES} | {
            f"stage{number}/gate": "skip_connect"
        }
        for scale in scales:
            label = f"stage{number}/{scale}"
            choices |= {label: "blocks", f"{label}/kind": kind, f"{label}/{kind}/expansion": expansion}
            choices |= {f"{label}/{kind}/{expansion}/second": second}
    return choices


def drawn(space, number):
    """Random architectures in which no stage is empty."""
    architectures = Architectures(space, cost_table(space, "macs"), None)
    return [architectures.sample(random.Random(seed)) for seed in range(number)]


def test_its_forks():
    space = load_space("frontier")
    choices = space.choices()
    assert space == Frontier(stages=4, width=32, shuffle=2)
    assert len(choices) == 4 * (3 * (1 + 1 + 5 + 5 * 3) + 1)
    assert choices["stage3/quarter/naf/wide/second"] == ("none", "block")
    assert choices["stage0/full/kind"] == tuple(BLOCKS)
    assert choices["stage0/full/dilated/expansion"] == tuple(EXPANSIONS)
    assert nodes_of(space.forks())["stage1"] == ("stage1/full", "stage1/half", "stage1/quarter")
    zeros = {label for label, names in choices.items() if "none" in names}
    assert zeros_of(space.forks()) == dict.fromkeys(zeros, "none")
    assert len(zeros) == 4 * 3 * (1 + 5 * 3)


def test_no_stage_of_what_is_drawn_is_empty():
    for choices in drawn(SMALL, 30):
        assert all(any(choices[f"stage{n}/{scale}"] == "blocks" for scale in SCALES) for n in (0, 1))
        SMALL.network(choices)


def test_its_architectures_cost_1_to_20_gmacs():
    space = load_space("frontier")
    shape = (3, 320, 480)
    with torch.device("meta"):
        cheap = of_blocks([["quarter"]] * 4, "inverted", "narrow")
        dear = of_blocks([list(SCALES)] * 4, "residual", "wide", "block")
        assert measure(space.network(cheap), "macs", shape) < 1e9
        assert 15e9 < measure(space.network(dear), "macs", shape) < 25e9


def test_the_plain_network_is_a_point_of_it(randomised):
    """Two residual blocks a stage at full scale, written by torch's functions."""
    tower = randomised(SMALL.network(of_blocks([["full"], ["full"]], second="block"))).double().eval()
    image = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    weights = iter(tower.parameters())

    def convolved(x):
        return F.conv2d(x, next(weights), next(weights), padding=1)

    x = convolved(F.pixel_unshuffle(image, 2))
    for _ in range(4):
        x = x + convolved(convolved(x).relu())
    expected = image + F.pixel_shuffle(convolved(x), 2)
    with torch.no_grad():
        torch.testing.assert_close(tower(image), expected, rtol=1e-10, atol=1e-10)
    assert (expected - image).abs().max() > 0.1


def test_a_stage_at_a_smaller_scale_is_a_step_down_and_up(randomised):
    tower = randomised(SMALL.network(of_blocks([["half"], ["full", "quarter"]]))).double().eval()
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    (features,) = tower.stem(image)
    (after,) = tower.stages()[0]([features], image)
    branch = tower.adding[0].branches[1]
    smaller = F.conv2d(features, branch.smaller.weight, branch.smaller.bias, stride=2)
    assert smaller.shape == (1, 12, 4, 4)
    larger = branch.larger(smaller + branch.blocks(smaller))
    torch.testing.assert_close(after, features + F.pixel_shuffle(larger, 2))


@pytest.mark.parametrize("kind", BLOCKS)
def test_features_stay_in_channels_last_memory(kind):
    """Where two orders of memory meet, an addition is ten times as slow."""
    tower = place(SMALL.network(of_blocks([["half"], list(SCALES)], kind, second="block")), torch.device("cpu"))
    image = torch.rand(2, 3, 32, 48).contiguous(memory_format=torch.channels_last)
    features = tower.stem(image)
    for stage in tower.stages():
        features = stage(features, image)
        assert features[0].is_contiguous(memory_format=torch.channels_last)


def test_a_stage_that_is_left_out_is_the_identity(randomised):
    """So is one at all of whose scales a relaxation has drawn nothing."""
    space = SMALL.model_copy(update={"optional": True})
    tower = randomised(space.network(of_blocks([[], ["full"]])))
    features = torch.rand(1, 8, 4, 4)
    assert tower.stages()[0]([features], features)[0] is features
    assert not nodes_of(space.forks())


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("expansion", EXPANSIONS)
def test_every_block_keeps_the_shape_and_uses_all_weights(kind, expansion, randomised):
    hidden = round(EXPANSIONS[expansion] * 8)
    block = randomised(BLOCKS[kind](8, hidden))
    x = torch.rand(2, 8, 6, 10)
    y = block(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("residual", lambda c, h: 2 * 9 * c * h),
        ("dilated", lambda c, h: 2 * 9 * c * h),
        ("large_kernel", lambda c, h: 49 * c + 2 * c * 2 * h),
        ("inverted", lambda c, h: 2 * c * 2 * h + 9 * 2 * h),
        ("naf", lambda c, h: 2 * (c * 2 * h + h * c) + 9 * 2 * h + h * h),
    ],
)
def test_the_weights_of_blocks_are_counted_by_hand(kind, weights):
    matrices = [p for p in BLOCKS[kind](8, 12).parameters() if p.ndim > 1]
    assert sum(p.numel() for p in matrices) == weights(8, 12)


def test_a_naf_block_is_that_of_the_paper(randomised):
    """NAFNet, Chen et al., ECCV 2022, figure 3c, with its two scales in the last convolutions."""
    block = randomised(BLOCKS["naf"](4, 4)).double()
    x = torch.rand(2, 4, 6, 6, dtype=torch.float64)
    norm, first, spatial, _, scale, last = block.spatial
    norm2, wide, _, last2 = block.pointwise

    def normalised(x, norm):
        y = F.layer_norm(x.permute(0, 2, 3, 1), (4,), norm.weight, norm.bias, 1e-5)
        return y.permute(0, 3, 1, 2)

    y = F.conv2d(normalised(x, norm), first.weight, first.bias)
    y = F.conv2d(y, spatial.weight, spatial.bias, padding=1, groups=8)
    y = y[:, :4] * y[:, 4:]
    y = y * F.conv2d(y.mean((2, 3), keepdim=True), scale.layer.weight[:, :, None, None], scale.layer.bias)
    y = x + F.conv2d(y, last.weight, last.bias)
    z = F.conv2d(normalised(y, norm2), wide.weight, wide.bias)
    z = y + F.conv2d(z[:, :4] * z[:, 4:], last2.weight, last2.bias)
    torch.testing.assert_close(x + block(x), z)


def test_untrained_it_gives_the_image_back():
    image = torch.rand(1, 3, 16, 24)
    for choices in drawn(SMALL, 5):
        assert torch.equal(SMALL.network(choices)(image), image)


def test_how_far_it_sees():
    """A residual block at a quarter of the unshuffled image sees 2 x 8 pixels and the edges of its squares."""
    near, far = (SMALL.network(of_blocks([[scale], [scale]])).double() for scale in ("full", "quarter"))
    for network in (near, far):
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, 0.1)
    assert receptive_radius(near, 8) == 2 * (2 * 2 + 2) + 1
    assert receptive_radius(far, 8) > receptive_radius(near, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": ["residul"]}, "residual"),
        ({"gates": ["cban"]}, "cbam"),
        ({"stages": 0}, "stages"),
        ({"width": 7}, "width"),
    ],
)
def test_options_that_make_no_sense(fields, message):
    with pytest.raises(ValidationError, match=message):
        Frontier(**fields)


def test_a_genotype_is_its_network_again(tmp_path):
    genotype = Genotype(space=SMALL, choices=drawn(SMALL, 1)[0])
    again = Genotype.read(genotype.write(tmp_path / "g.json"))
    assert again == genotype
