"""The run directory: what begins, what is refused, what is removed."""

import json

import pytest
import torch
import yaml
from pydantic import BaseModel

from manas.errors import ManasError
from manas.training.distributed import Process
from manas.training.run import WRITTEN, RunDirectory

ALONE = Process(0, 1, torch.device("cpu"))


class Config(BaseModel):
    rate: float = 0.5


def directory(path, config=None, *, resume=False, overwrite=False, process=ALONE):
    run = RunDirectory(config or Config(), str(path), process, resume=resume, overwrite=overwrite)
    run.open()
    return run


def test_a_new_run_writes_configuration_and_environment(tmp_path):
    run = directory(tmp_path / "deep" / "run")
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"rate": 0.5}
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert {"manas", "python", "platform", "cores", "command"} <= environment.keys()
    assert not run.can_resume


def test_a_directory_with_other_files_is_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    directory(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_is_not_written_over(tmp_path):
    directory(tmp_path)
    with pytest.raises(ManasError, match="holds a run already") as refused:
        directory(tmp_path)
    for way_out in ("--resume", "resume=True", "--overwrite", "overwrite=True", "--set run=...", "the key run"):
        assert way_out in str(refused.value)


def test_a_file_or_a_folder_of_something_else_is_no_run(tmp_path):
    another = r"give another folder, --set run=\.\.\. \(the key run\)"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ManasError, match=f"is a file; {another}"):
        directory(tmp_path / "file")
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(ManasError, match=f"no run of manas; {another}"):
        directory(tmp_path, overwrite=True)


def test_overwriting_removes_what_a_run_writes_and_nothing_else(tmp_path):
    directory(tmp_path)
    for name in WRITTEN:
        path = tmp_path / name
        if "." in name:
            path.write_text("old")
        else:
            path.mkdir()
            (path / "old").write_text("old")
    others = ("notes.txt", "genotype_of_mine.json", ".hidden")
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "figures").mkdir()
    run = directory(tmp_path, Config(rate=0.25), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "figures", "config.yaml", "environment.json"}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"rate": 0.25}
    assert not run.can_resume


def test_overwriting_removes_the_rest_of_a_checkpoint_that_was_being_written(tmp_path):
    directory(tmp_path)
    (tmp_path / ".checkpoint.4242.pt").write_bytes(b"half a checkpoint")
    directory(tmp_path, overwrite=True)
    assert not list(tmp_path.glob(".checkpoint.*.pt"))


def test_overwriting_where_nothing_is_begins(tmp_path):
    directory(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "config.yaml").exists()


def test_resuming(tmp_path):
    directory(tmp_path)
    (tmp_path / "checkpoint.pt").write_text("state")
    assert directory(tmp_path, resume=True).can_resume
    assert (tmp_path / "checkpoint.pt").read_text() == "state"


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(ManasError, match="holds no run to resume; start it without --resume"):
        directory(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_resuming_with_another_configuration_is_an_error(tmp_path):
    directory(tmp_path)
    said = r"config\.yaml differs from the configuration given \(rate was 0.5 and is 0.1\); resume"
    with pytest.raises(ManasError, match=said):
        directory(tmp_path, Config(rate=0.1), resume=True)


class Later(Config):
    """The same after a version that has one key more."""

    inner: dict[str, float] = {"beta": 0.9}


def test_a_run_of_an_earlier_version_is_resumed_with_the_default_of_a_new_key(tmp_path):
    directory(tmp_path)
    directory(tmp_path, Later(), resume=True)
    with pytest.raises(ManasError, match=r"\(inner.beta was 0.9 and is 0.5\)"):
        directory(tmp_path, Later(inner={"beta": 0.5}), resume=True)


def test_a_run_whose_configuration_cannot_be_read_is_not_resumed(tmp_path):
    directory(tmp_path)
    (tmp_path / "config.yaml").write_text("rate: fast")
    with pytest.raises(ManasError, match=r"differs from the configuration given \(.*rate"):
        directory(tmp_path, resume=True)


def test_resuming_and_overwriting_exclude_each_other(tmp_path):
    directory(tmp_path)
    (tmp_path / "checkpoint.pt").write_text("state")
    with pytest.raises(ManasError, match=r"--resume \(.*\) and --overwrite \(.*\) exclude"):
        directory(tmp_path, resume=True, overwrite=True)
    assert (tmp_path / "checkpoint.pt").exists()


def test_the_digest_is_of_the_configuration(tmp_path):
    one, same, other = (
        directory(tmp_path / str(n), Config(rate=rate)).digest() for n, rate in enumerate((0.5, 0.5, 0.4))
    )
    assert one == same != other
    assert len(one) == 64
