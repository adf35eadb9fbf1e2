"""What two genotypes do not have in common: choices by label, fields of the space by dotted name."""

from architecture.toy_spaces import NESTED
from training.tiny_runs import tower

from manas.architecture.difference import difference, fields_of
from manas.architecture.genotype import Genotype
from manas.restoration.network import RestorationSpace

COLUMN = "cell0/column0"


def with_choice(genotype, **choices):
    changed = genotype.choices | {label.replace("__", "/"): name for label, name in choices.items()}
    return genotype.model_copy(update={"choices": changed})


def test_equal_genotypes_do_not_differ():
    a, b = Genotype.sample(tower(), seed=1), Genotype.sample(tower(), seed=1)
    found = difference(a, b.model_copy(update={"provenance": {"seed": 7}}))
    assert not found
    assert (found.choices, found.fields) == ({}, {})
    assert found.labels == len(tower().choices()) == 7


def test_a_choice_that_differs_is_named_with_both_candidates():
    a = with_choice(Genotype.sample(tower(), seed=1), cell0__column0="parallel")
    b = with_choice(a, cell0__column0="fusion")
    assert difference(a, b).choices == {COLUMN: ("parallel", "fusion")}
    assert difference(b, a).choices == {COLUMN: ("fusion", "parallel")}
    assert difference(a, b).fields == {}
    assert difference(a, b)


def test_a_label_that_one_has_alone():
    short = Genotype(space=NESTED, choices={"fork0": "c0", "fork1": "c2"})
    inner = {"fork0/c1/fork0": "c0", "fork0/c1/fork1": "c0"}
    long = Genotype(space=NESTED, choices={"fork0": "c1", **inner, "fork1": "c2"})
    found = difference(short, long)
    assert found.choices == {"fork0": ("c0", "c1"), **{label: (None, name) for label, name in inner.items()}}
    assert found.labels == 4
    assert difference(long, short).choices["fork0/c1/fork1"] == ("c0", None)


def test_fields_of_the_space_differ_without_a_choice():
    a = Genotype.sample(tower(), seed=1)
    b = Genotype(space=tower(norm="layer", channels=[4, 12]), choices=a.choices)
    found = difference(a, b)
    assert found.choices == {}
    assert found.fields == {"channels": ("[4, 8]", "[4, 12]"), "norm": ('"batch"', '"layer"')}
    assert found


def test_fields_are_those_of_spaces_inside_too():
    fields = fields_of(RestorationSpace(towers={"derain": tower()}))
    assert fields["kind"] == '"restoration"'
    assert fields["towers.derain.kind"] == '"multi_scale_attentive"'
    assert fields["towers.derain.attention.groups"] == "2"


def test_a_part_that_only_one_space_has():
    a, b = Genotype.sample(tower(), seed=1), Genotype.sample(tower(attention=None), seed=1)
    fields = difference(a, b).fields
    assert fields["attention"] == (None, "null")
    assert fields["attention.groups"] == ("2", None)
