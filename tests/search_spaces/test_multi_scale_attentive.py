"""The MANAS tower: its contract, its options, its refusals; the bugs of the released code are absent."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import choices_of
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from search_spaces.multi_scale_attentive.gates import (
    BlockAttentionGate,
    ChannelGate,
    ChannelGateV2,
    Constant,
    ConvolutionGate,
    SpatialGate,
)
from search_spaces.multi_scale_attentive.tower import AttentionOptions, MultiScaleAttentive

KINDS = (BlockAttentionGate, ChannelGate, ChannelGateV2, Constant, ConvolutionGate, SpatialGate)


def with_gates(space, default, **gates):
    """All choices of a space: fusion columns, one gate everywhere, others by label with ``__`` for ``/``."""
    choices = {label: "fusion" if "column" in label else default for label in space.choices()}
    return choices | {label.replace("__", "/"): gate for label, gate in gates.items()}


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("size", [(4, 4), (8, 12)])
def test_images_keep_their_shape(norm, size, small_tower):
    space = small_tower.model_copy(update={"norm": norm})
    for network in (space.supernet(), Genotype.sample(space, seed=0).network()):
        image = torch.rand(2, 3, *size)
        assert network.eval()(image).shape == image.shape
        assert network.size_multiple == 4


def test_stages_have_the_widths_that_the_tower_announces(small_tower):
    tower = small_tower.supernet().eval()
    image = torch.rand(2, 3, 16, 8)
    features = tower.stem(image)
    assert [list(row) for row in tower.channels] == [[8, 12], [8, 12, 16]]
    for stage, row in zip(tower.stages(), tower.channels, strict=True):
        features = stage(features, image)
        expected = [(2, width, 16 >> scale, 8 >> scale) for scale, width in enumerate(row)]
        assert [tuple(x.shape) for x in features] == expected
    assert torch.equal(tower.head(features, image), tower(image))


def test_stages_leave_what_they_were_given(small_tower):
    tower = small_tower.supernet().eval()
    image = torch.rand(2, 3, 8, 8)
    features = tower.stem(image)
    for stage in tower.stages():
        tensors, copies = list(features), [x.clone() for x in features]
        after = stage(features, image)
        assert all(x is tensor for x, tensor in zip(features, tensors, strict=True))
        assert all(torch.equal(x, copy) for x, copy in zip(features, copies, strict=True))
        features = after
    copies = [x.clone() for x in features]
    tower.head(features, image)
    assert all(torch.equal(x, copy) for x, copy in zip(features, copies, strict=True))


def test_residual_towers_start_as_the_identity(small_tower):
    space = small_tower.model_copy(update={"residual": True})
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(space.supernet()(image), image)
    assert torch.equal(Genotype.sample(space, seed=0).network()(image), image)
    assert not torch.allclose(small_tower.supernet()(image), image, atol=1e-2)


def test_a_residual_tower_can_learn(small_tower):
    network = Genotype.sample(small_tower.model_copy(update={"residual": True}), seed=0).network()
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    assert network.output.weight.grad.any()


@pytest.mark.parametrize(("norm", "depends"), [("batch", True), ("layer", False), ("none", False)])
def test_only_batch_norm_mixes_the_images_of_a_batch(norm, depends, small_tower):
    network = Genotype.sample(small_tower.model_copy(update={"norm": norm}), seed=0).network().train()
    images = torch.rand(3, 3, 8, 8)
    together, alone = network(images)[:1], network(images[:1])
    assert torch.allclose(together, alone, atol=1e-5) != depends
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == depends


def test_without_attention_there_are_no_gates():
    space = load_space("clearer").model_copy(update={"channels": (8, 12), "columns": (2,)})
    assert list(space.choices()) == ["cell0/column0", "cell0/column1"]
    network = space.supernet()
    assert not any(isinstance(module, KINDS) for module in network.modules())
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)


def test_only_the_chosen_gates_are_built():
    """Released bug B12: there every candidate of every edge is in the derived network."""
    space = MultiScaleAttentive(channels=(8, 12), columns=(1,))
    choices = with_gates(space, "none", cell0__branch1__node1__node0="sep_conv_3x3")
    network = space.network(choices)
    kinds = [type(gate).__name__ for gate in network.modules() if isinstance(gate, KINDS)]
    own = ["ChannelGate", "ChannelGate"]  # of every attention module, chosen or not
    assert sorted(kinds) == sorted(["Constant"] * 5 + ["ConvolutionGate"] + 2 * own)
    assert choices_of(network) == []


def test_every_branch_has_genes_of_its_own():
    """Released bug B4: there one set of genes serves all branches of a cell, and rows of others."""
    space = MultiScaleAttentive(channels=(8, 12, 16), columns=(1, 1))
    edges = [label for label in space.choices() if "branch" in label]
    gates = list(AttentionOptions().gates)
    choices = with_gates(space, "none") | {label: gates[2 + n % 7] for n, label in enumerate(edges)}
    supernet = space.supernet()
    by_label = {choice.label: choice for choice in choices_of(supernet)}
    paths = {choice: path for path, choice in supernet.named_modules()}
    network = space.inherit(supernet, choices)
    for label in edges:
        built, chosen = (
            network.get_submodule(paths[by_label[label]]),
            by_label[label].candidates[choices[label]],
        )
        assert type(built) is type(chosen)
        state = chosen.state_dict()
        assert list(built.state_dict()) == list(state)
        assert all(torch.equal(tensor, state[name]) for name, tensor in built.state_dict().items())


def test_changing_one_gene_changes_one_branch(randomised):
    space = MultiScaleAttentive(channels=(8, 12), columns=(1,))
    supernet = randomised(space.supernet()).eval()
    image = torch.rand(2, 3, 8, 8)

    def features(**gates):
        network = space.inherit(supernet, with_gates(space, "skip_connect", **gates)).eval()
        return network.run_stages(network.stem(image), image)

    before, after = features(), features(cell0__branch1__node0__input="cbam")
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_cells_without_columns():
    space = MultiScaleAttentive(channels=(8, 12, 16), columns=(0, 2))
    assert [label for label in space.choices() if "column" in label] == ["cell1/column0", "cell1/column1"]
    assert space.supernet()(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)


def test_a_subset_of_gates_in_an_order_of_ones_own():
    gates = ("cbam", "none")
    space = MultiScaleAttentive(channels=(8, 12), columns=(1,), attention=AttentionOptions(gates=gates))
    assert space.choices()["cell0/branch0/node0/input"] == gates


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_number_of_edges_follows_the_groups(groups):
    space = MultiScaleAttentive(channels=(8, 12), columns=(0,), attention=AttentionOptions(groups=groups))
    assert len(space.choices()) == 2 * groups * (groups + 1) // 2
    assert space.supernet()(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": (8, 12, 16), "columns": (1,)}, "3 channels need 2 entries in columns .*, not 1"),
        ({"channels": (8, 12), "columns": (1, 1)}, "2 channels need 1 entries in columns .*, not 2"),
        ({"channels": (8,), "columns": ()}, "at least 2"),
        ({"channels": (8, 0), "columns": (1,)}, "channels must be positive"),
        ({"channels": (8, 12), "columns": (-1,)}, "columns not negative"),
        ({"channels": (8, 13), "columns": (1,)}, "13 is not divisible into 2 attention groups"),
        ({"channels": (8, 12), "columns": (1,), "norm": "group"}, "'batch', 'layer' or 'none'"),
        ({"channels": (8, 12), "columns": (1,), "depth": 3}, "depth"),
        ({"channels": (8, 12), "columns": (1,), "stem": {"planes": 0}}, "greater than or equal to 1"),
        (
            {"channels": (8, 12), "columns": (1,), "attention": {"gates": ("chanel_attention",)}},
            "unknown gate 'chanel_attention'; did you mean 'channel_attention",
        ),
        (
            {"channels": (8, 12), "columns": (1,), "attention": {"gates": ("none", "cbam", "none")}},
            "named twice in none, cbam, none",
        ),
        ({"channels": (8, 12), "columns": (1,), "attention": {"gates": ()}}, "at least 1"),
        ({"channels": (8, 12), "columns": (1,), "attention": {"groups": 0}}, "greater than or equal to 1"),
        ({"channels": (8, 12), "columns": (1,), "shuffle": 3}, "1, 2 or 4"),
        (
            {"channels": (8, 12), "columns": (1,), "shuffle": 2, "stem": {"planes": 11, "expansion": 1}},
            "planes x expansion is 11, too few for the 12 channels of an image unshuffled by 2; .* at least 12",
        ),
    ],
)
def test_a_space_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        MultiScaleAttentive(**fields)


def test_any_width_fits_where_there_is_no_attention():
    space = MultiScaleAttentive(channels=(7, 13), columns=(1,), attention=None)
    assert space.supernet()(torch.rand(2, 3, 4, 4)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("shuffle", [1, 2])
def test_torch_compile_sees_one_graph(shuffle):
    space = MultiScaleAttentive(channels=(4, 8), columns=(1,), attention={"groups": 2}, shuffle=shuffle)
    network = space.network(Genotype.sample(space, seed=0)).eval()
    with torch.no_grad():
        explained = torch._dynamo.explain(network)(torch.rand(1, 3, 16, 16))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
