"""RestorationSpace: any number of towers, what it refuses, and what can be searched in it."""

from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.architecture.weighting import OneHot
from manas.errors import ManasError
from manas.restoration.cross_stitch import StitchOptions
from manas.restoration.losses import LossWeights, restoration_terms
from manas.restoration.model_file import ModelDescription, load_model, save_model
from manas.restoration.network import Restoration, RestorationSpace, assemble, tasks_of
from manas.restoration.tower import Tower
from search_spaces.dual_recursive import DualRecursive
from search_spaces.plain import Plain

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
    for network in (space.supernet(), space.network(Genotype.sample(space, seed=0))):
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
    genotype = Genotype.sample(space, seed=0)
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
    assert space.network(Genotype.sample(space, seed=0)).size_multiple == 8


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
    assert set(Genotype.sample(space, seed=0).network()(torch.rand(2, 3, 8, 8)).tasks) == {task, "other"}


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
        Genotype.sample(space, seed=0)


def test_towers_that_do_not_match_are_fine_without_stitches(small_tower):
    towers = {"derain": small_tower, "desnow": Recursive()}
    space = RestorationSpace(towers=towers, stitch="none")
    assert Genotype.sample(space, seed=0).network()(torch.rand(2, 3, 8, 8)).fused.shape == (2, 3, 8, 8)


RECURSIVE = DualRecursive(channels=4, stages=3, recursions=1)


@pytest.mark.parametrize(
    ("other", "shuffles"), [(Plain(width=4, blocks=3, shuffle=4), "2 and 4"), (RECURSIVE, "2 and 1")]
)
@pytest.mark.parametrize("stitch", ["layer", "channel", "searched"])
def test_towers_whose_features_differ_in_size_are_named_with_both_shuffles(other, shuffles, stitch):
    towers = {"derain": Plain(width=4, blocks=3, shuffle=2), "desnow": other}
    message = f"'derain' and 'desnow' cannot be stitched.* shuffle is {shuffles}; .*'none'"
    with pytest.raises(ManasError, match=message):
        Genotype.sample(RestorationSpace(towers=towers, stitch=stitch), seed=0)
    unstitched = RestorationSpace(towers=towers, stitch="none").network()
    image = torch.rand(1, 3, 8, 12)
    assert all(restored.shape == image.shape for restored in unstitched(image).tasks.values())


def test_towers_of_two_kinds_whose_features_are_alike_are_stitched():
    towers = {"derain": Plain(width=4, blocks=3, shuffle=1), "desnow": RECURSIVE}
    network = RestorationSpace(towers=towers, stitch="channel").network()
    assert len(network.stitches) == 3
    assert network(torch.rand(1, 3, 5, 7)).fused.shape == (1, 3, 5, 7)


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
    network = Genotype.sample(space, seed=0).network()
    assert len(network.stitches) == 3
    names = network.state_dict()
    assert len([name for name in names if name.startswith("towers.derain.again")]) == 2  # registered once
    network(torch.rand(2, 3, 5, 7)).fused.sum().backward()
    gradients = [stitch.matrices[0].grad for stitch in network.stitches]
    assert not torch.allclose(gradients[0], gradients[1])


# Where stitches are


def drns(tasks=2, **options):
    return space_of(DualRecursive(channels=4, stages=3, recursions=1), tasks, **options)


@pytest.mark.parametrize(
    ("options", "places", "modules"),
    [
        ({}, {0: 0, 1: 1, 2: 2}, 3),
        ({"after": (0, 2)}, {0: 0, 2: 1}, 2),
        ({"after": (1,)}, {1: 0}, 1),
        ({"after": ()}, {}, 0),
        ({"shared": True}, {0: 0, 1: 0, 2: 0}, 1),
        ({"after": (2, 0), "shared": True}, {0: 0, 2: 0}, 1),
    ],
)
def test_stitches_follow_the_stages_that_are_named(options, places, modules):
    network = drns(stitches=options).network()
    assert network.stitch_after == places
    assert len(network.stitches) == modules


def test_a_stage_that_no_stitch_follows_exchanges_nothing(randomised):
    """Only after the second stage: what the other tower sees there is all that it can see."""
    network = randomised(drns(stitch="channel", stitches={"after": (1,)}).network())
    image = torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        before = network(image, stages=True)
        network.towers["desnow"].first.weight.mul_(2)
        after = network(image, stages=True)
    changed = [
        not torch.equal(one, other)
        for one, other in zip(before.stages["derain"], after.stages["derain"], strict=True)
    ]
    assert changed == [False, True, True]


def test_a_shared_stitch_is_one_module_with_the_gradients_of_all_places(randomised):
    own, shared = (drns(stitches={"shared": s}).network() for s in (False, True))
    randomised(own.towers)
    shared.towers.load_state_dict(own.towers.state_dict())
    image = torch.rand(2, 3, 6, 6)
    outputs = [network(image).tasks["derain"] for network in (own, shared)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.sum().backward()
    (whole,) = shared.stitches.parameters()
    torch.testing.assert_close(whole.grad, sum(p.grad for p in own.stitches.parameters()), rtol=1e-4, atol=1e-4)


def test_a_shared_stitch_survives_a_file(tmp_path, randomised):
    genotype = Genotype(space=drns(stitch="channel", stitches={"shared": True, "start": 0.7}), choices={})
    network = randomised(genotype.network()).eval()
    description = ModelDescription(genotype=genotype, training={}, degradations={})
    loaded, read = load_model(save_model(tmp_path / "model.safetensors", network, description))
    assert read.genotype.space.stitches == StitchOptions(shared=True, start=0.7)
    assert [name for name in loaded.state_dict() if name.startswith("stitches.")] == ["stitches.0.matrices.0"]
    image = torch.rand(1, 3, 7, 5)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(image).fused, network(image).fused)


@pytest.mark.parametrize("shared", [False, True])
def test_a_stage_that_no_tower_has(shared):
    with pytest.raises(ManasError, match="stitches.after names stage 3; the last of the towers is 2"):
        drns(stitches={"after": (0, 3), "shared": shared}).network()


@pytest.mark.parametrize("stitch", ["layer", "channel", "searched"])
def test_sharing_needs_stages_of_the_same_channels(stitch, small_tower):
    space = space_of(small_tower, stitch=stitch, stitches={"shared": True})
    with pytest.raises(ManasError, match=r"needs stages of the same channels.*\[8, 12\], \[8, 12, 16\]"):
        Genotype.sample(space, seed=0)


@pytest.mark.parametrize(
    "options",
    [{"start": 0}, {"start": 1.1}, {"after": [-1]}, {"after": [1, 1]}, {"shred": True}, {"after": "all"}],
)
def test_stitches_that_cannot_be(options, small_tower):
    with pytest.raises(ValidationError, match="stitches"):
        space_of(small_tower, stitches=options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (DualRecursive(channels=8, stages=3), r"\[\[4\], \[4\], \[4\]\] and \[\[8\], \[8\], \[8\]\]"),
        (DualRecursive(channels=4, stages=2), r"\[\[4\], \[4\], \[4\]\] and \[\[4\], \[4\]\]"),
    ],
)
def test_recursive_towers_that_do_not_match_are_named_with_both_shapes(other, message):
    towers = {"derain": DualRecursive(channels=4, stages=3), "desnow": other}
    with pytest.raises(ManasError, match=f"'derain' and 'desnow' cannot be stitched.*{message}"):
        RestorationSpace(towers=towers).network()


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("options", [{}, {"shared": True}, {"after": (1,)}])
@pytest.mark.parametrize("fusion", ["mean", "conv", "mask"])
def test_the_global_loss_alone_reaches_every_weight(tasks, options, fusion, randomised):
    network = drns(tasks, fusion=fusion, stitches=options).network()
    randomised(network.fusion)  # whose last layer starts at zero
    clean, image = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    terms = restoration_terms(network(image), clean, torch.tensor([0, 1]), LossWeights(local=0), 1.0)
    assert {name.split("/")[0] for name in terms} == {"global"}
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_the_global_loss_alone_reaches_every_stitch_of_searched_towers(small_tower, randomised):
    space = RestorationSpace(towers={"derain": small_tower, "desnow": small_tower}, stitch="channel")
    network = space.network(Genotype.sample(space, seed=3))
    randomised(network)
    clean, image = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    terms = restoration_terms(network(image), clean, torch.tensor([0, 1]), LossWeights(local=0), 1.0)
    torch.stack(list(terms.values())).sum().backward()
    stitches = dict(network.stitches.named_parameters())
    assert len(stitches) == sum(len(row) for row in network.towers["derain"].channels)
    assert all(matrix.grad.ne(0).all() for matrix in stitches.values())
    for tower in network.towers.values():
        assert all(parameter.grad is not None for parameter in tower.parameters())
        assert sum(parameter.grad.any().item() for parameter in tower.parameters()) > 10


# On the way


def test_what_towers_restore_on_the_way_comes_only_where_it_is_wanted():
    network = drns().network()
    image = torch.rand(1, 3, 6, 6)
    assert network(image).stages == {}
    stages = network(image, stages=True).stages
    assert {task: len(images) for task, images in stages.items()} == {"derain": 3, "desnow": 3}


@pytest.mark.parametrize("wanted", [False, True])
def test_the_head_runs_once_on_the_features_of_a_stage(wanted):
    """Twice would cost twice, and count twice in its running statistics."""
    network, seen = drns().network(), []
    network.towers["derain"].last.register_forward_hook(lambda *_: seen.append(1))
    network(torch.rand(1, 3, 6, 6), stages=wanted)
    assert len(seen) == (2 + 3 if wanted else 2 + 1)  # within the second and the third stage, and after them


@pytest.mark.parametrize("stitch", ["none", "channel"])
def test_the_last_restoration_on_the_way_is_the_towers(stitch, small_tower, randomised):
    space = RestorationSpace(towers={"derain": small_tower, "desnow": small_tower}, stitch=stitch)
    network = randomised(Genotype.sample(space, seed=0).network()).eval()
    with torch.no_grad():
        restoration = network(torch.rand(1, 3, 8, 8), stages=True)
    for task, images in restoration.stages.items():
        assert torch.equal(images[-1], restoration.tasks[task])


def test_a_tower_restores_once_its_features_have_their_last_widths(small_tower):
    tower = Genotype.sample(small_tower, seed=0).network()
    assert list(tower.restoring) == [1]  # (8, 12), then (8, 12, 16)
    assert list(DualRecursive(stages=4).network().restoring) == [0, 1, 2, 3]


# Searching


def test_a_shared_stitch_is_one_decision(randomised):
    space = drns(stitch="searched", stitches={"shared": True})
    assert space.choices() == {"stitch/shared": ("none", "layer", "channel")}
    supernet = randomised(space.supernet())
    image = torch.rand(1, 3, 6, 6)
    for name in ("none", "layer", "channel"):
        choices = {"stitch/shared": name}
        derived = space.inherit(supernet, choices)
        with torch.no_grad(), relaxed_by(supernet, OneHot(choices)):
            torch.testing.assert_close(supernet(image).fused, derived(image).fused, rtol=1e-5, atol=1e-6)


def test_only_the_stitches_that_are_named_are_decisions():
    space = drns(stitch="searched", stitches={"after": (0, 2)})
    assert list(space.choices()) == ["stitch/stage0", "stitch/stage2"]


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
    choices = Genotype.sample(space, seed=4).choices | {
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
    genotypes = {"derain": Genotype.sample(small_tower, seed=0), "desnow": Genotype.sample(small_tower, seed=1)}
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
    whole = assemble({task: Genotype.sample(tower, seed=2) for task, tower in towers.items()})
    assert whole.space.towers == towers
    assert Genotype.from_json(whole.to_json()) == whole


def test_a_lone_genotype_is_assembled_too(small_tower):
    genotype = Genotype.sample(small_tower, seed=0)
    whole = assemble({"derain": genotype})
    assert list(whole.choices.values()) == list(genotype.choices.values())


def test_a_whole_network_is_no_tower(small_genotype):
    with pytest.raises(ManasError, match="'derain' is of a whole network"):
        assemble({"derain": small_genotype})


def test_towers_that_do_not_match_are_not_assembled(small_tower):
    other = small_tower.model_copy(update={"channels": (8, 12, 20)})
    with pytest.raises(ValueError, match="cannot be stitched"):
        assemble({"derain": Genotype.sample(small_tower, seed=0), "desnow": Genotype.sample(other, seed=0)})


@pytest.mark.parametrize(
    ("rows", "places"), [([[4], [4]], [0, 1]), ([[4], [8], [4]], [2]), ([[4], [8], [8]], [1, 2]), ([], [])]
)
def test_a_tower_restores_from_where_on_its_widths_are_the_last(rows, places):
    tower = Tower()
    tower.channels = rows
    assert list(tower.restoring) == places
