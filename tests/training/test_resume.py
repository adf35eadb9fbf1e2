"""Interrupted + resumed = uninterrupted, bit for bit: search and retraining, by an exception and by kill -9."""

import gc
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from training.tiny_runs import (
    RAIN,
    REPOSITORY,
    SNOW,
    assert_same_run,
    environment,
    python,
    retrain_config,
    retrain_settings,
    search_config,
    search_settings,
    write_genotype,
    write_yaml,
)

import manas
from manas.reporting.progress import Progress
from manas.training.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

TWO_TASKS = {"data": {"sources": [RAIN, SNOW]}}


class Interruption(Exception):
    """What no code of ours catches."""


def interrupt(run, step, monkeypatch):
    """Lets the loop of a run fail after so many steps."""
    advance, done = Progress.advance, []

    def failing(self):
        advance(self)
        done.append(1)
        if len(done) == step:
            raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", failing)
        with pytest.raises(Interruption):
            run()
    gc.collect()


def genotypes(folder):
    return {"derain": write_genotype(folder / "a.json", 1), "desnow": write_genotype(folder / "b.json", 2)}


def runs(folder, task, **changes):
    """A function that runs search or retraining with its run directory below the working directory."""
    if task == "search":
        config = search_config(**changes)
        return lambda **how: manas.search(config, **how)
    config = retrain_config(genotypes(folder), **TWO_TASKS | changes)
    return lambda **how: manas.retrain(config, **how)


def in_folder(folder, monkeypatch):
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return folder / "run"


@pytest.mark.parametrize("task", ["search", "retrain"])
def test_an_interrupted_run_goes_on_exactly(task, tmp_path, monkeypatch):
    run = runs(tmp_path, task)
    reference = in_folder(tmp_path / "whole", monkeypatch)
    run()
    resumed = in_folder(tmp_path / "parts", monkeypatch)
    interrupt(run, 5, monkeypatch)
    assert load_checkpoint(resumed / "checkpoint.pt")["step"] == 3
    assert '"step": 4' in (resumed / "metrics.jsonl").read_text().splitlines()[-1]  # which is to be cut off
    run(resume=True)
    assert_same_run(resumed, reference)


def test_an_interruption_before_the_first_checkpoint_begins_again(tmp_path, monkeypatch):
    run = runs(tmp_path, "retrain")
    reference = in_folder(tmp_path / "whole", monkeypatch)
    run()
    resumed = in_folder(tmp_path / "parts", monkeypatch)
    interrupt(run, 2, monkeypatch)
    assert not (resumed / "checkpoint.pt").exists()
    run(resume=True)
    assert_same_run(resumed, reference)


def test_an_interrupted_run_leaves_no_file_open(tmp_path, monkeypatch):
    in_folder(tmp_path / "parts", monkeypatch)
    interrupt(runs(tmp_path, "search"), 2, monkeypatch)


def test_resuming_a_finished_run_changes_nothing(tmp_path, monkeypatch):
    run = runs(tmp_path, "retrain")
    in_folder(tmp_path / "whole", monkeypatch)
    model = run()
    before = {path: path.read_bytes() for path in (model, model.parent / "metrics.jsonl")}
    assert run(resume=True) == model
    assert {path: path.read_bytes() for path in before} == before


def test_a_loader_process_changes_no_bit(tmp_path, monkeypatch):
    bits = []
    for workers in (0, 1):
        run = runs(tmp_path, "search", data={"workers": workers}, epochs=1)
        folder = in_folder(tmp_path / str(workers), monkeypatch)
        run()
        state = load_checkpoint(folder / "checkpoint.pt")
        bits.append({name: tensor.numpy().tobytes() for name, tensor in state["network"].items()})
    assert bits[0] == bits[1]


def killed_after_a_checkpoint(script, arguments, folder):
    """Starts a program, and ends it with SIGKILL as soon as it has written a checkpoint."""
    command = python(REPOSITORY / "experiments" / script, *arguments)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment(), **quiet)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "run" / "checkpoint.pt").exists():
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it wrote no checkpoint"
            time.sleep(0.001)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
@pytest.mark.parametrize("task", ["search", "retrain"])
def test_a_killed_program_resumes_to_the_same_bits(task, tmp_path, monkeypatch):
    long = {"epochs": 4, "steps": 3, "log_every": 1}
    run = runs(tmp_path, task, **long)
    settings = (
        search_settings(**long)
        if task == "search"
        else retrain_settings(genotypes(tmp_path), **TWO_TASKS | long)
    )
    config = write_yaml(tmp_path / "config.yaml", settings)
    resumed = in_folder(tmp_path / "killed", monkeypatch)
    killed_after_a_checkpoint(f"{task}.py", [config], tmp_path / "killed")
    step = load_checkpoint(resumed / "checkpoint.pt")["step"]
    assert 3 <= step < 12
    run(resume=True)
    reference = in_folder(tmp_path / "whole", monkeypatch)
    run()
    assert_same_run(resumed, reference)
