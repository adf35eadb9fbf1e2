"""The eight turned and mirrored versions of an image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.tiny_networks import Squashed, local_stack, pools_twice, restoration, uneven

from manas.inference.ensemble import ALL_TURNS, NO_TURN, Turn
from manas.inference.pipeline import Pipeline
from manas.inference.tiling import Tiling

turns = st.sampled_from(ALL_TURNS)


def ensemble(network, *, multiple=1, tile=None, halo=0, gathering="exact"):
    tiling = Tiling(multiple, tile, halo)
    return Pipeline(network, torch.device("cpu"), tiling, gathering, ALL_TURNS)


def test_the_eight_are_all_there_are():
    image = torch.rand(1, 3, 4, 4)
    versions = [turn.of(image) for turn in ALL_TURNS]
    symmetries = [torch.rot90(x, k, (2, 3)) for x in (image, image.mT) for k in range(4)]
    for wanted in symmetries:
        assert sum(torch.equal(version, wanted) for version in versions) == 1
    assert len(versions) == 8


def test_no_turn_is_the_image_itself():
    image = torch.rand(1, 3, 4, 5)
    assert NO_TURN.of(image) is image
    assert NO_TURN in ALL_TURNS


@given(turn=turns, height=st.integers(1, 9), width=st.integers(1, 9))
def test_undone_it_is_the_image(turn, height, width):
    image = torch.rand(2, 3, height, width)
    assert torch.equal(turn.undo(turn.of(image)), image)


@given(turn=turns, height=st.integers(1, 9), width=st.integers(1, 9), data=st.data())
def test_a_part_is_found_in_the_turned_image(turn, height, width, data):
    image = torch.rand(1, 3, height, width)
    rows, columns = (
        slice(*sorted((data.draw(st.integers(0, side)), data.draw(st.integers(0, side)))))
        for side in (height, width)
    )
    there = turn.of(image)[..., *turn.part(rows, columns, height, width)]
    assert torch.equal(there, turn.of(image[..., rows, columns]))


def test_a_transposed_image_is_mirrored_afterwards():
    image = torch.arange(6).reshape(1, 1, 2, 3)
    turned = Turn(transpose=True, upside_down=True).of(image)
    assert turned[0, 0].tolist() == [[2, 5], [1, 4], [0, 3]]


def test_the_ensemble_is_the_mean_of_the_turned_restorations():
    network, image = pools_twice(), torch.rand(2, 3, 8, 11)
    with torch.no_grad():
        each = [turn.undo(network(turn.of(image))) for turn in ALL_TURNS]
    assert (each[0] - each[5]).abs().max() > 1e-3
    torch.testing.assert_close(ensemble(network)(image), torch.stack(each).mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tile", [None, 8])
@given(turn=turns, seed=st.integers(0, 3))
@settings(max_examples=5)
def test_the_ensemble_of_a_turned_image_is_the_turned_ensemble(randomised, turn, seed, tile):
    restore = ensemble(Squashed(restoration(randomised, seed)), multiple=2, tile=tile, halo=12)
    image = uneven(1, 3, 10, 16)
    torch.testing.assert_close(restore(turn.of(image)), turn.of(restore(image)), rtol=0, atol=1e-5)


def test_without_the_ensemble_it_is_not():
    image = torch.rand(1, 3, 10, 16)
    restore = Pipeline(local_stack(2), torch.device("cpu"), Tiling(1))
    assert (restore(image.mT) - restore(image).mT).abs().max() > 1e-3
