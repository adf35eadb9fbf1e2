"""Model files: what was saved is loaded bit for bit, and everything else is refused by name."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from manas.architecture.genotype import Genotype
from manas.errors import ManasError
from manas.restoration.model_file import (
    ModelDescription,
    load_model,
    network_of,
    read_description,
    save_model,
)
from manas.restoration.network import RestorationSpace
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive


class OwnTower(MultiScaleAttentive):
    """A user's own space, which no entry point names."""

    channels: tuple[int, ...] = (8, 12)
    columns: tuple[int, ...] = (1,)


@pytest.fixture
def description(small_genotype):
    training = {"steps": 100, "seed": 0, "psnr": 31.25, "versions": {"torch": "2.13.0"}}
    degradations = {"derain": ["light", "heavy"], "desnow": ["medium"]}
    return ModelDescription(genotype=small_genotype, training=training, degradations=degradations)


@pytest.fixture
def network(description, randomised):
    return randomised(description.genotype.network())


@pytest.fixture
def saved(tmp_path, network, description):
    return save_model(tmp_path / "model.safetensors", network, description)


def rewritten(path, **metadata):
    """The file with other metadata."""
    save_file(load_file(path), path, metadata=metadata)
    return path


def described(description, **parts):
    return json.dumps({**description.model_dump(mode="json"), **parts})


def test_weights_survive_bit_for_bit(saved, network):
    loaded, _ = load_model(saved)
    state = network.state_dict()
    assert list(loaded.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert all(tensor.dtype == state[name].dtype for name, tensor in loaded.state_dict().items())


def test_a_loaded_network_restores_alike(saved, network):
    loaded, _ = load_model(saved)
    assert not loaded.training
    image = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected, restored = network.eval()(image), loaded(image)
    assert torch.equal(restored.fused, expected.fused)
    assert all(torch.equal(restored.tasks[task], expected.tasks[task]) for task in expected.tasks)


def test_the_description_survives(saved, description):
    assert read_description(saved) == description
    assert load_model(saved)[1] == description


def test_the_same_model_is_the_same_bytes(saved, network, description, tmp_path):
    again = [save_model(tmp_path / f"again{n}.safetensors", network, description) for n in range(3)]
    assert all(path.read_bytes() == saved.read_bytes() for path in again)


def test_a_loaded_model_saves_to_the_same_bytes(saved, tmp_path):
    again = save_model(tmp_path / "again.safetensors", *load_model(saved))
    assert again.read_bytes() == saved.read_bytes()


def test_saving_makes_folders_and_leaves_nothing_else(network, description, tmp_path):
    path = save_model(tmp_path / "runs" / "one" / "model.safetensors", network, description)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_saving_leaves_the_network_as_it_was(network, description, tmp_path):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_model(tmp_path / "model.safetensors", network, description)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_weights_in_another_memory_order_are_saved(network, description, saved, tmp_path):
    path = save_model(tmp_path / "last.safetensors", network.to(memory_format=torch.channels_last), description)
    assert path.read_bytes() == saved.read_bytes()


def test_a_save_that_fails_leaves_what_was_there(network, description, tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="model.safetensors"):
        save_model(tmp_path / "model.safetensors", network, description)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_lone_tower(small_tower, tmp_path):
    genotype = Genotype.sample(RestorationSpace(towers={"derain": small_tower}), seed=0)
    path = save_model(tmp_path / "m.safetensors", genotype.network(), ModelDescription(genotype=genotype))
    network, description = load_model(path)
    assert description.genotype == genotype
    assert list(network(torch.rand(1, 3, 8, 8)).tasks) == ["derain"]


def test_a_run_directory_stands_for_the_model_in_it(saved, network, description):
    loaded, read = load_model(saved.parent)
    assert read == description == read_description(str(saved.parent))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in loaded.state_dict().items())


# Errors


def test_a_missing_file(tmp_path):
    with pytest.raises(ManasError, match="missing.safetensors: no such file"):
        load_model(tmp_path / "missing.safetensors")
    with pytest.raises(
        ManasError, match=r"model\.safetensors: no such file; give .* its run directory, or the name"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 64])
def test_a_file_that_is_no_safetensors(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ManasError, match="model.safetensors: not a model file"):
        load_model(path)


def test_a_file_cut_short(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ManasError, match="not a model file"):
        load_model(saved)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}])
def test_a_safetensors_file_without_description(metadata, saved):
    with pytest.raises(ManasError, match="without a manas description"):
        load_model(rewritten(saved, **metadata))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not JSON", "unknown format None"),
        ("[]", "unknown format None"),
        ("{}", "unknown format None"),
        ('{"format": "manas.model/2"}', "unknown format 'manas.model/2'; this version reads 'manas.model/1'"),
        ('{"format": "manas.model/1"}', "not a genotype"),
        ('{"format": "manas.model/1", "genotype": []}', "not a genotype"),
        (
            '{"format": "manas.model/1", "genotype": {"format": "manas.genotype/9"}}',
            "unknown format 'manas.gen",
        ),
    ],
)
def test_a_description_that_is_none(text, message, saved):
    with pytest.raises(ManasError, match=message) as error:
        load_model(rewritten(saved, manas=text))
    assert str(saved) in str(error.value)


def test_a_description_with_unknown_parts(saved, description):
    with pytest.raises(ManasError, match="unknown key 'trainning'; did you mean 'training'"):
        load_model(rewritten(saved, manas=described(description, trainning={})))


def test_weights_of_another_architecture(saved, description, small_network):
    other = Genotype.sample(small_network, seed=11)
    assert other.choices != description.genotype.choices
    text = described(description, genotype=json.loads(other.to_json()))
    with pytest.raises(ManasError, match="model.safetensors: the weights do not fit the genotype"):
        load_model(rewritten(saved, manas=text))


def test_weights_that_are_missing(saved, description):
    tensors = load_file(saved)
    tensors.pop("towers.derain.output.weight")
    save_file(tensors, saved, metadata={"manas": described(description)})
    with pytest.raises(ManasError, match="do not fit.*towers.derain.output.weight"):
        load_model(saved)


def test_weights_of_another_shape(saved, description):
    tensors = load_file(saved) | {"towers.derain.output.weight": torch.zeros(3, 9, 1, 1)}
    save_file(tensors, saved, metadata={"manas": described(description)})
    with pytest.raises(ManasError, match="do not fit.*towers.derain.output.weight"):
        load_model(saved)


@pytest.mark.parametrize("where", ["network", "tower"])
def test_a_genotype_that_names_code_is_refused(where, saved, description, tmp_path, monkeypatch):
    (tmp_path / "received_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    genotype = json.loads(description.genotype.to_json())
    if where == "network":
        genotype["space"] = {"kind": "received_code:Space"}
    else:
        genotype["space"]["towers"]["derain"]["kind"] = "received_code:Space"
    text = described(description, genotype=genotype)
    with pytest.raises(ManasError, match="may not name code to import"):
        load_model(rewritten(saved, manas=text))
    assert "received_code" not in sys.modules


def test_a_tower_of_ones_own_is_loaded_when_it_is_given(tmp_path):
    genotype = Genotype.sample(RestorationSpace(towers={"derain": OwnTower()}), seed=0)
    path = save_model(tmp_path / "m.safetensors", genotype.network(), ModelDescription(genotype=genotype))
    with pytest.raises(ManasError, match="may not name code to import"):
        load_model(path)
    assert load_model(path, space=OwnTower)[1].genotype == genotype


class TestTheTensorsAlone:
    """What a loader has that hands on the tensors of a file without its metadata."""

    def test_are_enough(self, saved, network, description):
        loaded, genotype = network_of(load_file(saved))
        assert genotype == description.genotype
        assert not loaded.training
        torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)

    def test_in_half_precision(self, saved, network):
        state = {name: tensor.half() for name, tensor in load_file(saved).items()}  # the genotype's bytes, too
        loaded, _ = network_of(state)
        torch.testing.assert_close(loaded.state_dict(), network.state_dict(), atol=1e-2, rtol=1e-2)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda state: state.pop("genotype"), "no tensor 'genotype'; give the tensors of a model file"),
            (lambda state: state.update(genotype=torch.zeros(9, dtype=torch.uint8)), "genotype"),
            (lambda state: state.pop(next(n for n in state if "weight" in n)), "do not fit the genotype"),
        ],
    )
    def test_that_are_not_of_a_model(self, saved, change, said):
        state = load_file(saved)
        change(state)
        with pytest.raises(ManasError, match=said):
            network_of(state, where="upload")
