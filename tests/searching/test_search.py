"""The search end to end: two groups of parameters on two parts of the backgrounds, and what is left behind."""

import json

import pytest
import torch
import yaml
from training.tiny_runs import (
    RAIN,
    SNOW,
    TOWER,
    identical,
    retrain_config,
    search_config,
    search_settings,
    tower,
)

import manas
from manas.architecture.choice import architecture_parameters, choices_of, weight_parameters
from manas.architecture.genotype import Genotype
from manas.data.dataset import Backgrounds
from manas.errors import ManasError
from manas.restoration.model_file import read_description
from manas.restoration.network import RestorationSpace
from manas.searching import loop
from manas.searching.bilevel import descend
from manas.searching.export import genotype_from
from manas.training.checkpoint import load_checkpoint
from manas.training.distributed import Process
from manas.training.optimiser import Descent, OptimiserConfig, RunningStatistics
from manas.training.run import WRITTEN

ALONE = Process(0, 1, torch.device("cpu"))


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory of a search."""
    path = tmp_path_factory.mktemp("searched") / "run"
    manas.search(search_config(run=str(path)))
    return path


class TestWholeRun:
    def test_everything_is_written(self, run):
        names = {path.name for path in run.iterdir()}
        assert names == {
            "checkpoint.pt",
            "config.yaml",
            "environment.json",
            "genotype.json",
            "genotypes",
            "metrics.jsonl",
            "samples",
            "tensorboard",
        }
        assert names <= set(WRITTEN)
        for folder, suffix in (("genotypes", "json"), ("samples", "png")):
            found = sorted(path.name for path in (run / folder).iterdir())
            assert found == [f"epoch_0000.{suffix}", f"epoch_0001.{suffix}"]

    def test_the_genotype_is_that_of_the_last_epoch(self, run):
        genotype = Genotype.read(run / "genotype.json")
        assert genotype == Genotype.read(run / "genotypes" / "epoch_0001.json")
        assert genotype.space == tower()
        genotype.network()(torch.zeros(1, 3, 8, 8))

    def test_its_provenance(self, run):
        provenance = Genotype.read(run / "genotype.json").provenance
        assert (provenance["seed"], provenance["epoch"], provenance["input"]) == (0, 1, [3, 16, 16])
        weights = sum(p.numel() for p in Genotype.read(run / "genotype.json").network().parameters())
        assert provenance["parameters"] == weights
        assert provenance["macs"] > 0
        gap = provenance["psnr_relaxed"] - provenance["psnr_one_hot"]
        assert provenance["discretisation_gap"] == pytest.approx(gap)
        assert {"manas", "torch", "config_sha256"} <= provenance.keys()

    def test_the_configuration_is_resolved_and_can_be_given_again(self, run):
        written = yaml.safe_load((run / "config.yaml").read_text())
        assert loop.SearchConfig.model_validate(written) == search_config(run=str(run))

    def test_metrics_by_name(self, run):
        steps = [line for line in lines(run) if "weights/gradient" in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
        assert {"weights/global/mse", "weights/global/ssim", "weights/global/tv"} <= steps[0].keys()
        assert not any(name.startswith("alphas/") for line in steps[:2] for name in line)
        for name in ("global/mse", "architecture", "complexity", "gradient"):
            assert all(f"alphas/{name}" in line for line in steps[2:])
        epochs = [line for line in lines(run) if "validation/psnr_relaxed" in line]
        assert [line["step"] for line in epochs] == [3, 6]
        for line in epochs:
            for label, names in tower().choices().items():
                shares = [line[f"probabilities/{label}/{name}"] for name in names]
                assert sum(shares) == pytest.approx(1)


def descending(network, config, parameters):
    return Descent(config.build([{"params": parameters}]), RunningStatistics(network), None)


def test_the_same_seed_gives_the_same_genotype(tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        manas.search(search_config(run=str(tmp_path / name), seed=seed, epochs=1))
        found.append(load_checkpoint(tmp_path / name / "checkpoint.pt")["probabilities"])
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_alphas_rest_until_the_warmup_is_over(tmp_path):
    torch.manual_seed(0)
    initial = {choice.label: choice.alpha.detach().clone() for choice in choices_of(tower().supernet())}
    moved = {}
    for epochs in (1, 2):
        config = search_config(
            run=str(tmp_path / str(epochs)), epochs=epochs, warmup=0.5 if epochs == 2 else 0.99
        )
        manas.search(config)
        network = tower().supernet()
        network.load_state_dict(load_checkpoint(tmp_path / str(epochs) / "checkpoint.pt")["network"])
        moved[epochs] = [not torch.equal(c.alpha, initial[c.label]) for c in choices_of(network)]
    assert not any(moved[1])
    assert all(moved[2])


def watch_batches(monkeypatch):
    """Every background that is drawn, by part: the clean image, from which the crop is known."""
    seen = {"kept": set(), "held": set()}
    crop = loop.Backgrounds._crops

    def watched(self, part, *arguments, **options):
        crops = crop(self, part, *arguments, **options)
        item = type(crops).__getitem__

        class Watched(type(crops)):
            def __getitem__(self, key):
                source = self.sources[key.source]
                seen[part].add(source.identities[self.chosen[key.source][key.background]])
                return item(self, key)

        crops.__class__ = Watched
        return crops

    monkeypatch.setattr(Backgrounds, "_crops", watched)
    return seen


def test_weights_and_alphas_see_other_backgrounds(tmp_path, monkeypatch):
    seen = watch_batches(monkeypatch)
    steps = []
    weight_step, alpha_step = loop._Search._weight_step, loop._Search._alpha_step
    monkeypatch.setattr(
        loop._Search, "_weight_step", lambda s, b, n: steps.append(("w", b)) or weight_step(s, b, n)
    )
    monkeypatch.setattr(
        loop._Search, "_alpha_step", lambda s, b, n: steps.append(("a", b)) or alpha_step(s, b, n)
    )
    manas.search(search_config(run=str(tmp_path), data={"sources": [RAIN, SNOW]}, warmup=0, steps=8, epochs=1))
    assert seen["kept"]
    assert seen["held"]
    assert not seen["kept"] & seen["held"]
    assert [kind for kind, _ in steps] == ["a", "w"] * 8
    of_weights, of_alphas = ({b.clean.numpy().tobytes() for k, b in steps if k == kind} for kind in "wa")
    assert not of_weights & of_alphas


class TestFirstOrder:
    """A step of one group leaves the other alone: its values, and its `.grad`."""

    def parts(self):
        torch.manual_seed(0)
        network = tower(residual=False, norm="none").supernet()
        return network, architecture_parameters(network), weight_parameters(network)

    @pytest.mark.parametrize("group", ["alphas", "weights"])
    def test_the_other_group_is_left_alone(self, group):
        network, alphas, weights = self.parts()
        stepped, resting = (alphas, weights) if group == "alphas" else (weights, alphas)
        descent = Descent(
            OptimiserConfig(rate=0.01).build([{"params": stepped}]), RunningStatistics(network), None
        )
        before = [p.detach().clone() for p in resting]
        mark = torch.ones_like(resting[0])
        resting[0].grad = mark
        old = [p.detach().clone() for p in stepped]
        descend(network(torch.rand(2, 3, 16, 16)).square().mean(), stepped, descent, ALONE)
        assert identical([p.detach() for p in resting], before)
        assert resting[0].grad is mark
        assert all(p.grad is None for p in resting[1:])
        assert all(p.requires_grad for p in resting)
        assert sum(not torch.equal(a, b) for a, b in zip(old, stepped, strict=True)) > len(stepped) // 2
        assert all(p.grad is None for p in stepped)

    def test_the_gradient_is_that_of_the_loss(self):
        network, alphas, _ = self.parts()
        loss = network(torch.rand(2, 3, 16, 16)).square().mean()
        expected = torch.autograd.grad(loss, alphas, retain_graph=True)
        before = [alpha.detach().clone() for alpha in alphas]
        descent = Descent(
            OptimiserConfig(name="sgd", rate=0.5).build([{"params": alphas}]), RunningStatistics(network), None
        )
        norm = descend(loss, alphas, descent, ALONE)
        assert norm == pytest.approx(torch.cat(expected).norm().item(), rel=1e-4)
        for old, gradient, alpha in zip(before, expected, alphas, strict=True):
            torch.testing.assert_close(alpha.detach(), old - 0.5 * gradient)

    def test_an_unused_parameter_keeps_none(self):
        network, alphas, _ = self.parts()
        before = alphas[1].detach().clone()
        descent = Descent(
            OptimiserConfig(rate=0.5).build([{"params": alphas[:2]}]), RunningStatistics(network), None
        )
        descend(alphas[0].square().sum(), alphas[:2], descent, ALONE)
        assert torch.equal(alphas[1], before)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_statistics_of_the_alpha_step(statistics, tmp_path, monkeypatch):
    modes = []
    alpha_step = loop._Search._alpha_step

    def watched(self, batch, step):
        terms = alpha_step(self, batch, step)
        modes.append(self.network.training)
        return terms

    monkeypatch.setattr(loop._Search, "_alpha_step", watched)
    manas.search(search_config(run=str(tmp_path), warmup=0, alpha_statistics=statistics, epochs=1, steps=2))
    assert modes == [statistics == "batch"] * 2
    assert all(t.isfinite().all() for t in load_checkpoint(tmp_path / "checkpoint.pt")["network"].values())


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimiser_searches(name, tmp_path):
    options = {"weights": {"name": name, "decay": 1e-4}, "alphas": {"name": name, "decay": 1e-3}}
    manas.search(search_config(run=str(tmp_path), warmup=0, epochs=1, steps=2, **options))
    assert Genotype.read(tmp_path / "genotype.json")


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """The run directory of a search of towers, stitches and fusion together."""
    path = tmp_path_factory.mktemp("joint") / "run"
    towers = {"derain": TOWER, "desnow": TOWER}
    space = {"kind": "restoration", "towers": towers, "stitch": "searched", "fusion": "searched"}
    settings = search_settings(run=str(path), warmup=0, data={"sources": [RAIN, SNOW]}, epochs=1)
    manas.search(loop.SearchConfig.model_validate(settings | {"space": space}))
    return path


class TestJoint:
    def test_its_genotype(self, joint):
        genotype = Genotype.read(joint / "genotype.json")
        assert isinstance(genotype.space, RestorationSpace)
        assert {"stitch/stage0", "fusion"} <= genotype.choices.keys()
        assert {label.split("/")[0] for label in genotype.choices} == {"derain", "desnow", "stitch", "fusion"}
        assert {"weights/local/derain", "weights/local/desnow"} <= lines(joint)[0].keys()

    def test_it_retrains(self, joint, tmp_path):
        config = retrain_config(
            str(joint / "genotype.json"), run=str(tmp_path), data={"sources": [RAIN, SNOW]}, epochs=1, steps=1
        )
        description = read_description(manas.retrain(config))
        assert description.genotype.choices == Genotype.read(joint / "genotype.json").choices


class TestRefused:
    def test_a_space_without_forks(self, tmp_path):
        config = search_config(run=str(tmp_path), space={"columns": [0], "attention": None})
        with pytest.raises(ManasError, match="no forks, so there is nothing to search; retrain it as it is"):
            manas.search(config)

    def test_a_network_without_a_tower_for_a_source(self, tmp_path):
        config = search_config(run=str(tmp_path), data={"sources": [SNOW]})
        space = RestorationSpace(towers={"derain": tower()})
        with pytest.raises(ManasError, match="no tower for the task 'desnow'"):
            manas.search(config.model_copy(update={"space": space}))


class TestExport:
    def test_every_source_gives_the_same_choices(self, run):
        expected = Genotype.read(run / "genotype.json")
        for source in (run, run / "genotype.json", run / "checkpoint.pt"):
            found = genotype_from(source)
            assert (found.space, found.choices) == (expected.space, expected.choices)
        assert genotype_from(run) == expected

    def test_of_a_run_that_was_interrupted(self, run, tmp_path):
        (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes())
        found = genotype_from(tmp_path)
        assert found.choices == Genotype.read(run / "genotype.json").choices
        assert found.provenance["step"] == 6

    def test_of_a_retraining(self, run, tmp_path):
        model = manas.retrain(retrain_config(str(run / "genotype.json"), run=str(tmp_path), epochs=1, steps=1))
        expected = read_description(model).genotype
        for source in (tmp_path, model, tmp_path / "last.safetensors", tmp_path / "checkpoint.pt"):
            assert genotype_from(source) == expected
        own = Genotype.read(run / "genotype.json")
        assert expected.choices == {f"derain/{label}": name for label, name in own.choices.items()}

    def test_nothing_to_export(self, tmp_path):
        with pytest.raises(ManasError, match="no run; none of genotype.json"):
            genotype_from(tmp_path)
