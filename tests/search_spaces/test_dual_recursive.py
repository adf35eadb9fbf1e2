"""DRN against the paper, written again as a loop; its stages' restorations, its loss, and how far it sees."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.restoration.losses import LossWeights, restoration_terms
from manas.restoration.network import RestorationSpace, tasks_of
from manas.restoration.ssim import ssim
from search_spaces.dual_recursive import DualRecursive

DRN_LOSS = LossWeights(mse=0, ssim=1, tv=0, internal=0, stages=0.1)

# What the released code calls the modules, each with a weight and a bias.
RELEASED = {
    "conv0.0": "first",
    "res_conv1.0": "blocks.0.0",
    "res_conv1.2": "blocks.0.2",
    "res_conv2.0": "blocks.1.0",
    "res_conv2.2": "blocks.1.2",
    "conv.0": "last",
}


def squares(x, side):
    """(B, C, H, W) -> (B, C side^2, H / side, W / side), by slices."""
    channels = product(range(x.shape[1]), range(side), range(side))
    return torch.stack([x[:, c, i::side, j::side] for c, i, j in channels], 1)


def spread(x, side):
    """Puts what `squares` took where it was."""
    batch, channels, height, width = x.shape
    image = x.new_zeros(batch, channels // side**2, height * side, width * side)
    for place, (c, i, j) in enumerate(product(range(channels // side**2), range(side), range(side))):
        image[:, c, i::side, j::side] = x[:, place]
    return image


def plain(weights, image, stages, recursions, shuffle=1):
    """x_1 ... x_S as the paper has them, of weights under the released names."""

    def convolved(name, x):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x, outputs = image, []
    for _ in range(stages):
        f = F.relu(convolved("conv0.0", squares(torch.cat((image, x), 1), shuffle)))
        for _ in range(recursions):
            f = F.relu(F.relu(convolved("res_conv1.2", F.relu(convolved("res_conv1.0", f)))) + f)
            f = F.relu(F.relu(convolved("res_conv2.2", F.relu(convolved("res_conv2.0", f)))) + f)
        x = image + spread(convolved("conv.0", f), shuffle)
        outputs.append(x)
    return outputs


def released(tower):
    """The weights of a tower under the released names."""
    state = tower.state_dict()
    names = [(theirs, ours, kind) for theirs, ours in RELEASED.items() for kind in ("weight", "bias")]
    assert {f"{ours}.{kind}" for _, ours, kind in names} == set(state)
    return {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for theirs, ours, kind in names}


def around(**sizes):
    """The network of a lone DRN, in float64."""
    space = RestorationSpace(towers={"derain": DualRecursive(**sizes)})
    return space.network().double()


def test_it_has_10595_parameters():
    tower = load_space("drn").network()
    assert sum(parameter.numel() for parameter in tower.parameters()) == 10_595
    assert len(list(tower.parameters())) == 12


def test_its_tensors_are_those_of_the_released_checkpoints():
    shapes = {name: tuple(tensor.shape) for name, tensor in released(DualRecursive().network()).items()}
    widths = {"conv0.0": (16, 6), "conv.0": (3, 16)}
    expected = {}
    for name in RELEASED:
        outputs, inputs = widths.get(name, (16, 16))
        expected |= {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
    assert shapes == expected


def test_the_preset_is_the_published_one():
    assert load_space("drn") == DualRecursive(channels=16, stages=7, recursions=7)
    assert load_space("drn").choices() == {}


@pytest.mark.parametrize(
    ("stages", "recursions", "shuffle"), [(7, 7, 1), (3, 2, 1), (2, 5, 1), (1, 1, 1), (3, 2, 2), (2, 1, 4)]
)
def test_it_equals_the_paper_after_every_stage(stages, recursions, shuffle, randomised):
    network = randomised(around(stages=stages, recursions=recursions, shuffle=shuffle))
    image = torch.rand(2, 3, 9 * shuffle, 13 * shuffle, dtype=torch.float64)
    with torch.no_grad():
        restoration = network(image, stages=True)
        expected = plain(released(network.towers["derain"]), image, stages, recursions, shuffle)
        alone = network.towers["derain"](image)
    assert len(restoration.stages["derain"]) == stages
    for ours, theirs in zip(restoration.stages["derain"], expected, strict=True):
        assert theirs.isfinite().all()
        assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()
    assert torch.equal(restoration.fused, restoration.stages["derain"][-1])
    assert torch.equal(restoration.fused, alone)


def test_its_stages_differ():
    with torch.no_grad():
        images = around(stages=3, recursions=2)(torch.rand(1, 3, 8, 8).double(), stages=True).stages["derain"]
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(images[1], images[2])


def test_every_size_is_taken():
    tower = DualRecursive(stages=2, recursions=1).network()
    assert tower.size_multiple == 1
    assert tower(torch.rand(1, 3, 1, 5)).shape == (1, 3, 1, 5)


@pytest.mark.parametrize(("stages", "recursions"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_how_far_it_sees(stages, recursions):
    """stages (2 + 4 recursions): 210 pixels for 7 x 7. Positive weights let no path vanish."""
    tower = DualRecursive(channels=2, stages=stages, recursions=recursions).network().double()
    for parameter in tower.parameters():
        nn.init.constant_(parameter, 0.1)
    radius = stages * (2 + 4 * recursions)
    side = 2 * radius + 5
    image = torch.rand(1, 3, side, side, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(tower(image)[0, 0, side // 2, side // 2], image)
    reached = gradient[0].abs().sum(0).nonzero()
    assert reached.min().item() == side // 2 - radius
    assert reached.max().item() == side // 2 + radius


def test_its_modules_are_registered_once_and_run_49_times_a_block():
    tower, runs = load_space("drn").network(), []
    for block in tower.blocks:
        block.register_forward_hook(lambda *_: runs.append(1))
    tower(torch.rand(1, 3, 2, 2))
    assert len(runs) == 2 * 49


def test_its_loss_is_the_published_one():
    """-SSIM(x_7) - sum_s 0.1 s SSIM(x_s), but for a constant: of the value, and of every gradient."""
    network = around(channels=4, recursions=1)
    clean, image = torch.rand(2, 3, 16, 16).double(), torch.rand(2, 3, 16, 16).double()
    restoration = network(image, stages=True)
    terms = restoration_terms(restoration, clean, torch.zeros(2, dtype=torch.long), DRN_LOSS, 1.0)
    assert set(terms) == {"global/ssim", "stages/derain"}
    ours = sum(terms.values())
    outputs = plain(dict(_named(network.towers["derain"])), image, 7, 1)
    similar = [ssim(x, clean, mode="loss").mean() for x in outputs]
    published = -similar[-1] - sum(0.1 * s * each for s, each in enumerate(similar, 1))
    torch.testing.assert_close(ours, 1 + 0.1 * 28 + published, rtol=1e-10, atol=0)
    weights = list(network.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(ours, weights), torch.autograd.grad(published, weights), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)
        assert mine.any()


def _named(tower):
    """Name and parameter, under the released names, of the very tower."""
    own = dict(tower.named_parameters())
    for theirs, ours in RELEASED.items():
        for kind in ("weight", "bias"):
            yield f"{theirs}.{kind}", own[f"{ours}.{kind}"]


@pytest.mark.parametrize("field", ["channels", "stages", "recursions"])
def test_sizes_that_make_no_sense(field):
    with pytest.raises(ValidationError, match=field):
        DualRecursive(**{field: 0})


# CMUDRN


def test_two_of_them_are_cross_stitched_and_fused():
    space = load_space("cmudrn")
    assert space.towers == {"derain": DualRecursive(), "desnow": DualRecursive()}
    assert tasks_of(space) == ("derain", "desnow")
    assert space.choices() == {}
    network = space.network()
    assert [tuple(stitch.matrices[0].shape) for stitch in network.stitches] == [(2, 2, 1)] * 7
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts == {"towers": 2 * 10_595, "stitches": 28, "fusion": counts["fusion"]}
    assert network(torch.rand(1, 3, 8, 8)).fused.shape == (1, 3, 8, 8)


def test_a_genotype_without_choices_is_that_of_its_network(tmp_path):
    genotype = Genotype(space=load_space("cmudrn"), choices={}, provenance={})
    written = Genotype.read(genotype.write(tmp_path / "cmudrn.json"))
    assert written == genotype
    assert len(written.network().stitches) == 7
