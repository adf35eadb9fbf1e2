"""The health of a search: entropy and shares by hand."""

import math

import pytest
import torch
from architecture.toy_spaces import NESTED
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from manas.architecture.choice import Choice, choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.relaxations.softmax import Softmax
from manas.searching.health import (
    Health,
    Tally,
    entropy_by_group,
    group_name,
    group_tags,
    shares_by_group,
    tally,
)
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


def choice(label, probabilities, names=None):
    """A choice whose softmax gives these probabilities."""
    names = names or [f"c{k}" for k in range(len(probabilities))]
    made = Choice(label, {name: nn.Identity() for name in names}, Softmax())
    made.alpha = nn.Parameter(torch.tensor(probabilities).log())
    return made


class TestTags:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (("a",), "a"),
            (("parallel", "fusion"), "parallel+fusion"),
            (("none", "layer", "channel"), "none+layer+channel"),
            (("a", "b", "c", "d"), "a+..+d_4"),
            (("none", *(f"c{k}" for k in range(7)), "cbam"), "none+..+cbam_9"),
        ],
    )
    def test_of_one_group(self, names, expected):
        assert group_name(names) == expected

    def test_groups_that_would_be_called_alike_have_all_their_names(self):
        groups = [("a", "b", "c", "d"), ("a", "x", "y", "d"), ("a", "b", "c", "e"), ("a", "b")]
        network = nn.ModuleList(choice("f", [1 / len(names)] * len(names), names) for names in groups)
        assert list(group_tags(network).values()) == ["a+b+c+d", "a+x+y+d", "a+..+e_4", "a+b"]

    @given(
        st.lists(
            st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
            .flatmap(lambda some: st.permutations([*some, "y", "z"]))
            .map(tuple),
            max_size=6,
            unique=True,
        )
    )
    def test_they_are_unique(self, groups):
        network = nn.ModuleList(choice("f", [1 / len(names)] * len(names), names) for names in groups)
        tags = group_tags(network)
        assert set(tags) == set(groups)
        assert len(set(tags.values())) == len(groups)


class TestEntropy:
    def test_is_the_formula(self):
        shares = [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]
        network = nn.ModuleList([choice("x", shares[0]), choice("y", shares[1]), choice("z", [0.9, 0.1])])
        of_three = sum(-p * math.log(p) for each in shares for p in each) / 2 / math.log(3)
        of_two = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
        assert entropy_by_group(network) == {
            "c0+c1+c2": pytest.approx(of_three, rel=1e-5),
            "c0+c1": pytest.approx(of_two, rel=1e-5),
        }

    @pytest.mark.parametrize("candidates", [2, 3, 9])
    def test_from_undecided_to_decided(self, candidates):
        made = choice("x", [1 / candidates] * candidates)
        found = []
        for sharpness in (0, 1, 3, 10, 1e4):
            with torch.no_grad():
                made.alpha.copy_(sharpness * torch.arange(candidates))
            found += entropy_by_group(made).values()
        assert found[0] == pytest.approx(1)
        assert found == sorted(found, reverse=True)
        assert found[-1] == 0

    def test_rounding_takes_it_beyond_no_limit(self):
        for candidates in range(2, 60):
            (value,) = entropy_by_group(choice("x", [1 / candidates] * candidates)).values()
            assert 1 - 1e-5 < value <= 1

    @given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=2), min_size=1, max_size=5))
    def test_is_a_share(self, alphas):
        network = nn.ModuleList(choice("x", [0.5, 0.5]) for _ in alphas)
        for made, values in zip(network, alphas, strict=True):
            made.alpha = nn.Parameter(torch.tensor(values))
        assert all(0 <= value <= 1 for value in entropy_by_group(network).values())

    def test_one_candidate_has_nothing_to_decide(self):
        network = nn.ModuleList([choice("x", [1.0]), choice("y", [0.5, 0.5])])
        assert list(entropy_by_group(network)) == ["c0+c1"]

    def test_of_a_derived_network_is_zero(self):
        network = NESTED.supernet()
        with relaxed_by(network, OneHot(Genotype.sample(NESTED, seed=1).choices)):
            assert set(entropy_by_group(network).values()) == {0.0}


def test_shares_are_means_over_the_group():
    network = nn.ModuleList([choice("x", [0.7, 0.3]), choice("y", [0.1, 0.9]), choice("z", [0.2, 0.3, 0.5])])
    shares = shares_by_group(network)
    assert shares == {
        "c0+c1": pytest.approx({"c0": 0.4, "c1": 0.6}),
        "c0+c1+c2": pytest.approx({"c0": 0.2, "c1": 0.3, "c2": 0.5}),
    }


class TestTally:
    CANDIDATES = {
        "a": ("none", "skip_connect", "conv"),
        "b": ("nothing", "skip_connect", "conv"),
        "c": ("skip_connect", "conv"),
        "d": ("parallel", "fusion"),
        "fixed": ("skip_connect",),
        "a/inside": ("none", "skip_connect", "conv"),
        "stitch": ("none", "layer"),
    }
    SKIPS = dict.fromkeys(("a", "b", "c", "fixed", "a/inside"), "skip_connect")
    ZEROS = {"a": "none", "b": "nothing", "a/inside": "none"}
    PATH = {"a": "skip_connect", "b": "nothing", "c": "skip_connect", "d": "fusion", "fixed": "skip_connect"}
    PATH |= {"stitch": "none"}  # the identity

    def test_counts_the_forks_on_the_path_that_offer_it(self):
        skips, zeros = (tally(sought, self.PATH, self.CANDIDATES) for sought in (self.SKIPS, self.ZEROS))
        assert (skips.chosen, skips.offered) == (2, 3)
        assert skips.chance == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
        assert skips.share == pytest.approx(2 / 3)
        assert (zeros.chosen, zeros.offered, zeros.chance) == (1, 2, pytest.approx(1 / 3))

    @pytest.mark.parametrize("path", [{}, {"d": "fusion"}, {"fixed": "skip_connect"}], ids=str)
    def test_where_no_fork_offers_it(self, path):
        assert tally(self.SKIPS, path, self.CANDIDATES) == Tally(0, 0, 0)
        assert tally(self.SKIPS, path, self.CANDIDATES).share is None

    def test_chance_is_the_mean_share_of_random_architectures(self):
        candidates = NESTED.choices()
        sought = {label: "c1" for label, names in candidates.items() if "c1" in names}
        drawn = [tally(sought, Genotype.sample(NESTED, seed).choices, candidates) for seed in range(400)]
        expected = sum(each.chance * each.offered for each in drawn)
        assert sum(each.chosen for each in drawn) == pytest.approx(expected, rel=0.1)


class TestHealth:
    ONE = Health(3, 30.5, 28.0, {"a+b": 0.5}, Tally(1, 4, 0.25), Tally(0, 0, 0.0), 0.01, None)

    def test_what_follows_from_it(self):
        assert (self.ONE.gap, self.ONE.skip_share, self.ONE.zero_share) == (2.5, 0.25, None)

    def test_survives_a_checkpoint(self, tmp_path):
        save_checkpoint(tmp_path / "c.pt", ALONE, {"history": [self.ONE.to_dict()]})
        (read,) = load_checkpoint(tmp_path / "c.pt", ALONE)["history"]
        assert Health.from_dict(read) == self.ONE

    def test_is_read_as_earlier_versions_wrote_it(self):
        values = self.ONE.to_dict()
        values["nones"] = values.pop("zeros")
        assert Health.from_dict(values) == self.ONE


def test_the_choices_of_a_network_are_measured_wherever_they_stand():
    network = NESTED.supernet()
    tags = group_tags(network)
    assert set(entropy_by_group(network)) == set(tags.values()) == {"c0+c1", "c0+c1+c2"}
    expected = [made.probabilities()[1] for made in choices_of(network) if len(made.names) == 2]
    assert len(expected) == 4
    mean = sum(p.item() for p in expected) / 4
    assert shares_by_group(network)["c0+c1"]["c1"] == pytest.approx(mean)
