"""Two gloo processes = one process with the doubled batch, alphas included; for every relaxation and order."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from searching.plainly import plainly
from training.tiny_runs import (
    RAIN,
    SNOW,
    environment,
    genotype_of,
    identical,
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
    "loss": {"stages": 0.1},
}

# Smaller still: there are many.
GATES = ["none", "channel_attention"]
SMALLER = merged(
    SEARCH,
    {
        "space": {"attention": {"groups": 1, "gates": GATES}},
        "data": {"validation_images": 1},
        "weights": {"clip": None},
        "steps": 2,
        "eigenvalue_every": 0,
    },
)
RELAXATIONS = ("softmax", "gumbel", "dirichlet", "sigmoid")
ORDERS = ("first", "second", "single")
PAIRS = {
    f"{relaxation}_{order}": {"relaxation": relaxation, "order": order}
    for relaxation in RELAXATIONS
    for order in ORDERS
}
OTHERS = {
    "checkpointing": {"checkpointing": True, "accumulate": 2},
    "budget": {"budget": {"macs": 20_000_000}, "beta_decay": 1.0},
    "adversarial": {  # with so many candidates that the halves of a batch pull some of them in two directions
        "smoothing": {"kind": "adversarial", "radius": 0.3, "ascents": 2},
        "space": {"attention": {"gates": ["none", "skip_connect", "sep_conv_3x3", "channel_attention"]}},
        "steps": 3,
    },
    "perturbation": {"selection": {"kind": "perturbation", "tune_steps": 1}},
    "evolution": {"method": {"kind": "evolution", "evaluations": 4, "population": 2, "tournament": 1}},
    "random": {"method": {"kind": "random", "candidates": 2}, "steps": 10},
    "surrogate": {"method": {"kind": "surrogate", "drawn": 0.5}, "epochs": 4},
    "fewer_crops_than_ranks": {"data": {"sources": [RAIN]}, "eigenvalue_every": 1},
}
OF_THE_ALPHAS = {"warmup", "alphas", "eigenvalue_every"}


def smaller(name):
    """The settings of one of the many searches."""
    changes = (PAIRS | OTHERS)[name]
    base = {k: v for k, v in SMALLER.items() if not ("method" in changes and k in OF_THE_ALPHAS)}
    return merged(base, changes)


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
    searches = {"search": SEARCH} | {name: smaller(name) for name in PAIRS | OTHERS}
    runs = [("retrain", "retrain", retrain_settings(genotypes, **RETRAIN))]
    runs += [(name, "search", search_settings(**settings)) for name, settings in searches.items()]
    plan = [
        {"name": name, "task": task, "config": config, "port": port}
        for (name, task, config), port in zip(runs, free_ports(len(runs)), strict=True)
    ]
    together, alone = folder / "together", folder / "alone"
    together.mkdir()
    write_plan = write_yaml(folder / "plan.yaml", {"plan": plan})
    start_pair(write_plan, together, folder)
    with plainly():
        for name, settings in searches.items():
            manas.search(search_config(**settings, run=str(alone / name)))
    manas.retrain(retrain_config(genotypes, **RETRAIN, run=str(alone / "retrain")))
    return together, alone


def start_pair(plan, together, folder):
    """Two ranks that do what is planned."""
    command = python(Path(__file__).with_name("one_rank.py"), plan, together)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            command, env=environment(RANK=str(rank), **group), cwd=folder, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors


def differences(one, other):
    assert one.keys() == other.keys()
    return {name: (one[name] - other[name]).abs().max().item() for name in one}


def own_states(together, name):
    """What each of the two processes held at the end."""
    return [torch.load(together / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("task", ["search", "retrain", *PAIRS, *OTHERS])
def test_ranks_hold_the_same_bits(ranks, task):
    first, second = own_states(ranks[0], task)
    assert first
    assert identical(first, second)


@pytest.mark.parametrize("task", ["search", "retrain"])
def test_two_ranks_equal_one_process(ranks, task):
    together, alone = ranks
    states = [load_checkpoint(folder / task / "checkpoint.pt") for folder in (together, alone)]
    for part in ("network", "average") if task == "retrain" else ("network",):
        apart = differences(states[0][part], states[1][part])
        assert max(apart.values()) < TOLERANCE, max(apart, key=apart.get)


@pytest.mark.parametrize("name", [*PAIRS, *OTHERS])
def test_two_ranks_search_like_one_process(ranks, name):
    together, alone = (load_checkpoint(folder / name / "checkpoint.pt") for folder in ranks)
    if name in ("random", "surrogate"):
        assert together["tried"] == alone["tried"]
        assert together["scores"] == pytest.approx(alone["scores"], abs=1e-4)
    else:
        apart = differences(together["network"], alone["network"])
        assert max(apart.values()) < TOLERANCE, max(apart, key=apart.get)
    found, expected = (genotype_of(folder / name) for folder in ranks)
    assert found.choices == expected.choices
    # The eigenvalue may take a product more or less, where it is measured.
    assert found.provenance["compute"] == pytest.approx(expected.provenance["compute"], rel=0.02)


def alphas_of(state):
    return {name: tensor for name, tensor in state.items() if name.endswith("alpha")}


@pytest.mark.parametrize("name", ["search", *PAIRS])
def test_alphas_moved_and_agree(ranks, name):
    settings = SEARCH if name == "search" else smaller(name)
    together, alone = (
        alphas_of(load_checkpoint(folder / name / "checkpoint.pt")["network"]) for folder in ranks
    )
    torch.manual_seed(0)
    before = search_config(**settings).space.supernet().state_dict()
    assert together
    assert all(not torch.equal(before[name], alpha) for name, alpha in together.items())
    assert max(differences(together, alone).values()) < TOLERANCE


@pytest.mark.parametrize("task", ["search", "retrain", *OTHERS])
def test_two_ranks_log_what_one_process_logs(ranks, task):
    together, alone = (
        [json.loads(line) for line in (folder / task / "metrics.jsonl").read_text().splitlines()]
        for folder in ranks
    )
    assert len(together) == len(alone) > 2
    for ours, expected in zip(together, alone, strict=True):
        assert ours == pytest.approx(expected, rel=1e-4, abs=1e-5)
