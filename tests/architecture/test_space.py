"""SearchSpace: its size, its labels, its samples, and how it is found, read and refused."""

import sys

import pytest
import torch
import yaml
from architecture.toy_spaces import NESTED, FirstIsFork, OwnTower, Plain, Tree, architectures, labels_of, trees
from hypothesis import given, settings
from pydantic import ValidationError
from torch import nn

from manas.architecture.choice import choices_of
from manas.architecture.decide import Replayed
from manas.architecture.finding import load_space, parse_space, presets, space_class
from manas.architecture.genotype import Genotype
from manas.architecture.registry import kind_of
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive

PRESETS = sorted(presets())


# The tree of forks


@given(trees())
def test_size_is_the_number_of_architectures(space):
    assert space.size() == sum(1 for _ in architectures(space.root))


@given(trees())
def test_choices_are_the_labels_of_the_supernet(space):
    supernet = space.supernet()
    assert space.choices() == {choice.label: choice.names for choice in choices_of(supernet)}
    assert list(space.choices()) == list(labels_of(space.root))


@settings(max_examples=20)
@given(trees(max_architectures=20))
def test_exactly_the_architectures_pass_the_check(space):
    for choices in architectures(space.root):
        space.check(choices)
        assert space.walk(Replayed(lambda label, _, choices=choices: choices[label])) == choices
        for label in choices:
            with pytest.raises(ManasError, match="no choice for"):
                space.check({key: name for key, name in choices.items() if key != label})


@given(trees())
def test_a_sample_names_exactly_what_it_reaches(space):
    found = [Genotype.sample(space, seed).choices for seed in range(3)]
    every = list(architectures(space.root))
    assert all(choices in every for choices in found)


def test_counts_written_out():
    assert NESTED.size() == (1 + 2 * (1 + 2)) * 3 == 21
    assert Plain().size() == 1
    assert Plain().choices() == {}
    assert FirstIsFork().size() == 3
    assert len(NESTED.choices()) == 5


def test_a_choice_that_is_not_reached_is_refused():
    choices = {"fork0": "c0", "fork1": "c0"}
    NESTED.check(choices)
    with pytest.raises(ManasError, match="no fork 'fork0/c1/fork0' is reached"):
        NESTED.check({**choices, "fork0/c1/fork0": "c0"})


@pytest.mark.parametrize("preset", PRESETS)
def test_labels_of_presets_agree(preset):
    space = load_space(preset)
    with torch.device("meta"):
        supernet = space.supernet()
    choices = space.choices()
    assert choices == {choice.label: choice.names for choice in choices_of(supernet)}
    assert all(name in choices[label] for label, name in Genotype.sample(space, seed=0).choices.items())


@pytest.mark.parametrize("preset", ["clearer", "manas", "manas_small", "manas_tiny"])
def test_where_nothing_nests_a_genotype_names_every_label(preset):
    space = load_space(preset)
    assert list(Genotype.sample(space, seed=0).choices) == list(space.choices())


def test_a_sample_is_a_function_of_the_seed():
    space = load_space("manas_tiny")
    assert Genotype.sample(space, seed=7) == Genotype.sample(space, seed=7)
    assert len({tuple(Genotype.sample(space, seed).choices.items()) for seed in range(5)}) == 5


def test_samples_reach_every_candidate():
    found = {tuple(Genotype.sample(FirstIsFork(), seed).choices.items()) for seed in range(40)}
    assert len(found) == FirstIsFork().size()


def test_a_label_asked_for_twice_is_an_error():
    class Twice(SearchSpace):
        def build(self, decide):
            candidates = {"a": nn.Identity, "b": nn.Identity}
            return nn.Sequential(decide("same", candidates), decide("same", candidates))

    with pytest.raises(ManasError, match="'same' twice"):
        Twice().choices()


def test_a_space_without_build_says_so():
    class Empty(SearchSpace):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define build"):
        Empty().supernet()


def test_a_space_without_forks_needs_no_genotype():
    network = Plain().network()
    assert [type(layer).__name__ for layer in network] == ["Conv2d", "ReLU", "Conv2d"]


def test_a_network_of_a_genotype_of_another_space_is_refused():
    genotype = Genotype.sample(load_space("manas_tiny"), seed=0)
    with pytest.raises(ManasError, match="of another space"):
        load_space("manas_small").network(genotype)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (None, "no choice for 'body'; add one of: skip, convolution"),
        ({"body": "convolution"}, "no choice for 'body/size'; add one of: small, large"),
        ({"body": "skip", "body/size": "large"}, "no fork 'body/size' is reached"),
        ({"body": "convolutoin", "body/size": "large"}, "did you mean 'convolution'"),
    ],
)
def test_network_names_the_label_and_what_was_allowed(choices, message):
    with pytest.raises(ManasError, match=message):
        FirstIsFork().network(choices)


# Being a value


def test_a_space_is_frozen():
    space = load_space("manas_tiny")
    with pytest.raises(ValidationError, match="frozen"):
        space.norm = "layer"
    with pytest.raises(ValidationError, match="frozen"):
        space.stem.blocks = 3


def test_spaces_are_equal_when_their_configuration_is():
    assert load_space("manas_tiny") == load_space("manas_tiny")
    assert load_space("manas_tiny") != load_space("manas_small")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_space_survives_yaml(preset, tmp_path):
    space = load_space(preset)
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(space.model_dump(mode="json")))
    assert load_space(file) == space
    assert load_space(str(file)) == space


@given(trees())
def test_a_tree_survives_a_mapping_and_json(space):
    assert load_space(space.model_dump(mode="json")) == space
    assert load_space(yaml.safe_load(yaml.safe_dump(space.model_dump(mode="json")))) == space


# Being found


def test_a_space_by_preset_is_what_its_file_says():
    space = load_space("clearer")
    assert isinstance(space, MultiScaleAttentive)
    assert space.attention is None
    assert space.channels == (32, 64, 128, 256)


def test_a_space_by_itself():
    assert load_space(NESTED) is NESTED


def test_a_space_by_mapping():
    described = {"kind": "multi_scale_attentive", "channels": [16, 24, 32], "columns": [1, 1]}
    assert load_space(described) == MultiScaleAttentive(channels=(16, 24, 32), columns=(1, 1))


def test_a_space_by_mapping_of_mappings_and_presets():
    described = {
        "kind": "restoration",
        "towers": {"derain": "manas_tiny", "desnow": {"kind": "architecture.toy_spaces:OwnTower"}},
    }
    space = load_space(described)
    assert space == RestorationSpace(towers={"derain": load_space("manas_tiny"), "desnow": OwnTower()})


def test_a_space_by_class():
    assert load_space("architecture.toy_spaces:Plain") == Plain()


def test_the_kind_of_a_space():
    assert kind_of(MultiScaleAttentive) == "multi_scale_attentive"
    assert kind_of(RestorationSpace) == "restoration"
    assert kind_of(Tree) == "architecture.toy_spaces:Tree"
    assert space_class("multi_scale_attentive", trusted=False) is MultiScaleAttentive


def test_presets_are_all_spaces():
    assert {"clearer", "manas", "manas_small", "manas_tiny", "plain"} <= set(PRESETS)
    assert all(isinstance(load_space(preset), SearchSpace) for preset in PRESETS)


# Being refused


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("manas_tin", r"no preset 'manas_tin' is installed; did you mean 'manas_tiny'\?"),
        ("", "no preset ''"),
        ("no/such/file.yaml", r"no/such/file\.yaml: cannot be read"),
        ("no_such_package.module:Space", "cannot import the space 'no_such_package.module:Space'"),
        ("architecture.toy_spaces:Missing", "cannot import the space 'architecture.toy_spaces:Missing'"),
        (":Space", "cannot import the space ':Space'"),
        (".relative:Space", "cannot import the space '.relative:Space'"),
        ("architecture.toy_spaces:BlockModule", "is no SearchSpace"),
        ("architecture.toy_spaces:architectures", "is no SearchSpace"),
        ("architecture.toy_spaces:NESTED", "is no SearchSpace"),
        ("architecture.toy_spaces:Tree", "'root' is missing"),
        ({"channels": [8, 16]}, "'kind'"),
        ({"kind": 3}, "'kind'"),
        ({"kind": "multi_scale_atentive"}, r"did you mean 'multi_scale_attentive'\?"),
        (
            {"kind": "multi_scale_attentive", "chanels": [8, 16]},
            r"unknown key 'chanels'; did you mean 'channels'\?",
        ),
        (
            {"kind": "multi_scale_attentive", "attention": {"gate": ["none"]}},
            r"unknown key 'attention.gate'; did you mean 'gates'\?",
        ),
        ({"kind": "multi_scale_attentive", "norm": "bach"}, r"norm: .*'batch'.*given: 'bach'"),
        ({"kind": "multi_scale_attentive", "stem": {"blocks": 0}}, "stem.blocks: .*greater than or equal to 1"),
        ({"kind": "restoration"}, "'towers' is missing"),
        ({"kind": "restoration", "towers": {}}, "towers"),
        (
            {"kind": "restoration", "towers": {"derain": "manas_tin"}},
            r"towers.derain: .*did you mean 'manas_tiny'\?",
        ),
        (
            {"kind": "restoration", "towers": {"derain": {"kind": "multi_scale_attentive", "chanels": []}}},
            r"towers.derain: .*unknown key 'chanels'; did you mean 'channels'\?",
        ),
    ],
)
def test_a_bad_reference_is_named_with_a_hint(reference, message):
    with pytest.raises(ManasError, match=message) as error:
        load_space(reference)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "not valid YAML"),
        ("- a\n- b\n", "mapping with its 'kind'"),
        ("", "mapping with its 'kind'"),
        ("kind: multi_scale_attentive\nchanels: [8, 16]\n", "unknown key 'chanels'"),
        ("kind: multi_scale_attentive\n1: 2\n", "1"),
    ],
)
def test_a_bad_file_is_named(text, message, tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ManasError, match=message) as error:
        load_space(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_bytes(b"\xff\xfe\x00kind")
    with pytest.raises(ManasError, match="not valid YAML"):
        load_space(file)


@pytest.fixture
def code_elsewhere(tmp_path, monkeypatch):
    """A module that must not be imported, as ``package.module:Class``."""
    (tmp_path / "received_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "received_code:Space"
    assert "received_code" not in sys.modules


@pytest.mark.parametrize(
    "wrap",
    [
        lambda kind: {"kind": kind},
        lambda kind: {"kind": "restoration", "towers": {"derain": {"kind": kind}}},
        lambda kind: {"kind": "restoration", "towers": {"derain": kind}},
        lambda kind: {
            "kind": "restoration",
            "towers": {"derain": {"kind": "restoration", "towers": {"inner": {"kind": kind}}}},
        },
    ],
    ids=["itself", "tower", "tower by name", "tower of a tower"],
)
def test_a_received_mapping_imports_no_code(wrap, code_elsewhere):
    with pytest.raises(ManasError, match="received|kind"):
        parse_space(wrap(code_elsewhere), trusted=False)
    with pytest.raises(ValueError, match="received|kind"):
        Genotype.model_validate({"space": wrap(code_elsewhere), "choices": {}})


def test_a_received_mapping_reads_no_file(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("kind: multi_scale_attentive\n")
    described = {"kind": "restoration", "towers": {"derain": str(file)}}
    assert isinstance(parse_space(described, trusted=True), RestorationSpace)
    with pytest.raises(ManasError, match="'kind'"):
        parse_space(described, trusted=False)


def test_a_received_mapping_may_name_an_installed_space():
    described = {"kind": "restoration", "towers": {"derain": {"kind": "multi_scale_attentive"}}}
    assert parse_space(described, trusted=False) == RestorationSpace(towers={"derain": MultiScaleAttentive()})
