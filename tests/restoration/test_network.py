"""RestorationSpace: any number of towers, what it refuses, and what can be searched in it."""

from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.relaxation import OneHot
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.restoration.network import Restoration, RestorationSpace, assemble, tasks_of
from manas.restoration.tower import Tower

TASKS = ("derain", "desnow", "dehaze")


class Recursive(SearchSpace):
    """A tower whose only module is three stages, as DRN's is seven; it needs the image at every stage."""

    stages: int = 3
    width: int = 8

    def build(self, decide):
        return RecursiveTower(self, decide)


class RecursiveTower(Tower):
    def __init__(self, space, decide):
        super().__init__()
        self.channels = [[space.width]] * space.stages
        self.size_multiple = 1
        convolutions = {
            f"conv{size}": partial(nn.Conv2d, space.width, space.width, size, padding=size // 2)
            for size in (1, 3)
        }
        self.first = nn.Conv2d(3, space.width, 3, padding=1)
        self.again = decide("again", convolutions)
        self.last = nn.Conv2d(space.width, 3, 3, padding=1)

    def stem(self, image):
        return [self.first(image)]

    def stages(self):
        return [self._stage] * len(self.channels)

    def _stage(self, features, image):
        return [torch.relu(self.again(features[0]) + self.first(image))]

    def head(self, features, image):
        return image + self.last(features[0])


def space_of(tower, tasks=2, **options):
    return RestorationSpace(towers=dict.fromkeys(TASKS[:tasks], tower), **options)


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("stitch", ["none", "layer", "channel", "searched"])
def test_any_number_of_tasks(tasks, stitch, small_tower):
    space = space_of(small_tower, tasks, stitch=stitch, fusion="searched")
    image = torch.rand(2, 3, 8, 12)
    for network in (space.supernet(), space.network(space.sample(seed=0))):
        restoration = network.eval()(image)
        assert isinstance(restoration, Restoration)
        assert tuple(restoration.tasks) == TASKS[:tasks]
        assert all(x.shape == image.shape for x in [restoration.fused, *restoration.tasks.values()])
        assert network.size_multiple == 4


@pytest.mark.parametrize("stitch", ["none", "layer", "searched"])
@pytest.mark.parametrize("fusion", ["mask", "searched"])
def test_the_output_of_a_lone_tower_is_the_fused_one(stitch, fusion, small_tower):
    space = space_of(small_tower, 1, stitch=stitch, fusion=fusion)
    assert list(space.choices()) == [f"derain/{label}" for label in small_tower.choices()]
    genotype = space.sample(seed=0)
    network = genotype.network().eval()
    image = torch.rand(2, 3, 8, 8)
    restoration = network(image)
    assert restoration.fused is restoration.tasks["derain"]
    assert torch.equal(restoration.fused, network.towers["derain"](image))
    assert not list(network.stitches.parameters())


def test_restoration_of():
    image = torch.rand(1, 3, 4, 4)
    assert Restoration.of(image) == Restoration({}, image)
    whole = Restoration({"derain": image}, image)
    assert Restoration.of(whole) is whole


def test_tasks_of(small_tower, small_network):
    assert tasks_of(small_network) == ("derain", "desnow")
    assert tasks_of(small_tower) == ()


def test_the_size_multiple_serves_every_tower(small_tower):
    deeper = small_tower.model_copy(update={"channels": (8, 12, 16, 20), "columns": (0, 0, 0)})
    towers = {"derain": small_tower, "desnow": deeper, "dehaze": Recursive()}
    space = RestorationSpace(towers=towers, stitch="none", fusion="mean")
    assert space.network(space.sample(seed=0)).size_multiple == 8


# Names and shapes


@pytest.mark.parametrize(
    "task",
    [
        "stitch",
        "fusion",
        "type",
        "train",
        "keys",
        "values",
        "items",
        "forward",
        "half",
        "",
        "De-rain",
        "a/b",
        "a.b",
        "a b",
    ],
)
def test_names_that_no_task_can_have(task, small_tower):
    with pytest.raises(ValidationError, match="cannot name a task"):
        RestorationSpace(towers={task: small_tower})


@pytest.mark.parametrize("task", ["rain", "rain_100", "0", "towers", "stitches"])
def test_names_that_a_task_can_have(task, small_tower):
    space = RestorationSpace(towers={task: small_tower, "other": small_tower})
    assert set(space.sample(seed=0).network()(torch.rand(2, 3, 8, 8)).tasks) == {task, "other"}


@pytest.mark.parametrize("fields", [{"towers": {}}, {"stitch": "all"}, {"fusion": "sum"}, {"gates": 3}])
def test_options_that_do_not_exist(fields, small_tower):
    with pytest.raises(ValidationError):
        RestorationSpace(**{"towers": {"derain": small_tower}, **fields})


@pytest.mark.parametrize(
    ("other", "shapes"),
    [
        ({"channels": (8, 12, 20)}, r"\[\[8, 12\], \[8, 12, 16\]\] and \[\[8, 12\], \[8, 12, 20\]\]"),
        ({"channels": (8, 12), "columns": (1,)}, r"\[\[8, 12\], \[8, 12, 16\]\] and \[\[8, 12\]\]"),
    ],
)
@pytest.mark.parametrize("stitch", ["layer", "channel", "searched"])
def test_towers_that_do_not_match_are_named_with_both_shapes(other, shapes, stitch, small_tower):
    towers = {"derain": small_tower, "desnow": small_tower.model_copy(update=other)}
    space = RestorationSpace(towers=towers, stitch=stitch)
    with pytest.raises(ManasError, match=f"'derain' and 'desnow' cannot be stitched.*{shapes}.*'none'"):
        space.sample(seed=0)


def test_towers_that_do_not_match_are_fine_without_stitches(small_tower):
    towers = {"derain": small_tower, "desnow": Recursive()}
    space = RestorationSpace(towers=towers, stitch="none")
    assert space.sample(seed=0).network()(torch.rand(2, 3, 8, 8)).fused.shape == (2, 3, 8, 8)


def test_the_third_tower_must_match_too(small_tower):
    towers = {"derain": small_tower, "desnow": small_tower, "dehaze": Recursive()}
    with pytest.raises(ManasError, match="'desnow' and 'dehaze' cannot be stitched"):
        RestorationSpace(towers=towers).supernet()


def test_a_space_that_builds_no_tower_is_refused():
    class Picture(SearchSpace):
        def build(self, decide):
            return nn.Conv2d(3, 3, 1)

    with pytest.raises(ManasError, match="'derain' builds a Conv2d, which is no Tower"):
        RestorationSpace(towers={"derain": Picture()}).supernet()


# Stitching by hand


def test_towers_exchange_features_after_every_stage(small_network, small_genotype, randomised):
    network = randomised(small_network.network(small_genotype)).eval()
    image = torch.rand(2, 3, 8, 8)
    derain, desnow = network.towers.values()
    x, y = derain.stem(image), desnow.stem(image)
    for stage in range(2):
        x, y = derain.stages()[stage](x, image), desnow.stages()[stage](y, image)
        matrices = network.stitches[stage]()
        x, y = (
            [m[row, 0] * a + m[row, 1] * b for m, a, b in zip(matrices, x, y, strict=True)] for row in range(2)
        )
    restored = {"derain": derain.head(x, image), "desnow": desnow.head(y, image)}
    output = network(image)
    for task, expected in restored.items():
        torch.testing.assert_close(output.tasks[task], expected)
    torch.testing.assert_close(output.fused, network.fusion(image, list(restored.values())))


def test_a_recursive_tower_has_a_stitch_for_every_pass():
    space = space_of(Recursive(), stitch="layer")
    network = space.sample(seed=0).network()
    assert len(network.stitches) == 3
    names = network.state_dict()
    assert len([name for name in names if name.startswith("towers.derain.again")]) == 2  # registered once
    network(torch.rand(2, 3, 5, 7)).fused.sum().backward()
    gradients = [stitch.matrices[0].grad for stitch in network.stitches]
    assert not torch.allclose(gradients[0], gradients[1])


# Searching


def test_stitches_and_fusion_are_decisions(small_tower):
    space = space_of(small_tower, stitch="searched", fusion="searched")
    choices = space.choices()
    assert choices["stitch/stage0"] == choices["stitch/stage1"] == ("none", "layer", "channel")
    assert choices["fusion"] == ("mean", "conv", "mask")
    of_towers = [f"{task}/{label}" for task in TASKS[:2] for label in small_tower.choices()]
    assert list(choices) == [*of_towers, "stitch/stage0", "stitch/stage1", "fusion"]
    assert space.size() == small_tower.size() ** 2 * 3**2 * 3


def test_what_is_not_searched_is_no_decision(small_network, small_tower):
    assert len(small_network.choices()) == 2 * len(small_tower.choices())


def test_a_derived_network_inherits_towers_stitches_and_fusion(small_tower, randomised):
    space = space_of(small_tower, stitch="searched", fusion="searched")
    choices = space.sample(seed=4).choices | {
        "stitch/stage0": "channel",
        "stitch/stage1": "layer",
        "fusion": "mask",
    }
    supernet = randomised(space.supernet()).eval()
    network = space.inherit(supernet, choices).eval()
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), relaxed_by(supernet, OneHot(choices)):
        searched, derived = supernet(image), network(image)
    torch.testing.assert_close(derived.fused, searched.fused, rtol=0, atol=1e-6)
    assert [tuple(stitch.matrices[0].shape) for stitch in network.stitches] == [(2, 2, 8), (2, 2, 1)]
    assert choices_of(network) == []


def test_every_alpha_learns_from_the_fused_output(small_tower, randomised):
    space = space_of(small_tower, stitch="searched", fusion="searched")
    supernet = randomised(space.supernet())
    supernet(torch.rand(2, 3, 8, 8)).fused.square().sum().backward()
    assert all(choice.alpha.grad.any() for choice in choices_of(supernet))


# Assembling


def test_assembling_prefixes_the_labels(small_tower):
    genotypes = {"derain": small_tower.sample(seed=0), "desnow": small_tower.sample(seed=1)}
    whole = assemble(genotypes, stitch="channel", fusion="conv")
    assert isinstance(whole.space, RestorationSpace)
    assert (whole.space.stitch, whole.space.fusion) == ("channel", "conv")
    assert whole.choices == {
        f"{task}/{label}": name
        for task, genotype in genotypes.items()
        for label, name in genotype.choices.items()
    }
    assert whole.provenance == {task: genotype.provenance for task, genotype in genotypes.items()}
    assert set(whole.network()(torch.rand(2, 3, 8, 8)).tasks) == set(genotypes)


def test_an_assembled_genotype_survives_json(small_tower):
    towers = {"derain": small_tower, "desnow": small_tower.model_copy(update={"attention": None})}
    whole = assemble({task: tower.sample(seed=2) for task, tower in towers.items()})
    assert whole.space.towers == towers
    assert Genotype.from_json(whole.to_json()) == whole


def test_a_lone_genotype_is_assembled_too(small_tower):
    genotype = small_tower.sample(seed=0)
    whole = assemble({"derain": genotype})
    assert list(whole.choices.values()) == list(genotype.choices.values())


def test_a_whole_network_is_no_tower(small_genotype):
    with pytest.raises(ManasError, match="'derain' is of a whole network"):
        assemble({"derain": small_genotype})


def test_towers_that_do_not_match_are_not_assembled(small_tower):
    other = small_tower.model_copy(update={"channels": (8, 12, 20)})
    with pytest.raises(ValueError, match="cannot be stitched"):
        assemble({"derain": small_tower.sample(seed=0), "desnow": other.sample(seed=0)})
