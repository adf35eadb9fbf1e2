"""Two gloo processes = one process with the doubled batch, alphas included."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from training.tiny_runs import (
    RAIN,
    SNOW,
    environment,
    identical,
    python,
    retrain_config,
    retrain_settings,
    search_config,
    search_settings,
    write_genotype,
    write_yaml,
)

import manas
from manas.training.checkpoint import load_checkpoint

TOLERANCE = 2e-6  # float32, whose sums over two ranks are in another order; weights move by about 1e-2

# No batch statistics; plain descent, since Adam divides rounding errors by themselves.
SPACE = {"norm": "none", "residual": False}
DESCENT = {"name": "sgd", "rate": 0.05, "clip": 5.0}
SHORT = {"epochs": 1, "steps": 3}
SEARCH = SHORT | {
    "space": SPACE,
    "data": {"sources": [RAIN, SNOW], "batch": 4},
    "warmup": 0,
    "weights": DESCENT,
    "alphas": {"name": "sgd", "rate": 1.0},
    "schedule": {"warmup": 0},
}
RETRAIN = SHORT | {
    "data": {"sources": [RAIN, SNOW], "batch": 4},
    "optimiser": DESCENT,
    "schedule": {"warmup": 0},
    "average": 0.9,
}


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [str(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The folder of two processes that searched and retrained together, and that of one that did so alone."""
    folder = tmp_path_factory.mktemp("ranks")
    genotypes = {
        "derain": write_genotype(folder / "a.json", 1, **SPACE),
        "desnow": write_genotype(folder / "b.json", 2, **SPACE),
    }
    together = folder / "together"
    together.mkdir()
    search = write_yaml(folder / "s.yaml", search_settings(**SEARCH, run=str(together / "search")))
    retrain = write_yaml(
        folder / "r.yaml", retrain_settings(genotypes, **RETRAIN, run=str(together / "retrain"))
    )
    first, second = free_ports(2)
    command = python(Path(__file__).with_name("one_rank.py"), search, retrain, together, second)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": first}
    processes = [
        subprocess.Popen(
            command, env=environment(RANK=str(rank), **group), cwd=folder, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    alone = folder / "alone"
    manas.search(search_config(**SEARCH, run=str(alone / "search")))
    manas.retrain(retrain_config(genotypes, **RETRAIN, run=str(alone / "retrain")))
    return together, alone


def differences(one, other):
    assert one.keys() == other.keys()
    return {name: (one[name] - other[name]).abs().max().item() for name in one}


@pytest.mark.parametrize("task", ["search", "retrain"])
def test_ranks_hold_the_same_bits(ranks, task):
    together, _ = ranks
    first, second = (torch.load(together / f"{task}{rank}.pt", weights_only=True) for rank in (0, 1))
    assert identical(first, second)


@pytest.mark.parametrize("task", ["search", "retrain"])
def test_two_ranks_equal_one_process(ranks, task):
    together, alone = ranks
    states = [load_checkpoint(folder / task / "checkpoint.pt") for folder in (together, alone)]
    for part in ("network", "average") if task == "retrain" else ("network",):
        apart = differences(states[0][part], states[1][part])
        assert max(apart.values()) < TOLERANCE, max(apart, key=apart.get)


def test_alphas_moved_and_agree(ranks):
    together, alone = ranks
    alphas = [
        {k: v for k, v in load_checkpoint(f / "search" / "checkpoint.pt")["network"].items() if "alpha" in k}
        for f in (together, alone)
    ]
    torch.manual_seed(0)
    before = search_config(**SEARCH).space.supernet().state_dict()
    assert alphas[0]
    assert all(not torch.equal(before[name], alpha) for name, alpha in alphas[0].items())
    assert max(differences(*alphas).values()) < TOLERANCE


def test_two_ranks_log_what_one_process_logs(ranks):
    for task in ("search", "retrain"):
        together, alone = (
            [json.loads(line) for line in (folder / task / "metrics.jsonl").read_text().splitlines()]
            for folder in ranks
        )
        assert len(together) == len(alone) > 3
        for ours, expected in zip(together, alone, strict=True):
            assert ours == pytest.approx(expected, rel=1e-4, abs=1e-5)
