"""The three fusions: how they start, what they may give, and what learns from the fused output alone."""

import pytest
import torch

from manas.restoration.fusion import FUSIONS
from manas.restoration.network import RestorationSpace


def inputs(tasks, *, batch=2, size=(8, 10)):
    return torch.rand(batch, 3, *size), [torch.rand(batch, 3, *size) for _ in range(tasks)]


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_starts_as_the_mean(name, tasks):
    image, restored = inputs(tasks)
    fused = FUSIONS[name](tasks)(image, restored)
    torch.testing.assert_close(fused, sum(restored) / tasks)


@pytest.mark.parametrize("tasks", [2, 3])
def test_a_mask_is_convex_whatever_its_weights(tasks, randomised):
    image, restored = inputs(tasks)
    fusion = randomised(FUSIONS["mask"](tasks))
    fused, stacked = fusion(image, restored), torch.stack(restored)
    assert (fused >= stacked.amin(0) - 1e-6).all()
    assert (fused <= stacked.amax(0) + 1e-6).all()
    assert not torch.allclose(fused, stacked.mean(0), atol=1e-3)


def test_a_mask_has_one_share_for_the_colours_of_a_pixel(randomised):
    image, (first, second) = inputs(2)
    fused = randomised(FUSIONS["mask"](2))(image, [first, second])
    share = (fused - second) / (first - second)  # (B, 3, H, W)
    distinct = (first - second).abs().amin(1, keepdim=True) > 0.05
    spread = share.amax(1, keepdim=True) - share.amin(1, keepdim=True)
    assert distinct.any()
    assert (spread[distinct] < 1e-3).all()


def test_equal_restorations_are_fused_to_themselves_by_a_mask(randomised):
    image, (restored,) = inputs(1)
    torch.testing.assert_close(randomised(FUSIONS["mask"](2))(image, [restored, restored]), restored)


def test_a_convolution_corrects_the_mean_by_what_it_sees(randomised):
    image, restored = inputs(2)
    fusion = randomised(FUSIONS["conv"](2))
    fused = fusion(image, restored)
    correction = fusion.layers(torch.cat([image, *restored], 1))
    torch.testing.assert_close(fused, (restored[0] + restored[1]) / 2 + correction)
    assert not torch.allclose(fusion(image + 0.1, restored), fused)


@pytest.mark.parametrize(("name", "parameters"), [("mean", 0), ("conv", 1_312 + 435), ("mask", 1_312 + 290)])
def test_number_of_parameters(name, parameters):
    assert sum(parameter.numel() for parameter in FUSIONS[name](2).parameters()) == parameters


@pytest.mark.parametrize("name", FUSIONS)
def test_what_it_was_given_is_left_as_it_was(name, randomised):
    image, restored = inputs(2)
    copies = [image.clone(), *(x.clone() for x in restored)]
    randomised(FUSIONS[name](2))(image, restored)
    assert len(restored) == 2
    assert all(torch.equal(x, copy) for x, copy in zip([image, *restored], copies, strict=True))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("stitching", ["none", "layer", "channel"])
def test_every_tower_and_stitch_learns_from_the_fused_output_alone(fusion, stitching, small_tower, randomised):
    towers = {"derain": small_tower, "desnow": small_tower, "dehaze": small_tower}
    space = RestorationSpace(towers=towers, stitch=stitching, fusion=fusion)
    choices = {label: "fusion" if "column" in label else "channel_attention" for label in space.choices()}
    network = randomised(space.network(choices))
    network(torch.rand(2, 3, 8, 8)).fused.square().mean().backward()
    first_and_last = [part for tower in network.towers.values() for part in (tower.bottlenecks, tower.output)]
    for part in (*first_and_last, network.stitches, network.fusion):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
