"""The one loop, by a job that only writes down what it is asked for."""

import json

import pytest
import torch
from pydantic import BaseModel

from manas.training.checkpoint import load_checkpoint, save_checkpoint
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.loop import Job, run
from manas.training.run import RunDirectory

ALONE = Process(0, 1, torch.device("cpu"))


class Settings(BaseModel):
    seed: int = 0


class Diary(Job[list]):
    """Epochs of 3, 0 and 2 steps."""

    title = "diary"
    process = ALONE
    ends = (3, 3, 5)
    log_every = 2
    notes = ("a note",)

    def __init__(self, folder, *, resume=False, last_epoch=None, breaks_at=None):
        self.files = {"extra.txt": "there from the start"}
        self.directory = RunDirectory(Settings(), str(folder), ALONE, resume=resume, overwrite=False)
        self.last_epoch, self.breaks_at = last_epoch, breaks_at
        self.total, self.told = 0.0, []

    def begin(self, step):
        self.told.append(f"begin {step}")

    def begin_epoch(self, epoch, progress):
        self.told.append(f"epoch {epoch}")

    def step(self, step):
        if step == self.breaks_at:
            raise KeyboardInterrupt
        self.total += step
        self.told.append(step)
        return {"total": torch.tensor(self.total)}

    def left_out(self):
        return LeftOut(1)

    def end_epoch(self, epoch, tracker):
        self.ended = epoch == self.last_epoch
        self.told.append(f"end {epoch}")
        return f"epoch {epoch}: done"

    def finish(self, progress):
        self.told.append("finish")
        return self.told

    def state(self):
        return {"total": self.total}

    def load_state(self, state):
        self.total = state["total"]


WHOLE = ["begin 0", "epoch 0", 0, 1, 2, "end 0", "epoch 1", "end 1", "epoch 2", 3, 4, "end 2", "finish"]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_order_of_things(tmp_path, capsys):
    assert run(Diary(tmp_path)) == WHOLE
    assert metrics(tmp_path) == [
        {"step": 2, "total": 1.0, "steps_left_out": 1},
        {"step": 4, "total": 6.0, "steps_left_out": 1},
    ]
    assert (tmp_path / "extra.txt").read_text() == "there from the start"
    said = capsys.readouterr().err.splitlines()
    line = "1 step left out so far"
    assert said == ["a note", *(f"epoch {epoch}: done; {line}" for epoch in range(3))]


@pytest.mark.parametrize(
    ("breaks_at", "after"), [(2, WHOLE), (3, ["begin 3", *WHOLE[8:]]), (4, ["begin 3", *WHOLE[8:]])]
)
def test_a_broken_run_goes_on_from_the_end_of_its_last_epoch(breaks_at, after, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Diary(tmp_path, breaks_at=breaks_at))
    assert run(Diary(tmp_path, resume=True)) == after
    run(Diary(tmp_path / "whole"))
    assert metrics(tmp_path) == metrics(tmp_path / "whole")
    assert load_checkpoint(tmp_path / "checkpoint.pt")["total"] == 10


def test_a_rule_ends_it(tmp_path):
    assert run(Diary(tmp_path, last_epoch=0)) == [*WHOLE[:6], "finish"]
    job = Diary(tmp_path, resume=True)
    job.ended = True  # as `load_state` says
    assert run(job) == ["begin 3", "finish"]


def test_a_checkpoint_that_does_not_count_epochs_is_resumed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Diary(tmp_path, breaks_at=3))
    state = load_checkpoint(tmp_path / "checkpoint.pt", ALONE)
    del state["epochs"]
    save_checkpoint(tmp_path / "checkpoint.pt", ALONE, state)
    assert run(Diary(tmp_path, resume=True)) == ["begin 3", *WHOLE[8:]]


def test_all_steps_broken_in_a_row_leave_no_checkpoint(tmp_path):
    class Hopeless(Diary):
        def left_out(self):
            raise ValueError("the gradient was not finite")

        def numbers(self):
            return {}

    with pytest.raises(ValueError, match="not finite"):
        run(Hopeless(tmp_path))
    assert not (tmp_path / "checkpoint.pt").exists()
