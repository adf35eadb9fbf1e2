"""Stitch matrices; with identity stitches the towers of a network are the towers alone (invariant 5)."""

import pytest
import torch

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.restoration.cross_stitch import StitchMatrices, stitch
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive

CHANNELS = (4, 6)


def features(tasks):
    return [[torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)] for _ in range(tasks)]


def identity(tasks):
    return torch.eye(tasks)[:, :, None]


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize(("granularity", "widths"), [("layer", (1, 1)), ("channel", CHANNELS)])
def test_initial_matrices(tasks, granularity, widths):
    matrices = StitchMatrices(tasks, CHANNELS, granularity)()
    assert [tuple(matrix.shape) for matrix in matrices] == [(tasks, tasks, width) for width in widths]
    for matrix in matrices:
        diagonal = torch.eye(tasks, dtype=torch.bool)
        torch.testing.assert_close(matrix[diagonal], torch.full_like(matrix[diagonal], 0.9))
        torch.testing.assert_close(matrix[~diagonal], torch.full_like(matrix[~diagonal], 0.1 / (tasks - 1)))
        torch.testing.assert_close(matrix.sum(1), torch.ones_like(matrix[:, 0]))


@pytest.mark.parametrize("start", [0.3, 0.5, 1.0])
def test_initial_matrices_that_start_elsewhere(start):
    for matrix in StitchMatrices(3, CHANNELS, "channel", start=start)():
        expected = torch.full((3, 3), (1 - start) / 2).fill_diagonal_(start)
        torch.testing.assert_close(matrix, expected[:, :, None].expand_as(matrix))


@pytest.mark.parametrize(("granularity", "parameters"), [("none", 0), ("layer", 8), ("channel", 40)])
def test_number_of_parameters(granularity, parameters):
    module = StitchMatrices(2, CHANNELS, granularity)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_none_is_the_identity(tasks):
    matrices = StitchMatrices(tasks, CHANNELS, "none")()
    assert len(matrices) == len(CHANNELS)
    assert all(torch.equal(matrix, identity(tasks)) for matrix in matrices)


def test_a_file_does_not_hold_the_identity():
    assert StitchMatrices(2, CHANNELS, "none").state_dict() == {}


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("widths", [(1, 1), CHANNELS, (1, 6)])
def test_stitch_equals_an_einsum(tasks, widths):
    given, matrices = features(tasks), [torch.randn(tasks, tasks, width) for width in widths]
    stitched = stitch(given, matrices)
    assert [len(of_task) for of_task in stitched] == [2] * tasks
    for scale, channels in enumerate(CHANNELS):
        matrix = matrices[scale].expand(tasks, tasks, channels)
        stacked = torch.stack([of_task[scale] for of_task in given])
        expected = torch.einsum("ijc,jbchw->ibchw", matrix, stacked)
        torch.testing.assert_close(torch.stack([of_task[scale] for of_task in stitched]), expected)


def test_a_row_says_what_its_task_receives():
    given = [[torch.full((1, 1, 1, 1), 1.0)], [torch.full((1, 1, 1, 1), 10.0)]]
    matrix = torch.tensor([[0.9, 0.1], [0.3, 0.7]])[:, :, None]
    (first,), (second,) = stitch(given, [matrix])
    assert first.item() == pytest.approx(0.9 * 1 + 0.1 * 10)
    assert second.item() == pytest.approx(0.3 * 1 + 0.7 * 10)


def test_stitching_leaves_what_it_was_given():
    given = features(2)
    copies = [[x.clone() for x in of_task] for of_task in given]
    stitch(given, StitchMatrices(2, CHANNELS, "channel")())
    for of_task, expected in zip(given, copies, strict=True):
        assert len(of_task) == 2
        assert all(torch.equal(x, y) for x, y in zip(of_task, expected, strict=True))


def test_gradients_reach_every_entry():
    module = StitchMatrices(3, CHANNELS, "channel")
    stitched = stitch(features(3), module())
    sum(x.square().sum() for of_task in stitched for x in of_task).backward()
    assert all(parameter.grad.all() for parameter in module.parameters())


def test_a_wrong_number_of_scales_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        stitch(features(2), [identity(2)])


# Invariant 5: with identity stitches a network's towers are the towers alone, bit for bit


def set_to_identity(network):
    with torch.no_grad():
        for matrix in network.stitches.parameters():
            matrix.copy_(torch.eye(len(matrix))[:, :, None].expand_as(matrix))


def tower_alone(network, genotype, task, image):
    """What a tower gives that was built alone from its own part of the genotype."""
    prefix = f"{task}/"
    choices = {
        label.removeprefix(prefix): name for label, name in genotype.choices.items() if label.startswith(prefix)
    }
    tower = genotype.space.towers[task].network(choices)
    tower.load_state_dict(network.towers[task].state_dict(), strict=True)
    return tower.eval()(image)


@pytest.mark.parametrize("stitching", ["none", "layer", "channel", "searched"])
@pytest.mark.parametrize("tasks", [("derain", "desnow"), ("derain", "desnow", "dehaze")])
def test_identity_stitches_leave_the_towers_alone(stitching, tasks, small_tower, randomised):
    spaces = dict.fromkeys(tasks, small_tower) | {"desnow": small_tower.model_copy(update={"attention": None})}
    space = RestorationSpace(towers=spaces, stitch=stitching)
    choices = Genotype.sample(space, seed=1).choices
    choices |= {label: "none" for label in choices if label.startswith("stitch/")}
    network = randomised(space.network(choices)).eval()
    set_to_identity(network)
    image = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        restored = network(image).tasks
        genotype = Genotype.sample(space, seed=1).model_copy(update={"choices": choices})
        for task in tasks:
            assert torch.equal(restored[task], tower_alone(network, genotype, task, image))
    assert not torch.allclose(restored["derain"], restored["desnow"])


def towers(kind, tasks, manas):
    if kind.startswith("drn"):
        shuffle = 2 if "unshuffled" in kind else 1
        return dict.fromkeys(tasks, DualRecursive(channels=4, stages=3, recursions=2, shuffle=shuffle))
    return dict.fromkeys(tasks, manas) | {"desnow": manas.model_copy(update={"attention": None})}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("drn", {}),
        ("drn", {"shared": True}),
        ("drn", {"after": (0, 2)}),
        ("drn", {"after": (2, 1), "shared": True}),
        ("manas", {}),
        ("manas", {"after": (1,)}),
        ("manas", {"after": ()}),
        ("drn unshuffled", {}),
        ("manas unshuffled", {}),
    ],
)
@pytest.mark.parametrize("tasks", [("derain", "desnow"), ("derain", "desnow", "dehaze")])
@pytest.mark.parametrize("stitching", ["layer", "channel"])
def test_stitches_that_start_at_one_leave_the_towers_alone(
    stitching, tasks, kind, options, small_tower, small_shuffled, randomised
):
    """As they start, and not because a test has set them."""
    spaces = towers(kind, tasks, small_shuffled if "unshuffled" in kind else small_tower)
    space = RestorationSpace(towers=spaces, stitch=stitching, stitches={"start": 1.0, **options})
    genotype = Genotype.sample(space, seed=1)
    network = space.network(genotype).eval()
    randomised(network.towers)
    image = torch.rand(2, 3, 8, 16)
    with torch.no_grad():
        restored = network(image, stages=True)
        for task in tasks:
            assert torch.equal(restored.tasks[task], tower_alone(network, genotype, task, image))
            assert torch.equal(restored.stages[task][-1], restored.tasks[task])
    assert not torch.allclose(restored.tasks["derain"], restored.tasks["desnow"])


@pytest.mark.parametrize("stitching", ["layer", "channel"])
def test_stitches_that_are_no_identity_change_every_tower(stitching, small_tower, randomised):
    space = RestorationSpace(towers={"derain": small_tower, "desnow": small_tower}, stitch=stitching)
    genotype = Genotype.sample(space, seed=1)
    network = randomised(space.network(genotype)).eval()
    image = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        for task, restored in network(image).tasks.items():
            assert not torch.allclose(restored, tower_alone(network, genotype, task, image))


def test_searched_stitches_with_none_chosen_leave_the_towers_of_the_supernet_alone(small_tower, randomised):
    space = RestorationSpace(towers={"derain": small_tower, "desnow": small_tower}, stitch="searched")
    genotype = Genotype.sample(space, seed=2)
    choices = genotype.choices | {f"stitch/stage{s}": "none" for s in range(2)}
    supernet = randomised(space.supernet()).eval()
    image = torch.rand(2, 3, 8, 12)
    with torch.no_grad(), relaxed_by(supernet, OneHot(choices)):
        restored = supernet(image).tasks
        for task, tower in supernet.towers.items():
            assert torch.equal(restored[task], tower(image))


def test_a_mixture_of_stitches_is_a_mixture_of_matrices(small_tower):
    space = RestorationSpace(towers={"derain": small_tower, "desnow": small_tower}, stitch="searched")
    choice = next(c for c in choices_of(space.supernet()) if c.label == "stitch/stage0")
    p = choice.alpha.softmax(0)
    for scale, mixed in enumerate(choice()):
        expected = sum(p[k] * choice.candidates[name]()[scale] for k, name in enumerate(choice.names))
        assert mixed.shape == (2, 2, (8, 12)[scale])
        torch.testing.assert_close(mixed, expected)
