"""The check of a supernet by trainings alone: what is trained, what is scored, and that it resumes exactly."""

import copy
import json

import pytest
import torch
from searching.plainly import plainly
from torch import nn
from training.tiny_runs import assert_same_run, genotype_of, identical, search_config, tower
from typer.testing import CliRunner

import manas
from manas.architecture.recomputation import RestingBuffers
from manas.commands.main import app
from manas.errors import ManasError
from manas.reporting.report.page import write_report
from manas.searching import correlation
from manas.searching.alone import TrainingAlone
from manas.searching.config import CorrelationConfig, SearchConfig
from manas.searching.search_data import SearchData
from manas.searching.synflow import synflow
from manas.training.checkpoint import load_checkpoint
from manas.training.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))
SPACE = {"attention": {"groups": 1, "gates": ["none", "skip_connect", "channel_attention"]}}
CHECK = {"architectures": 5, "steps": 3, "seeds": 2}
SMALL = {"space": SPACE, "epochs": 1, "steps": 2, "warmup": 0, "eigenvalue_every": 0}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _plainly():
    with plainly():
        yield


def config_of(path, **changes):
    return search_config(run=str(path), **SMALL, correlation=CHECK, **changes)


def kept(batches, seen):
    for batch in batches:
        seen.append(batch)
        yield batch


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory, and of each training its choices, network and batches."""
    path, trained = tmp_path_factory.mktemp("correlated") / "run", []
    begin = TrainingAlone.__init__

    def watched_begin(self, method, choices, steps, **options):
        begin(self, method, choices, steps, **options)
        start = copy.deepcopy(self.network.state_dict())
        trained.append({"choices": dict(choices), "network": self.network, "start": start, "batches": []})
        self.batches = kept(self.batches, trained[-1]["batches"])

    with plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingAlone, "__init__", watched_begin)
        manas.search(config_of(path))
    return path, trained


def rows_of(path):
    return json.loads((path / correlation.FILE).read_text())


class TestTrainings:
    def test_every_architecture_with_every_seed(self, run):
        path, trained = run
        rows = rows_of(path)
        assert [each["choices"] for each in trained] == [row["choices"] for row in rows] * 2
        assert len({tuple(row["choices"].items()) for row in rows}) == 5
        for row in rows:
            tower(**SPACE).check(row["choices"])
            assert len(row["alone"]) == 2

    def test_one_seed_has_one_order_of_the_data_and_two_have_two(self, run):
        _, trained = run
        batches = [[batch.clean for batch in each["batches"]] for each in trained]
        assert all(len(each) == 3 for each in batches)
        assert all(identical(each, batches[0]) for each in batches[:5])
        assert all(identical(each, batches[5]) for each in batches[5:])
        assert not identical(batches[0][0], batches[5][0])
        stem = next(iter(trained[0]["start"]))
        assert identical(trained[0]["start"][stem], trained[1]["start"][stem])
        assert not identical(trained[0]["start"][stem], trained[5]["start"][stem])

    def test_the_truth_is_judged_as_a_retraining_judges(self, run):
        path, trained = run
        data, rows = SearchData(config_of(path), ALONE), rows_of(path)
        for place, each in enumerate(trained):
            score = rows[place % 5]["alone"][place // 5]
            with RestingBuffers(each["network"]):
                assert data.psnr(each["network"], training=False) == pytest.approx(score, abs=1e-4)

    def test_the_one_hot_scores_are_of_the_derived_networks_in_the_weights_of_the_supernet(self, run):
        path, _ = run
        config = config_of(path)
        supernet, data = config.space.supernet(), SearchData(config, ALONE)
        supernet.load_state_dict(load_checkpoint(path / "checkpoint.pt")["network"])
        for row in rows_of(path):
            network = config.space.inherit(supernet, row["choices"])
            assert data.psnr(network, training=True) == pytest.approx(row["one_hot"], abs=1e-3)


class TestResult:
    def test_provenance_and_verdict(self, run):
        path, _ = run
        provenance = genotype_of(path).provenance
        told = provenance["correlation"]
        assert {name: told[name] for name in CHECK} == CHECK
        for name in ("one_hot", "another_seed", "macs", "parameters", "synflow"):
            tau, error = told[name]
            assert -1 <= tau <= 1
            assert 0 <= error <= 1
        (sentence,) = (text for text in provenance["verdict"] if text.startswith("the one-hot scores rank"))
        assert sentence.startswith("the one-hot scores rank 5 random architectures")

    def test_the_search_finds_what_it_finds_without(self, run, tmp_path):
        path, _ = run
        without = manas.search(search_config(run=str(tmp_path), **SMALL))
        found = genotype_of(path)
        assert found.choices == without.choices
        own = ("correlation", "verdict", "config_sha256")
        assert {k: v for k, v in found.provenance.items() if k not in own} == {
            k: v for k, v in without.provenance.items() if k not in own
        }

    def test_the_table_of_the_report(self, run):
        path, _ = run
        page = write_report(path).read_text()
        tau, error = genotype_of(path).provenance["correlation"]["one_hot"]
        assert "Rank correlation" in page
        row = f"one-hot scores in the supernet</th><td>{tau:.2f}</td><td>{error:.2f}</td>"
        assert row in page

    def test_perturbation_begins_after_it(self, tmp_path, monkeypatch):
        """Its tuning changes the weights of the supernet."""
        selection = {"kind": "perturbation", "tune_steps": 1}
        manas.search(config_of(tmp_path, selection=selection))
        config = config_of(tmp_path)
        supernet, data = config.space.supernet(), SearchData(config, ALONE)
        supernet.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt")["network"])
        row = rows_of(tmp_path)[0]
        network = config.space.inherit(supernet, row["choices"])
        assert data.psnr(network, training=True) == pytest.approx(row["one_hot"], abs=1e-3)


class TestResumed:
    @pytest.mark.parametrize("trainings", [1, 6])
    def test_an_interrupted_check_goes_on_exactly(self, trainings, run, tmp_path, monkeypatch):
        folders = {name: tmp_path / name for name in ("whole", "parts")}
        for folder in folders.values():
            folder.mkdir()
        monkeypatch.chdir(folders["whole"])
        manas.search(config_of("run"))
        monkeypatch.chdir(folders["parts"])
        done, score = [], TrainingAlone.score

        def failing(self):
            done.append(1)
            if len(done) > trainings:
                raise KeyboardInterrupt
            return score(self)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingAlone, "score", failing)
            with pytest.raises(KeyboardInterrupt):
                manas.search(config_of("run"))
        assert not (folders["parts"] / "run" / "genotype.json").exists()
        begun = []
        monkeypatch.setattr(TrainingAlone, "score", lambda self: begun.append(1) or score(self))
        manas.search(config_of("run"), resume=True)
        assert len(begun) == 10 - trainings
        assert_same_run(folders["parts"] / "run", folders["whole"] / "run")


class TestConfig:
    def test_a_number_is_that_of_architectures(self):
        config = SearchConfig(method="gradient", correlation=8)
        assert config.correlation == CorrelationConfig(architectures=8)
        assert SearchConfig().correlation is None

    @pytest.mark.parametrize("given", [3, True, {"seeds": 1}, {"steps": 0}, {"architecture": 12}], ids=str)
    def test_what_cannot_be_meant(self, given):
        with pytest.raises((ValueError, ManasError)):
            SearchConfig(method="gradient", correlation=given)

    @pytest.mark.parametrize("method", ["random", "evolution", "surrogate"])
    def test_a_baseline_has_none(self, method):
        with pytest.raises((ValueError, ManasError), match="correlation would have no effect"):
            SearchConfig(method=method, correlation=12)

    def test_the_command_line(self, monkeypatch):
        seen = []
        monkeypatch.setattr("manas.searching.search.search", lambda config, **_: seen.append(config) or 1 / 0)
        arguments = ["search", "--correlation", "8", "--set", "correlation.steps=500"]
        arguments += ["--set", "method=gradient"]
        CliRunner().invoke(app, arguments)
        assert seen[0].correlation == CorrelationConfig(architectures=8, steps=500)

    def test_a_space_with_too_few_architectures(self, tmp_path):
        space = {"columns": [1], "attention": {"groups": 1, "gates": ["channel_attention"]}}
        config = search_config(run=str(tmp_path), **SMALL | {"space": space}, correlation=CHECK)
        genotype = manas.search(config)
        assert genotype.provenance["verdict"][-1] == "correlation: 2 architectures are too few to be ranked"
        assert "correlation" not in genotype.provenance


class TestSynFlow:
    def test_of_a_chain_of_layers(self):
        """R = sum over outputs of |W2| |W1| 1; each layer contributes R itself (Tanaka et al., eq. 2)."""
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False))
        one, two = (network[n].weight.detach().double().abs()[:, :, 0, 0] for n in (0, 2))
        flow = (two @ one @ torch.ones(3, dtype=torch.float64)).sum().item() * 5 * 7
        before = copy.deepcopy(network.state_dict())
        assert synflow(network, (3, 5, 7)) == pytest.approx(2 * flow, rel=1e-12)
        assert identical(network.state_dict(), before)
        assert network[0].weight.grad is None

    def test_a_last_layer_of_zeros_does_not_hide_the_rest(self):
        scores = []
        for width in (2, 4):
            torch.manual_seed(0)
            network = nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 3, 1))
            nn.init.zeros_(network[1].weight)
            scores.append(synflow(network, (3, 4, 4)))
        assert 0 < scores[0] < scores[1]
