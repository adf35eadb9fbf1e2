"""Weights of other programs: out of their wrappers, under their names, or refused with every difference."""

import subprocess
from collections import OrderedDict

import pytest
import torch

import manas
from manas.errors import ManasError
from manas.foreign.weights import WRAPPERS, import_weights
from search_spaces.dual_recursive import RELEASED, DualRecursive

SPACE = DualRecursive(channels=4, stages=2, recursions=2)


def released(space=SPACE) -> OrderedDict:
    """The weights of a new network under the names of the authors' code."""
    torch.manual_seed(0)
    theirs = {ours: name for name, ours in RELEASED.items()}
    state = space.network().state_dict()
    return OrderedDict((f"{theirs[n.rpartition('.')[0]]}.{n.rpartition('.')[2]}", v) for n, v in state.items())


@pytest.mark.parametrize("wrapper", [None, *WRAPPERS])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_weights_come_out_of_wrappers_and_prefixes(tmp_path, wrapper, prefix):
    state = OrderedDict((prefix + name, value) for name, value in released().items())
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "net.pth")
    path = import_weights(tmp_path / "net.pth", tmp_path / "model.safetensors", SPACE, "derain")
    restorer = manas.Restorer.load(path)
    image = torch.rand(1, 3, 9, 7)
    expected = SPACE.network()
    expected.load_state_dict(SPACE.renamed(released()))
    torch.testing.assert_close(restorer(image), expected.eval()(image).detach().clamp(0, 1), atol=1e-6, rtol=0)
    assert restorer.description.training["imported_from"] == "net.pth"


def test_own_names_do_as_well(tmp_path):
    torch.save(SPACE.network().state_dict(), tmp_path / "net.pth")
    assert import_weights(tmp_path / "net.pth", tmp_path / "model.safetensors", SPACE, "desnow").is_file()


def test_every_difference_is_told(tmp_path):
    state = released()
    state["conv9.weight"] = state.pop("conv.0.bias")
    state["conv0.0.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ManasError) as error:
        import_weights(tmp_path / "net.pth", tmp_path / "model.safetensors", SPACE, "derain")
    for part in (
        "last.bias is missing",
        "conv9.weight is not of this network",
        "first.bias has the shape (5,)",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("content", [{"epoch": 3}, {"state_dict": {}}, {}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ManasError, match=r"net\.pth: holds no weights by name"):
        import_weights(tmp_path / "net.pth", tmp_path / "model.safetensors", SPACE, "derain")


def test_code_in_a_file_is_refused(tmp_path):
    torch.save(subprocess.Popen, tmp_path / "net.pth")
    with pytest.raises(ManasError, match="would run code"):
        import_weights(tmp_path / "net.pth", tmp_path / "model.safetensors", SPACE, "derain")


@pytest.mark.parametrize("name", ["manas_tiny", "cmudrn"])
def test_a_space_that_is_no_finished_tower_is_refused(tmp_path, name):
    with pytest.raises(ManasError, match="one tower without open choices"):
        import_weights(tmp_path / "none", tmp_path / "model.safetensors", manas.load_space(name), "derain")
