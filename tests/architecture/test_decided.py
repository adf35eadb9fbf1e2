"""A genotype where a space is expected: no forks, the network of the genotype, and one tower that is given."""

import json

import pytest
import torch
from pydantic import ValidationError

from manas.architecture.choice import architecture_parameters, choices_of, relaxed_by
from manas.architecture.decided import Decided
from manas.architecture.finding import load_space, parse_space
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.errors import ManasError
from manas.files import read_yaml
from manas.restoration.network import RestorationSpace, tasks_of


@pytest.fixture
def genotype(small_tower):
    return Genotype.sample(small_tower, seed=5)


@pytest.fixture
def decided(genotype):
    return Decided(space=genotype.space, chosen=genotype.choices)


@pytest.fixture
def network(small_tower, decided):
    """One tower is searched, the other one given; so are the stitches."""
    return RestorationSpace(towers={"derain": small_tower, "desnow": decided}, stitch="searched")


def test_it_has_no_forks(decided):
    assert decided.choices() == {}
    assert decided.size() == 1
    assert choices_of(decided.supernet()) == []
    assert Genotype.sample(decided, seed=0).choices == {}


def test_it_builds_the_network_of_the_genotype(decided, genotype, randomised):
    given, expected = randomised(decided.network()).eval(), genotype.network().eval()
    expected.load_state_dict(given.state_dict(), strict=True)
    image = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        assert torch.equal(given(image), expected(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda chosen: chosen.popitem(), "no choice for"),
        (
            lambda chosen: chosen.update(dict.fromkeys(list(chosen)[:1], "nothing")),
            "has no candidate 'nothing'",
        ),
        (lambda chosen: chosen.update(more="none"), "no fork 'more' is reached"),
    ],
)
def test_what_is_no_path_through_the_space_is_refused(change, message, genotype):
    chosen = dict(genotype.choices)
    change(chosen)
    with pytest.raises(ValidationError, match=message):
        Decided(space=genotype.space, chosen=chosen)


def test_only_the_other_tower_is_searched(network, small_tower):
    labels = [f"derain/{label}" for label in small_tower.choices()]
    assert list(network.choices()) == [*labels, "stitch/stage0", "stitch/stage1"]
    assert tasks_of(network) == ("derain", "desnow")
    assert len(architecture_parameters(network.supernet())) == len(labels) + 2


def test_the_supernet_is_the_derived_network(network, randomised):
    supernet = randomised(network.supernet()).eval()
    genotype = Genotype.sample(network, seed=2)
    derived = network.inherit(supernet, genotype).eval()
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), relaxed_by(supernet, OneHot(genotype.choices)):
        torch.testing.assert_close(derived(image).fused, supernet(image).fused, rtol=0, atol=1e-6)


def test_a_genotype_with_a_given_tower_survives_json(network, tmp_path):
    genotype = Genotype.sample(network, seed=0)
    read = Genotype.read(genotype.write(tmp_path / "genotype.json"))
    assert read == genotype
    assert isinstance(read.space.towers["desnow"], Decided)
    assert {k: v.shape for k, v in read.network().state_dict().items()} == {
        k: v.shape for k, v in genotype.network().state_dict().items()
    }


def test_a_received_file_with_other_choices_is_refused(network, tmp_path):
    path = Genotype.sample(network, seed=0).write(tmp_path / "genotype.json")
    content = json.loads(path.read_text())
    chosen = content["space"]["towers"]["desnow"]["chosen"]
    chosen[next(iter(chosen))] = "nothing"
    path.write_text(json.dumps(content))
    with pytest.raises(ManasError, match="has no candidate 'nothing'"):
        Genotype.read(path)


def test_a_path_stands_for_it_in_a_file_that_a_user_wrote(small_tower, decided, genotype, tmp_path):
    path = genotype.write(tmp_path / "snow.json")
    file = tmp_path / "space.yaml"
    derain = json.dumps(small_tower.model_dump(mode="json"))
    file.write_text(f"kind: restoration\ntowers: {{derain: {derain}, desnow: {path}}}\nstitch: layer\n")
    space = load_space(file)
    assert space.towers == {"derain": small_tower, "desnow": decided}
    assert load_space(read_yaml(file, "file")) == space


def test_its_file_may_be_named(small_tower, decided, genotype, tmp_path):
    path = str(genotype.write(tmp_path / "snow.json"))
    assert load_space({"kind": "decided", "genotype": path}) == decided
    for more in ({"genotype": 3}, {"genotype": path, "chosen": genotype.choices}):
        with pytest.raises(ManasError, match="'space' is missing"):
            load_space({"kind": "decided", **more})


@pytest.mark.parametrize("wrap", [lambda of: of, lambda of: {"kind": "restoration", "towers": {"desnow": of}}])
def test_a_received_file_does_not_name_another(wrap, genotype, tmp_path):
    path = str(genotype.write(tmp_path / "snow.json"))
    with pytest.raises(ManasError, match="may not name another to read"):
        parse_space(wrap({"kind": "decided", "genotype": path}), trusted=False)


def test_a_received_file_reads_no_other(genotype, tmp_path):
    path = str(genotype.write(tmp_path / "snow.json"))
    with pytest.raises(ManasError, match="mapping with its 'kind'"):
        parse_space({"kind": "restoration", "towers": {"desnow": path}}, trusted=False)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ManasError, match="absent.json"):
        load_space({"kind": "restoration", "towers": {"desnow": str(tmp_path / "absent.json")}})


def test_the_genotype_of_a_whole_network_is_no_tower(small_genotype, tmp_path):
    path = str(small_genotype.write(tmp_path / "whole.json"))
    space = load_space({"kind": "restoration", "towers": {"desnow": path}})
    with pytest.raises(ManasError, match="'desnow' builds a RestorationNetwork, which is no Tower"):
        space.network()
