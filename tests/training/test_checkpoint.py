"""Checkpoints: whole or not there, readable without running code, random states included."""

import pickle
import random

import pytest
import torch

from manas.errors import ManasError
from manas.training import checkpoint as module
from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


@pytest.fixture
def python_random():
    before = random.getstate()
    yield
    random.setstate(before)


STATE = {"kind": "search", "step": 3, "network": {"weight": torch.arange(6.0).reshape(2, 3)}, "best": 1.5}


def test_round_trip(path):
    save_checkpoint(path, ALONE, STATE)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("network")["weight"], STATE["network"]["weight"])
    assert {key: loaded[key] for key in ("kind", "step", "best")} == {"kind": "search", "step": 3, "best": 1.5}


def test_random_states_are_restored(path, python_random):
    torch.manual_seed(1)
    random.seed(1)
    save_checkpoint(path, ALONE, STATE)
    expected = torch.rand(3), random.random()
    torch.manual_seed(2)
    random.seed(2)
    load_checkpoint(path)  # without a process: nothing is touched
    assert not torch.equal(torch.rand(3), expected[0])
    load_checkpoint(path, ALONE)
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]


def test_a_failure_while_writing_leaves_the_old_one(path, monkeypatch):
    save_checkpoint(path, ALONE, STATE)
    before = path.read_bytes()

    def torn(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module.torch, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, ALONE, STATE | {"step": 4})
    assert path.read_bytes() == before
    assert load_checkpoint(path)["step"] == 3


def test_nothing_but_the_checkpoint_is_left(path):
    save_checkpoint(path, ALONE, STATE)
    save_checkpoint(path, ALONE, STATE)
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.pt"]


class Calls:
    """Unpickled, it runs code."""

    def __reduce__(self):
        return print, ("it ran",)


def test_code_is_not_run(path, capsys):
    torch.save({"format": module.FORMAT, "step": Calls()}, path)
    with pytest.raises(ManasError, match="not a checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Calls(), protocol=2))
    with pytest.raises(ManasError, match="not a checkpoint"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_named(path):
    with pytest.raises(ManasError, match=r"checkpoint\.pt: no such file; give"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"step": 1}, {"format": "manas.checkpoint/9"}, [1], torch.zeros(2)], ids=str
)
def test_another_format_is_named(content, path):
    torch.save(content, path)
    with pytest.raises(
        ManasError, match=r"checkpoint\.pt: not a checkpoint of this version \(manas.checkpoint/1\)"
    ):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about what it finds in noise
def test_damage_anywhere_is_an_error_of_ours(path):
    """Cut at any place, or with noise in any place: never another exception."""
    save_checkpoint(path, ALONE, STATE)
    whole = path.read_bytes()
    generator = random.Random(0)
    damaged = [whole[: len(whole) * part // 20] for part in range(20)]
    for _ in range(60):
        place = generator.randrange(len(whole) - 8)
        damaged.append(whole[:place] + generator.randbytes(8) + whole[place + 8 :])
    damaged += [generator.randbytes(generator.randrange(1, 200)) for _ in range(100)]
    messages = []
    for content in damaged:
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except ManasError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(str(path)) for message in messages)
