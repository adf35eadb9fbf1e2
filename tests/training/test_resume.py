"""Interrupted + resumed = uninterrupted, bit for bit: search and retraining, by an exception and by kill -9."""

import gc
import json
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from searching.plainly import plainly
from training.tiny_runs import (
    RAIN,
    REPOSITORY,
    SNOW,
    TOWER,
    assert_same_run,
    environment,
    merged,
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
from manas.searching.gradient import GradientSearch
from manas.searching.search_data import SearchData
from manas.training.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

SMALLEST = merged(TOWER, {"attention": {"groups": 1, "gates": ["none", "channel_attention"]}})
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


# Small, and over soon: there are many.
SMALLER = {
    "space": SMALLEST,
    "data": {"validation_images": 1},
    "epochs": 2,
    "steps": 2,
}
SEARCHES = {
    "gumbel": {"relaxation": "gumbel"},
    "dirichlet": {"relaxation": "dirichlet"},
    "sigmoid, alphas of running statistics": {"relaxation": "sigmoid", "alpha_statistics": "running"},
    "second order": {"order": "second", "weights": {"clip": None}},
    "single level": {"order": "single"},
    "adversarial smoothing": {"smoothing": {"kind": "adversarial", "ascents": 2}},
    "budget and beta decay": {"budget": {"macs": 100_000, "rate": 5.0}, "beta_decay": [0, 50]},
    "parts in bf16": {"accumulate": 2, "checkpointing": True, "precision": "bf16"},
    "perturbation": {"relaxation": "dirichlet", "selection": {"kind": "perturbation", "tune_steps": 1}},
}
BASELINES = {
    "evolution": {"method": {"kind": "evolution", "evaluations": 5, "population": 3, "tournament": 2}},
    "random": {"method": {"kind": "random", "candidates": 2}, "steps": 20},
    "surrogate": {"method": {"kind": "surrogate", "drawn": 0.5}, "epochs": 4},
}


def a_search(name):
    """A function that runs one of the many."""
    if name in BASELINES:
        changes = SMALLER | BASELINES[name]
    else:
        changes = merged(SMALLER, {"warmup": 0, "eigenvalue_every": 0}) | SEARCHES[name]
    return runs(None, "search", **changes)


@pytest.mark.parametrize("name", [*SEARCHES, "evolution"])
def test_every_search_goes_on_exactly(name, tmp_path, monkeypatch):
    with plainly():
        run = a_search(name)
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        interrupt(run, 3, monkeypatch)
        assert load_checkpoint(resumed / "checkpoint.pt")["step"] == 2
        assert not (resumed / "genotype.json").exists()
        run(resume=True)
    assert_same_run(resumed, reference)


def test_random_search_goes_on_with_the_next_candidate(tmp_path, monkeypatch):
    with plainly():
        run = a_search("random")
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        lines = map(json.loads, (reference / "metrics.jsonl").read_text().splitlines())
        ends = [line["step"] for line in lines if "validation/psnr_of_a_candidate" in line]
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        interrupt(run, ends[0] + 2, monkeypatch)
        assert load_checkpoint(resumed / "checkpoint.pt")["step"] == ends[0]
        assert [path.name for path in (resumed / "genotypes").iterdir()] == ["candidate_0000.json"]
        run(resume=True)
    assert_same_run(resumed, reference)


@pytest.mark.parametrize("steps", [3, 5, 7])
def test_a_surrogate_goes_on_with_what_it_has_learnt(steps, tmp_path, monkeypatch):
    """Interrupted during the second training, which is drawn, and the next two, which the scores decide."""
    with plainly():
        run = a_search("surrogate")
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        interrupt(run, steps, monkeypatch)
        whole, part = (load_checkpoint(folder / "checkpoint.pt") for folder in (reference, resumed))
        complete = (steps - 1) // 2
        assert len(whole["tried"]) == len(whole["scores"]) == 4
        assert part["tried"] == whole["tried"][:complete]
        assert part["scores"] == whole["scores"][:complete]
        run(resume=True)
    assert_same_run(resumed, reference)


@pytest.mark.parametrize("name", ["perturbation", "evolution"])
def test_a_selection_that_was_interrupted_begins_again(name, tmp_path, monkeypatch):
    """What it does to the supernet is not kept."""

    def failing(self, text):
        if ": channel_attention" in text or "architectures: best" in text:
            raise Interruption

    with plainly():
        run = a_search(name)
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "say", failing)
            with pytest.raises(Interruption):
                run()
        assert load_checkpoint(resumed / "checkpoint.pt")["step"] == 4
        assert not (resumed / "genotype.json").exists()
        run(resume=True)
    assert_same_run(resumed, reference)


def test_a_search_that_a_rule_has_ended_goes_nowhere(tmp_path, monkeypatch):
    """Interrupted after the rule, before the genotype; and resumed once more when all is done."""
    monkeypatch.setattr(SearchData, "psnr", lambda self, network, *, training: 20.0)
    settings = {"epochs": 5, "stop": {"patience": 1}, "warmup": 0, "eigenvalue_every": 0}
    run = runs(None, "search", **merged(SMALLER, settings))
    with plainly():
        reference = in_folder(tmp_path / "whole", monkeypatch)
        run()
        resumed = in_folder(tmp_path / "parts", monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(GradientSearch, "finish", lambda *_: fail())
            with pytest.raises(Interruption):
                run()
        monkeypatch.setattr(GradientSearch, "step", lambda *_: fail())
        for _ in range(2):
            assert load_checkpoint(resumed / "checkpoint.pt")["step"] == 4
            run(resume=True)
            assert_same_run(resumed, reference)


def fail():
    raise Interruption


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
    long |= {"space": SMALLEST, "eigenvalue_every": 0} if task == "search" else {}
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
