"""Towers on the image unshuffled: the two operations, the contract, and that without them nothing is new."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.fx import symbolic_trace

from manas.architecture.choice import choices_of
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.device import place
from manas.restoration.network import RestorationSpace
from search_spaces.dual_recursive import DualRecursive
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive
from search_spaces.shuffle import image_channels, shuffled, unshuffled

factors = pytest.mark.parametrize("factor", [1, 2, 4])


class TestOperations:
    @given(
        factor=st.sampled_from([1, 2, 4]),
        channels=st.integers(1, 4),
        height=st.integers(1, 4),
        width=st.integers(1, 4),
    )
    def test_a_square_of_pixels_becomes_channels_and_comes_back(self, factor, channels, height, width):
        x = torch.rand(2, channels, height * factor, width * factor)
        small = unshuffled(x, factor)
        assert small.shape == (2, channels * factor**2, height, width)
        for channel in range(small.shape[1]):
            c, i, j = channel // factor**2, channel // factor % factor, channel % factor
            assert torch.equal(small[:, channel], x[:, c, i::factor, j::factor])
        assert torch.equal(shuffled(small, factor), x)

    @pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("factor", [2, 4])
    def test_they_are_those_of_torch_and_their_gradients(self, factor, dtype, memory):
        image, features = torch.rand(2, 3, 8, 16), torch.rand(2, 48, 4, 2)
        for ours, theirs, x in (
            (unshuffled, F.pixel_unshuffle, image),
            (shuffled, F.pixel_shuffle, features),
        ):
            x = x.to(dtype, memory_format=memory).requires_grad_()
            mine, other = ours(x, factor), theirs(x, factor)
            assert torch.equal(mine, other)
            weights = torch.rand_like(mine)
            (first,), (second,) = (torch.autograd.grad(y, x, weights) for y in (mine, other))
            assert torch.equal(first, second)

    def test_by_one_there_is_no_operation(self):
        x = torch.rand(1, 3, 4, 4)
        assert unshuffled(x, 1) is x
        assert shuffled(x, 1) is x

    @factors
    def test_an_image_has_three_channels_for_each_pixel_of_a_square(self, factor):
        assert unshuffled(torch.rand(1, 3, 8, 8), factor).shape[1] == image_channels(factor)


def manas(**options):
    fields = {"channels": (8, 12, 16), "columns": (1, 1), "stem": {"blocks": 2, "planes": 6, "expansion": 8}}
    return load_space({"kind": "multi_scale_attentive", **fields, **options})


def drn(**options):
    return DualRecursive(**{"channels": 4, "stages": 2, "recursions": 1, **options})


SPACES = {"manas": manas, "drn": drn}
kinds = pytest.mark.parametrize("kind", SPACES)


def smallest(tower):
    """An image that has one pixel at the coarsest scale in one direction, and two in the other."""
    return torch.rand(2, 3, tower.size_multiple, 2 * tower.size_multiple)


class TestContract:
    @kinds
    @factors
    def test_scale_i_of_the_features_is_at_one_over_factor_times_two_to_the_i(self, kind, factor, randomised):
        tower = randomised(Genotype.sample(SPACES[kind](shuffle=factor), seed=0).network()).eval()
        assert tower.shuffle == factor
        assert tower.size_multiple == factor * {"manas": 4, "drn": 1}[kind]
        image = smallest(tower)
        height, width = image.shape[-2] // factor, image.shape[-1] // factor
        features = tower.stem(image)
        for stage, row in zip(tower.stages(), tower.channels, strict=True):
            features = stage(features, image)
            expected = [(2, wide, height >> scale, width >> scale) for scale, wide in enumerate(row)]
            assert [tuple(x.shape) for x in features] == expected
        restored = tower.head(features, image)
        assert restored.shape == image.shape
        assert torch.equal(restored, tower(image))

    @kinds
    @factors
    def test_every_pixel_is_seen(self, kind, factor, randomised):
        tower = randomised(Genotype.sample(SPACES[kind](shuffle=factor), seed=0).network()).eval().double()
        image = smallest(tower).double().requires_grad_()
        tower(image).square().sum().backward()
        assert image.grad.ne(0).all()

    @factors
    def test_a_residual_tower_starts_as_the_identity_and_learns(self, factor):
        tower = Genotype.sample(manas(shuffle=factor, residual=True), seed=0).network()
        image = smallest(tower)
        restored = tower(image)
        assert torch.equal(restored, image)
        restored.square().sum().backward()
        assert tower.output.weight.grad.ne(0).any(1).all()

    def test_the_stem_needs_no_more_planes_than_before(self):
        """The shortcut takes all channels around the bottleneck, or is the identity where there are as many."""
        narrow = Genotype.sample(
            manas(shuffle=2, stem={"blocks": 1, "planes": 4, "expansion": 4}), seed=0
        ).network()
        assert narrow.bottlenecks[0].shortcut[0].weight.shape == (16, 12, 1, 1)
        equal = Genotype.sample(
            manas(shuffle=2, stem={"blocks": 1, "planes": 3, "expansion": 4}), seed=0
        ).network()
        assert not list(equal.bottlenecks[0].shortcut.parameters())

    @pytest.mark.parametrize("factor", [2, 4])
    def test_a_stage_of_drn_sees_what_the_last_one_restored(self, factor, randomised):
        """x_{s-1} is added up unshuffled; shuffled and unshuffled again it is the same, bit for bit."""
        tower = randomised(drn(shuffle=factor).network())
        image = smallest(tower)
        features = tower.stage([], image)
        seen = []
        tower.first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        tower.stage(features, image)
        both = torch.cat([image, tower.head(features, image)], 1)
        assert torch.equal(seen[0], unshuffled(both, factor))

    @kinds
    @factors
    def test_the_labels_are_those_of_the_supernet_and_of_every_factor(self, kind, factor):
        space = SPACES[kind](shuffle=factor)
        labels = {choice.label: choice.names for choice in choices_of(space.supernet())}
        assert space.choices() == labels == SPACES[kind]().choices()
        assert list(Genotype.sample(space, seed=0).choices) == list(labels)

    @pytest.mark.parametrize("factor", [0, 3, 8, "2", None])
    @pytest.mark.parametrize("space", [MultiScaleAttentive, DualRecursive])
    def test_other_factors_are_refused(self, space, factor):
        with pytest.raises(ValidationError, match="1, 2 or 4"):
            space(shuffle=factor)

    def test_a_network_needs_what_all_of_its_towers_need(self):
        towers = {"derain": drn(shuffle=4), "desnow": manas(shuffle=2)}
        network = Genotype.sample(
            RestorationSpace(towers=towers, stitch="none", fusion="mean"), seed=0
        ).network()
        assert network.size_multiple == 8
        assert network(torch.rand(1, 3, 8, 16)).fused.shape == (1, 3, 8, 16)

    @kinds
    def test_memory_in_channels_last_is_restored(self, kind, randomised):
        """By the first convolution, and by the image that is added; and the values are the same."""
        options = {"residual": True} if kind == "manas" else {}
        tower = randomised(Genotype.sample(SPACES[kind](shuffle=2, **options), seed=0).network()).eval()
        image, last = smallest(tower), place(copy.deepcopy(tower), torch.device("cpu"))
        given = image.contiguous(memory_format=torch.channels_last)
        restored, features = last(given), last.run_stages(last.stem(given), given)
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in [restored, *features])
        torch.testing.assert_close(restored, tower(image), rtol=1e-4, atol=1e-4)


class TestAsPublished:
    """What a space without the option did before there was one."""

    @kinds
    def test_a_genotype_without_the_option_is_read_as_one(self, kind):
        genotype = Genotype.sample(SPACES[kind](), seed=0)
        written = json.loads(genotype.to_json())
        assert written["space"].pop("shuffle") == 1
        assert Genotype.from_json(json.dumps(written)) == genotype

    def test_a_genotype_with_the_option_survives_json(self):
        genotype = Genotype.sample(manas(shuffle=4), seed=0)
        assert Genotype.from_json(genotype.to_json()) == genotype

    @kinds
    def test_every_factor_has_the_same_parameters_but_at_both_ends(self, kind):
        plain, other = (Genotype.sample(SPACES[kind](shuffle=n), seed=0).network().state_dict() for n in (1, 2))
        assert list(plain) == list(other)
        ends = {name for name in plain if plain[name].shape != other[name].shape}
        first = {f"bottlenecks.0.{part}.weight" for part in ("layers.0.0", "shortcut.0")}
        last = {"output.weight"}
        assert ends == (first | last if kind == "manas" else {"first.weight", "last.weight", "last.bias"})

    def test_no_operation_is_new(self):
        def copies(network):
            return sum(node.target == "clone" for node in symbolic_trace(network).graph.nodes)

        assert copies(drn().network()) == 0
        assert copies(drn(shuffle=2).network()) == 2  # the image, in two stages
