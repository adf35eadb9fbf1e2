"""Weights to begin with: which towers they reach, what does not fit, and that resuming stays exact."""

import gc
import shutil

import pytest
import torch
import yaml
from training.tiny_runs import (
    RAIN,
    SNOW,
    assert_same_run,
    retrain_config,
    retrain_settings,
    tower,
    write_yaml,
)

import manas
from manas.architecture.genotype import Genotype
from manas.commands import main as cli
from manas.errors import ManasError
from manas.reporting.progress import Progress
from manas.restoration.model_file import ModelDescription, load_model, save_model
from manas.restoration.network import RestorationSpace
from manas.training.assembly import whole_genotype
from manas.training.checkpoint import load_checkpoint
from manas.training.config import RetrainConfig
from manas.training.initialise import initialise, named
from search_spaces.dual_recursive import DualRecursive

TWO_TASKS = {"data": {"sources": [RAIN, SNOW]}}
DRN = DualRecursive(channels=4, stages=2, recursions=1)


def network_of(*tasks, space=DRN, **options):
    return RestorationSpace(towers=dict.fromkeys(tasks, space), **options).network()


def saved(path, network, *tasks, space=DRN, **options):
    """A model file of the network; returns its path as configurations hold it."""
    genotype = Genotype(space=RestorationSpace(towers=dict.fromkeys(tasks, space), **options), choices={})
    return str(save_model(path, network, ModelDescription(genotype=genotype, training={}, degradations={})))


def copied(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def changed(network, before):
    """The parts of a network, two names deep, of which a tensor has changed."""
    state = network.state_dict()
    return {".".join(name.split(".")[:2]) for name in before if not torch.equal(before[name], state[name])}


def test_an_installed_network_is_a_genotype_and_a_beginning():
    genotype = whole_genotype(RetrainConfig(genotype="weather"))
    assert genotype.choices == load_model("weather")[1].genotype.choices
    network = genotype.network()
    initialise(network, "weather")
    state = load_model("weather")[0].state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_the_beginning_is_named_without_its_place():
    assert named("/home/me/runs/first/model.safetensors") == "first"
    assert named({"derain": "runs/rain", "desnow": "weather"}) == "derain: rain, desnow: weather"


@pytest.fixture
def rain(tmp_path, randomised):
    """A model of one task, and its file."""
    model = randomised(network_of("derain"))
    return model, saved(tmp_path / "rain.safetensors", model, "derain")


@pytest.fixture
def both(tmp_path, randomised):
    """A model of two tasks, and its file."""
    model = randomised(network_of("derain", "desnow"))
    return model, saved(tmp_path / "both.safetensors", model, "derain", "desnow")


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


class TestTowers:
    def test_one_of_two(self, rain):
        network = network_of("derain", "desnow")
        before = copied(network)
        initialise(network, {"derain": rain[1]})
        assert same(network.towers["derain"], rain[0].towers["derain"])
        assert changed(network, before) == {"towers.derain"}

    def test_the_only_tower_of_a_file_serves_any_task(self, rain):
        network = network_of("derain", "desnow", "denoise")
        before = copied(network)
        initialise(network, {"desnow": rain[1], "denoise": rain[1]})
        assert changed(network, before) == {"towers.desnow", "towers.denoise"}
        assert same(network.towers["desnow"], rain[0].towers["derain"])
        assert same(network.towers["denoise"], rain[0].towers["derain"])

    def test_of_several_the_one_of_its_task_is_taken(self, both):
        network = network_of("desnow")
        initialise(network, {"desnow": both[1]})
        assert same(network.towers["desnow"], both[0].towers["desnow"])

    def test_a_task_that_the_file_does_not_have(self, both):
        with pytest.raises(ManasError, match=r"both.*no tower for 'denoise', but those for derain, desnow"):
            initialise(network_of("derain", "denoise"), {"denoise": both[1]})

    def test_a_task_that_the_network_does_not_have(self, rain):
        with pytest.raises(
            ManasError, match="init: the network has no tower for 'dehaze'; it has derain, desnow"
        ):
            initialise(network_of("derain", "desnow"), {"dehaze": rain[1]})

    def test_a_wrong_shape_is_named_with_both(self, rain):
        wide = DualRecursive(channels=6, stages=2, recursions=1)
        network = network_of("derain", "desnow", space=wide)
        message = r"rain\.safetensors.*first\.weight.*\(4, 6, 3, 3\), and in the network \(6, 6, 3, 3\)"
        before = copied(network)
        with pytest.raises(ManasError, match=message):
            initialise(network, {"derain": rain[1]})
        assert changed(network, before) == set()

    def test_another_architecture_is_named(self, rain):
        searched = Genotype.sample(RestorationSpace(towers={"derain": tower()}), seed=0).network()
        with pytest.raises(ManasError, match=r"rain\.safetensors: does not fit .* is in the network alone"):
            initialise(searched, {"derain": rain[1]})


class TestWhole:
    def test_everything_is_taken(self, both):
        network = network_of("derain", "desnow")
        initialise(network, both[1])
        assert same(network, both[0])

    def test_other_stitches_do_not_fit(self, both):
        network = network_of("derain", "desnow", stitch="channel")
        with pytest.raises(
            ManasError, match=r"stitches\.0\.matrices\.0 has the shape \(2, 2, 1\).*\(2, 2, 4\)"
        ):
            initialise(network, both[1])

    def test_a_model_of_fewer_towers_is_no_whole_one(self, rain):
        with pytest.raises(ManasError, match=r"rain.*towers\.desnow.* is in the network alone"):
            initialise(network_of("derain", "desnow"), rain[1])

    def test_a_model_of_more_towers_does_not_fit_either(self, both):
        with pytest.raises(ManasError, match=r"both.* is in the file alone"):
            initialise(network_of("derain", stitch="none", fusion="mean"), both[1])

    def test_nothing_is_changed_without(self, both):
        network = network_of("derain", "desnow")
        before = copied(network)
        initialise(network, None)
        assert changed(network, before) == set()


def test_what_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"none")
    for init in (str(tmp_path / "model.safetensors"), str(tmp_path / "absent.safetensors")):
        with pytest.raises(ManasError, match=r"\.safetensors"):
            initialise(network_of("derain"), {"derain": init})


# Retraining


@pytest.fixture(scope="module")
def separate(tmp_path_factory):
    """Genotypes of two towers, and the models of towers that were trained by themselves."""
    folder = tmp_path_factory.mktemp("separate")
    genotypes = dict.fromkeys(
        ("derain", "desnow"), str(Genotype.sample(DRN, seed=0).write(folder / "drn.json"))
    )
    models = {}
    for source in (RAIN, SNOW):
        task = source["task"]
        options = {"run": str(folder / task), "epochs": 1, "steps": 1, "data": {"sources": [source]}}
        models[task] = str(manas.retrain(retrain_config(genotypes[task], **options)))
    return genotypes, models


def test_a_retraining_begins_with_them(separate, tmp_path):
    """The first average, with a rate of almost nothing, is where it began."""
    genotypes, models = separate
    options = {"epochs": 1, "steps": 1, "optimiser": {"rate": 1e-30, "decay": 0}, **TWO_TASKS}
    config = retrain_config(genotypes, init=models, run=str(tmp_path / "run"), **options)
    trained, description = load_model(manas.retrain(config))
    assert description.training["init"] == "derain: derain, desnow: desnow"
    for task, path in models.items():
        weights = dict(load_model(path)[0].towers[task].named_parameters())
        found = dict(trained.towers[task].named_parameters())
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_the_command_line_takes_them(separate, tmp_path, capsys):
    genotypes, models = separate
    settings = retrain_settings(genotypes, run=str(tmp_path / "run"), epochs=1, steps=1, **TWO_TASKS)
    given = [str(write_yaml(tmp_path / "config.yaml", settings))]
    assert called("retrain", *given, "--init", f"derain={models['derain']}") == 0
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert RetrainConfig.model_validate(yaml.safe_load(written)).init == {"derain": models["derain"]}
    capsys.readouterr()
    assert called("retrain", *given, *("--init", f"derain={models['derain']}") * 2) == 2
    assert "--init: a task is given twice" in capsys.readouterr().err
    again = str(tmp_path / "again")
    assert called("retrain", *given, "--set", f"run={again}", "--init", models["derain"]) == 2
    assert "does not fit the network: towers.desnow" in " ".join(capsys.readouterr().err.split())


def called(*arguments):
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    return end.value.code or 0


def test_a_resumed_run_goes_on_exactly_and_does_not_need_them_again(
    separate, tmp_path, monkeypatch, one_thread
):
    genotypes, models = separate
    copies = {task: shutil.copy(path, tmp_path / f"{task}.safetensors") for task, path in models.items()}
    init = {task: str(path) for task, path in copies.items()}
    config = retrain_config(genotypes, init=init, stitch_rate=10.0, steps=2, **TWO_TASKS)
    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    manas.retrain(config)
    (tmp_path / "parts").mkdir()
    monkeypatch.chdir(tmp_path / "parts")
    with monkeypatch.context() as patch:
        advance, done = Progress.advance, []
        patch.setattr(Progress, "advance", lambda self: done.append(advance(self)) or 1 // (3 - len(done)))
        with pytest.raises(ZeroDivisionError):
            manas.retrain(config)
    gc.collect()
    assert load_checkpoint(tmp_path / "parts" / "run" / "checkpoint.pt")["step"] == 2
    for path in copies.values():
        path.unlink()
    manas.retrain(config, resume=True)
    assert_same_run(tmp_path / "parts" / "run", tmp_path / "whole" / "run")
