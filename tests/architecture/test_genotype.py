"""Genotype files: what was written is read back, and everything else is refused by name."""

import json
import sys

import pytest
from architecture.toy_spaces import NESTED, OwnTower, Plain, Tree
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manas.architecture.finding import load_space
from manas.architecture.genotype import FORMAT, Genotype
from manas.errors import ManasError
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive

MISSING = object()


def changed(genotype, **parts):
    """The JSON text of a genotype with some of its top-level parts replaced, or left out."""
    content = {**json.loads(genotype.to_json()), **parts}
    return json.dumps({key: value for key, value in content.items() if value is not MISSING})


@pytest.fixture(scope="module")
def genotype():
    return Genotype.sample(load_space("manas_tiny"), seed=0)


@pytest.mark.parametrize("preset", ["manas_tiny", "manas_small", "manas", "clearer"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_reading_back_what_was_written_is_equal(preset, seed):
    written = Genotype.sample(load_space(preset), seed)
    text = written.to_json()
    read = Genotype.from_json(text)
    assert read == written
    assert list(read.choices) == list(written.choices)
    assert read.to_json() == text


def test_a_genotype_of_a_whole_network_survives(small_genotype, tmp_path):
    read = Genotype.read(small_genotype.write(tmp_path / "genotype.json"))
    assert read == small_genotype
    assert isinstance(read.space, RestorationSpace)
    assert isinstance(read.space.towers["derain"], MultiScaleAttentive)


def test_the_order_of_towers_survives(small_tower, tmp_path):
    space = RestorationSpace(towers={"snow": small_tower, "fog": small_tower, "rain": small_tower})
    read = Genotype.read(Genotype.sample(space, seed=0).write(tmp_path / "genotype.json"))
    assert list(read.space.towers) == ["snow", "fog", "rain"]


def test_provenance_survives(genotype):
    provenance = {"seed": 3, "psnr": 31.2, "input": [3, 64, 64], "torch": "2.13.0", "note": "é\n", "none": None}
    written = genotype.model_copy(update={"provenance": provenance})
    assert Genotype.from_json(written.to_json()) == written


def test_the_file_is_what_the_design_shows(genotype):
    content = json.loads(genotype.to_json())
    assert list(content) == ["format", "space", "choices", "provenance"]
    assert content["format"] == FORMAT == "manas.genotype/1"
    assert content["space"]["kind"] == "multi_scale_attentive"
    assert content["space"]["channels"] == [32, 48]
    assert content["choices"]["cell0/column0"] in ("parallel", "fusion")


def test_a_genotype_builds_its_network(genotype):
    assert type(genotype.network()).__name__ == "MultiScaleAttentiveTower"


def test_a_genotype_is_frozen(genotype):
    with pytest.raises(ValidationError, match="frozen"):
        genotype.choices = {}


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("Genotype(normal=[('sep_conv_3x3', 0)])", "not valid JSON"),
        ("[1, 2]", f"not a genotype; its 'format' would be '{FORMAT}'"),
        ("null", "not a genotype"),
        ("{}", "not a genotype"),
        ('{"format": "manas.genotype/2"}', "unknown format 'manas.genotype/2'.*'manas.genotype/1'"),
        ('{"format": ["manas.genotype/1"]}', "unknown format"),
    ],
)
def test_text_that_is_no_genotype(text, message):
    with pytest.raises(ManasError, match=message) as error:
        Genotype.from_json(text, where="some/file.json")
    assert str(error.value).startswith("some/file.json: ")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"space": MISSING}, "'space' is missing"),
        ({"choices": MISSING}, "'choices' is missing"),
        ({"alphas": [1.0]}, "unknown key 'alphas'"),
        ({"provenence": {}}, "did you mean 'provenance'"),
        ({"space": {"kind": "multi_scale_atentive"}}, "did you mean 'multi_scale_attentive'"),
        ({"space": {"kind": "multi_scale_attentive", "colums": [1]}}, "did you mean 'columns'"),
        ({"space": "manas_tiny"}, "'kind'"),
        ({"choices": []}, "choices"),
        ({"choices": {"cell0/column0": 1}}, "choices.cell0/column0"),
    ],
)
def test_parts_that_do_not_fit(genotype, parts, message):
    with pytest.raises(ManasError, match=message) as error:
        Genotype.from_json(changed(genotype, **parts), where="file.json")
    assert str(error.value).startswith("file.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell0/column0": None}, "no choice for 'cell0/column0'; add one of: parallel, fusion"),
        ({"cell0/column9": "fusion"}, "no fork 'cell0/column9' is reached.*did you mean 'cell0/column"),
        ({"cell0/column0": "paralel"}, "'cell0/column0' has no candidate 'paralel'; did you mean 'parallel'"),
        (
            {"cell0/branch0/node0/input": "sep_conv_5x5"},
            "'cell0/branch0/node0/input' has no candidate 'sep_conv_5x5'; did you mean 'sep_conv_3x3'",
        ),
    ],
)
def test_choices_that_do_not_fit_the_space(genotype, change, message):
    choices = {label: name for label, name in {**genotype.choices, **change}.items() if name}
    with pytest.raises(ManasError, match=message):
        Genotype.from_json(changed(genotype, choices=choices))
    with pytest.raises(ValidationError, match=message):
        Genotype(space=genotype.space, choices=choices)


def test_a_gate_that_the_space_does_not_offer(genotype):
    space = {**json.loads(genotype.to_json())["space"], "attention": {"gates": ["none", "wavelet"]}}
    with pytest.raises(ManasError, match="unknown gate 'wavelet'"):
        Genotype.from_json(changed(genotype, space=space))
    space["attention"]["gates"] = ["none", "cbam"]
    choices = {
        label: name if "column" in label else "channel_attention" for label, name in genotype.choices.items()
    }
    with pytest.raises(ManasError, match="has no candidate 'channel_attention'; valid: none, cbam"):
        Genotype.from_json(changed(genotype, space=space, choices=choices))


def test_a_genotype_of_another_space(genotype):
    assert (
        Genotype.from_json(genotype.to_json(), space=RestorationSpace) == genotype
    )  # not its kind: not asked for
    with pytest.raises(ManasError, match="of another space"):
        load_space("manas").network(genotype)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ManasError, match="cannot be read"):
        Genotype.read(tmp_path / "missing.json")
    with pytest.raises(ManasError, match="cannot be read"):
        Genotype.read(tmp_path)
    (tmp_path / "pickle.json").write_bytes(b"\x80\x04\x95\xff\xfe")
    with pytest.raises(ManasError, match="not a text file"):
        Genotype.read(tmp_path / "pickle.json")


# Spaces that no entry point names


def test_a_space_of_ones_own_is_read_only_when_it_is_given():
    written = Genotype.sample(NESTED, seed=1)
    assert json.loads(written.to_json())["space"]["kind"] == "architecture.toy_spaces:Tree"
    with pytest.raises(
        ManasError, match="may not name code to import .'architecture.toy_spaces:Tree'.; give the space"
    ):
        Genotype.from_json(written.to_json())
    assert Genotype.from_json(written.to_json(), space=Tree) == written
    with pytest.raises(ManasError, match="may not name code to import .'architecture.toy_spaces:Tree'"):
        Genotype.from_json(written.to_json(), space=Plain)


def test_a_tower_of_ones_own_is_read_when_it_is_given():
    written = Genotype.sample(
        RestorationSpace(towers={"derain": OwnTower(), "desnow": OwnTower(norm="layer")}), seed=1
    )
    with pytest.raises(ManasError, match="may not name code to import"):
        Genotype.from_json(written.to_json())
    assert Genotype.from_json(written.to_json(), space=OwnTower) == written


@pytest.mark.parametrize("path", ["received_code:Space", "os:system", "builtins:eval"])
def test_no_code_is_imported_for_a_file(path, genotype, tmp_path, monkeypatch):
    (tmp_path / "received_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = changed(genotype, space={"kind": path}, choices={})
    with pytest.raises(ManasError, match="may not name code to import"):
        Genotype.from_json(text)
    with pytest.raises(ManasError, match="may not name code to import"):
        Genotype.from_json(text, space=MultiScaleAttentive)
    assert "received_code" not in sys.modules


# Writing


def test_writing_makes_folders_and_leaves_nothing_else(genotype, tmp_path):
    path = genotype.write(tmp_path / "runs" / "one" / "genotype.json")
    assert path.read_text(encoding="utf-8") == genotype.to_json()
    assert [file.name for file in path.parent.iterdir()] == ["genotype.json"]


def test_writing_replaces_the_file(genotype, tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text("x" * 10**5)
    genotype.write(path)
    assert Genotype.read(path) == genotype
    assert [file.name for file in tmp_path.iterdir()] == ["genotype.json"]


def test_a_write_that_fails_leaves_what_was_there(genotype, tmp_path):
    (tmp_path / "genotype.json").mkdir()
    with pytest.raises(OSError, match="genotype.json"):
        genotype.write(tmp_path / "genotype.json")
    assert [file.name for file in tmp_path.iterdir()] == ["genotype.json"]
