"""Retraining end to end: what it writes, and that what it writes is what was trained."""

import gc
import json
import re

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from training.tiny_runs import RAIN, SNOW, retrain_config, search_config, tower, write_genotype

import manas
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.crops import Batch
from manas.data.images import read_image
from manas.data.photographs import builtin_photographs
from manas.errors import ManasError
from manas.reporting.progress import Progress
from manas.restoration.model_file import load_model, read_description
from manas.restoration.network import RestorationSpace, tasks_of
from manas.training import retrain as module
from manas.training import step
from manas.training.checkpoint import load_checkpoint
from manas.training.run import WRITTEN
from search_spaces.dual_recursive import DualRecursive

TWO_TASKS = {"data": {"sources": [RAIN, SNOW]}}


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def genotypes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genotypes")
    return {"derain": write_genotype(folder / "a.json", 1), "desnow": write_genotype(folder / "b.json", 2)}


@pytest.fixture(scope="module")
def run(genotypes, tmp_path_factory):
    """The run directory of a retraining of two towers."""
    path = tmp_path_factory.mktemp("retrained") / "run"
    assert manas.retrain(retrain_config(genotypes, **TWO_TASKS, run=str(path))) == path / "model.safetensors"
    return path


class TestWholeRun:
    def test_everything_is_written(self, run):
        names = {path.name for path in run.iterdir()}
        assert names == {
            "checkpoint.pt",
            "config.yaml",
            "environment.json",
            "last.safetensors",
            "metrics.jsonl",
            "model.safetensors",
            "report.html",
            "samples",
            "stitches.png",
            "tensorboard",
        }
        assert names <= set(WRITTEN)
        assert [path.name for path in sorted((run / "samples").iterdir())] == [
            "epoch_0000.png",
            "epoch_0001.png",
        ]
        assert list((run / "tensorboard").glob("events.*"))

    def test_samples_are_rows_of_degraded_restored_and_clean(self, run):
        sheet = read_image(run / "samples" / "epoch_0001.png")
        assert sheet.shape[1] == 3 * 16
        assert sheet.shape[0] % 16 == 0
        clean = sheet[:, 32:].astype(int)
        assert np.abs(sheet[:, :16] - clean).max() > 0

    def test_the_configuration_is_resolved_and_can_be_given_again(self, run, genotypes):
        written = yaml.safe_load((run / "config.yaml").read_text())
        again = module.RetrainConfig.model_validate(written)
        assert again == retrain_config(genotypes, **TWO_TASKS, run=str(run))

    def test_metrics_by_name(self, run):
        steps = [line for line in lines(run) if "rate" in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
        names = {
            f"training/{k}" for k in ("global/mse", "global/ssim", "global/tv", "local/derain", "local/desnow")
        }
        assert names | {"training/gradient", "rate", "steps_left_out", "step"} <= steps[0].keys()
        assert "training/global/internal" not in steps[0]
        assert "training/global/internal" in steps[1]  # it sets in after a share of the steps
        validations = [line for line in lines(run) if "validation/psnr" in line]
        assert [line["step"] for line in validations] == [3, 6]
        assert {"validation/psnr/derain", "validation/psnr/desnow"} <= validations[0].keys()
        for name in ("input", "input/derain", "input/desnow"):
            assert validations[0][f"validation/{name}"] == validations[1][f"validation/{name}"] > 5
        assert all(np.isfinite(value) for line in lines(run) for value in line.values())

    def test_the_model_is_the_average_that_validated_best(self, run):
        scores = {line["step"]: line["validation/psnr"] for line in lines(run) if "validation/psnr" in line}
        best = max(scores, key=scores.get)
        description = read_description(run / "model.safetensors")
        assert description.training["steps"] == best
        assert description.training["validation"]["psnr"] == scores[best]
        last, _ = load_model(run / "last.safetensors")
        state = load_checkpoint(run / "checkpoint.pt")
        for name, tensor in last.state_dict().items():
            assert torch.equal(tensor, state["average"][name]), name
        assert any(not torch.equal(state["average"][n], state["network"][n]) for n in state["average"])
        assert state["best"] == scores[best]

    def test_the_model_file_says_what_it_is(self, run, genotypes):
        description = read_description(run / "last.safetensors")
        assert tasks_of(description.genotype.space) == ("derain", "desnow")
        for task, path in genotypes.items():
            mine = {
                k.removeprefix(f"{task}/"): v for k, v in description.genotype.choices.items() if k[:6] == task
            }
            assert mine == Genotype.read(path).choices
        training = description.training
        assert (training["seed"], training["epoch"], training["steps"]) == (0, 1, 6)
        assert training["input"] == [3, 16, 16]
        weights = sum(p.numel() for p in description.genotype.network().parameters())
        assert training["parameters"] == weights
        assert training["macs"] > 0
        assert sum(training["backgrounds"].values()) == len(builtin_photographs("training"))
        assert min(training["backgrounds"].values()) > 0
        assert "init" not in training
        assert {"manas", "torch", "config_sha256"} <= training.keys()
        assert {t: [s["weather"] for s in ss] for t, ss in description.degradations.items()} == {
            "derain": ["rain"],
            "desnow": ["snow"],
        }

    def test_the_model_restores(self, run):
        restorer = manas.Restorer.load(run / "model.safetensors", device="cpu")
        picture = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
        assert restorer(picture).shape == picture.shape


def test_the_model_is_kept_when_validation_falls(genotypes, tmp_path, monkeypatch):
    scores = iter([{"psnr": 2.0, "psnr/derain": 2.0}, {"psnr": 1.0, "psnr/derain": 1.0}])
    monkeypatch.setattr(module, "validate", lambda *_, **__: next(scores))
    run = tmp_path / "run"
    manas.retrain(retrain_config(genotypes["derain"], run=str(run)))
    assert read_description(run / "model.safetensors").training["epoch"] == 0
    assert read_description(run / "last.safetensors").training["epoch"] == 1
    assert load_checkpoint(run / "checkpoint.pt")["best"] == 2.0


def test_weights_and_validation_see_other_backgrounds(genotypes, tmp_path, monkeypatch):
    parts = []
    batches, validation = Backgrounds.batches, Backgrounds.validation
    note = parts.append
    monkeypatch.setattr(
        Backgrounds, "batches", lambda self, part, **k: note(f"batches {part}") or batches(self, part, **k)
    )
    monkeypatch.setattr(
        Backgrounds, "validation", lambda self, part: note(f"validation {part}") or validation(self, part)
    )
    manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path), epochs=1, steps=1))
    # for the start, for the steps, and for the statistics
    assert parts == ["batches kept", "validation held", "batches kept", "batches kept"]


class TestGenotypes:
    def trained(self, genotype, folder, **changes):
        model = manas.retrain(retrain_config(genotype, run=str(folder), epochs=1, steps=1, **changes))
        return read_description(model).genotype

    def test_of_a_lone_tower(self, genotypes, tmp_path):
        trained = self.trained(genotypes["derain"], tmp_path)
        own = Genotype.read(genotypes["derain"])
        assert trained.space == RestorationSpace(towers={"derain": own.space}, stitch="none", fusion="mean")
        assert trained.choices == {f"derain/{label}": name for label, name in own.choices.items()}

    def test_of_one_task_by_name(self, genotypes, tmp_path):
        assert tasks_of(self.trained({"derain": genotypes["derain"]}, tmp_path).space) == ("derain",)

    def test_a_run_directory_stands_for_its_genotype(self, genotypes, tmp_path):
        """Of a search; and of a retraining, whose model has a whole network."""
        own = Genotype.read(genotypes["derain"])
        own.write(tmp_path / "searched" / "genotype.json")
        trained = self.trained({"derain": str(tmp_path / "searched")}, tmp_path / "run")
        assert trained.choices == {f"derain/{label}": name for label, name in own.choices.items()}
        assert self.trained(str(tmp_path / "run"), tmp_path / "again") == trained

    def test_a_file_of_any_suffix_is_a_genotype(self, genotypes, tmp_path):
        own = Genotype.read(genotypes["derain"]).write(tmp_path / "a.txt")
        assert tasks_of(self.trained({"derain": str(own)}, tmp_path / "run").space) == ("derain",)

    @pytest.mark.parametrize(("stitch", "fusion"), [("none", "mean"), ("channel", "conv")])
    def test_of_each_task(self, stitch, fusion, genotypes, tmp_path):
        trained = self.trained(genotypes, tmp_path, stitch=stitch, fusion=fusion, **TWO_TASKS)
        assert (trained.space.stitch, trained.space.fusion) == (stitch, fusion)

    def test_of_a_whole_network(self, tmp_path):
        space = RestorationSpace(
            towers={"derain": tower(), "desnow": tower()}, stitch="searched", fusion="searched"
        )
        whole = Genotype.sample(space, seed=4)
        trained = self.trained(str(whole.write(tmp_path / "whole.json")), tmp_path / "run", **TWO_TASKS)
        assert (trained.space, trained.choices) == (whole.space, whole.choices)
        written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        again = manas.retrain(module.RetrainConfig.model_validate(written | {"run": str(tmp_path / "again")}))
        assert read_description(again).genotype.choices == whole.choices

    def test_of_a_whole_network_nothing_is_left_to_choose(self, tmp_path):
        whole = Genotype.sample(RestorationSpace(towers={"derain": tower(), "desnow": tower()}), seed=0)
        path = str(whole.write(tmp_path / "whole.json"))
        with pytest.raises(ManasError, match=r"stitch and fusion cannot be set .* leave it out"):
            self.trained(path, tmp_path / "run", stitch="channel", fusion="conv", **TWO_TASKS)

    def test_a_whole_network_is_no_tower(self, tmp_path):
        whole = Genotype.sample(RestorationSpace(towers={"derain": tower()}), seed=0).write(
            tmp_path / "whole.json"
        )
        with pytest.raises(ManasError, match="'derain' is of a whole network; give it without a task"):
            self.trained({"derain": str(whole)}, tmp_path / "run")

    def test_a_lone_tower_for_two_tasks_is_refused(self, genotypes, tmp_path):
        with pytest.raises(
            ManasError, match="one tower for the tasks derain, desnow; give --genotype task=path"
        ):
            self.trained(genotypes["derain"], tmp_path, **TWO_TASKS)


class TestLosses:
    short = {"epochs": 1, "steps": 1, **TWO_TASKS}

    def names(self, genotypes, run, **changes):
        """The names of the terms of the loss, without those of the images."""
        manas.retrain(retrain_config(genotypes, run=str(run), **self.short, **changes))
        named = {name.removeprefix("training/") for name in lines(run)[0] if name.startswith("training/")}
        return {name for name in named if not name.startswith("global/")} - {"gradient"}, named

    @pytest.mark.parametrize("fusion", ["mask", "conv"])
    def test_a_fusion_that_learns_needs_the_global_loss(self, fusion, genotypes, tmp_path):
        with pytest.raises(
            ManasError, match=r"loss\.fused=0 leaves the fusion without a gradient.*fusion=mean"
        ):
            self.names(genotypes, tmp_path / "run", loss={"fused": 0}, fusion=fusion)

    def test_one_that_does_not_learn_does_without(self, genotypes, tmp_path):
        others, names = self.names(genotypes, tmp_path, loss={"fused": 0}, fusion="mean")
        assert others == {"local/derain", "local/desnow"}
        assert names - others == {"gradient"}

    def test_the_chosen_fusion_counts(self, tmp_path):
        towers = {"derain": tower(), "desnow": tower()}
        space = RestorationSpace(towers=towers, fusion="searched")
        paths = {}
        for name in ("mean", "mask"):
            whole = Genotype(space=space, choices=Genotype.sample(space, seed=0).choices | {"fusion": name})
            paths[name] = str(whole.write(tmp_path / f"{name}.json"))
        self.names(paths["mean"], tmp_path / "run", loss={"fused": 0})
        with pytest.raises(ManasError, match="without a gradient"):
            self.names(paths["mask"], tmp_path / "other", loss={"fused": 0})

    def test_the_global_loss_alone(self, genotypes, tmp_path):
        others, names = self.names(genotypes, tmp_path, loss={"local": 0})
        assert others == set()
        assert "global/mse" in names

    def test_stages_of_every_tower(self, genotypes, tmp_path):
        others, _ = self.names(genotypes, tmp_path, loss={"stages": 0.1})
        assert others == {f"{kind}/{task}" for kind in ("local", "stages") for task in genotypes}

    def test_stages_without_the_local_losses_are_refused(self, genotypes, tmp_path):
        with pytest.raises(ManasError, match=r"loss\.stages counts beside the local losses"):
            self.names(genotypes, tmp_path / "run", loss={"stages": 0.1, "local": 0})

    def test_cmudrn_with_the_loss_of_drn(self, tmp_path):
        small = DualRecursive(channels=4, stages=2, recursions=1)
        space = load_space("cmudrn").model_copy(update={"towers": dict.fromkeys(("derain", "desnow"), small)})
        whole = str(Genotype(space=space, choices={}).write(tmp_path / "cmudrn.json"))
        loss = {"mse": 0, "tv": 0, "internal": 0, "stages": 0.1}
        others, names = self.names(whole, tmp_path / "run", loss=loss)
        assert others == {f"{kind}/{task}" for kind in ("local", "stages") for task in ("derain", "desnow")}
        assert names - others == {"global/ssim", "gradient"}
        assert read_description(tmp_path / "run" / "model.safetensors").genotype.space == space

    def test_drn_alone_with_its_loss_and_clean_samples(self, tmp_path):
        path = str(
            Genotype.sample(DualRecursive(channels=4, stages=2, recursions=1), seed=0).write(
                tmp_path / "drn.json"
            )
        )
        loss = {"mse": 0, "tv": 0, "internal": 0, "stages": 0.1, "local": 0}
        run, data = tmp_path / "run", {"clean_share": 0.5}
        manas.retrain(retrain_config(path, run=str(run), epochs=1, steps=1, loss=loss, data=data))
        names = {name for name in lines(run)[0] if name.startswith("training/")}
        assert names == {"training/global/ssim", "training/stages/derain", "training/gradient"}


def test_the_first_step_moves_stitches_by_their_factor_more(tmp_path):
    """And never decays them: with the decay of the weights they would move otherwise."""
    small = DualRecursive(channels=4, stages=2, recursions=1)
    genotypes = dict.fromkeys(
        ("derain", "desnow"), str(Genotype.sample(small, seed=0).write(tmp_path / "drn.json"))
    )
    moved = {}
    for name, changes in {
        "once": {},
        "tenfold": {"stitch_rate": 10.0},
        "decaying": {"optimiser": {"name": "adamw", "decay": 0.5}},
    }.items():
        run = tmp_path / name
        manas.retrain(retrain_config(genotypes, run=str(run), epochs=1, steps=1, **TWO_TASKS, **changes))
        state = load_checkpoint(run / "checkpoint.pt")["network"]
        matrices = [tensor[..., 0] for key, tensor in state.items() if key.startswith("stitches.")]
        assert matrices
        start = torch.full((2, 2), 0.1).fill_diagonal_(0.9)
        moved[name] = torch.stack(matrices) - start
    assert moved["once"].abs().min() > 0
    torch.testing.assert_close(moved["tenfold"], 10 * moved["once"], rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(moved["decaying"], moved["once"], rtol=1e-2, atol=1e-6)


def poisoned(monkeypatch, *places):
    """Makes the batches of these places of the stream of weights' batches NaN."""
    batches = Backgrounds.batches

    def some_broken(self, part, *, step=0, **options):
        for place, batch in enumerate(batches(self, part, step=step, **options), step):
            bad = (part, place) in places
            yield (
                Batch(torch.full_like(batch.degraded, float("nan")), batch.clean, batch.task) if bad else batch
            )

    monkeypatch.setattr(Backgrounds, "batches", some_broken)


def all_finite(state):
    return all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize(("step", "log_every"), [(0, 1), (2, 10), (3, 2)])
def test_a_broken_batch_breaks_neither_network_nor_average(step, log_every, genotypes, tmp_path, monkeypatch):
    """Wherever it stands between two entries of the metrics and two checkpoints; statistics included."""
    poisoned(monkeypatch, ("kept", step))
    model = manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path), log_every=log_every))
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all_finite(state["network"])
    assert all_finite(state["average"])
    network, description = load_model(model)
    assert all_finite(network.state_dict())
    best = description.training["steps"]
    assert description.training["steps_left_out"] == (step < best)
    assert ("broken_gradients" in description.training) == (step < best)


def test_the_line_of_an_epoch_says_which_layers_broke_steps(genotypes, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    poisoned(monkeypatch, ("kept", 4))
    manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path)))
    first, second = [text for text in said if text.startswith("epoch")]
    assert "left out" not in first
    assert re.search(r"; 1 step left out so far \(towers\.derain\.\S+ 1, .* and \d+ others\)$", second)


def test_a_broken_batch_before_an_interruption_is_remembered(genotypes, tmp_path, monkeypatch):
    """Metrics of a resumed run count the steps left out from the beginning."""
    poisoned(monkeypatch, ("kept", 1))
    config = retrain_config(genotypes["derain"], run=str(tmp_path))
    with monkeypatch.context() as patch:
        advance, done = Progress.advance, []
        patch.setattr(Progress, "advance", lambda self: done.append(advance(self)) or 1 // (5 - len(done)))
        with pytest.raises(ZeroDivisionError):
            manas.retrain(config)
    gc.collect()
    manas.retrain(config, resume=True)
    counts = [line["steps_left_out"] for line in lines(tmp_path) if "rate" in line]
    assert counts == [0, 1, 1, 1, 1, 1]


def test_a_broken_batch_of_the_alphas_or_of_the_weights_breaks_no_search(tmp_path, monkeypatch):
    poisoned(monkeypatch, ("held", 0), ("kept", 2), ("held", 3), ("kept", 4))
    manas.search(search_config(run=str(tmp_path), warmup=0))
    assert all_finite(load_checkpoint(tmp_path / "checkpoint.pt")["network"])
    assert max(line.get("steps_left_out", 0) for line in lines(tmp_path)) >= 2


def test_steps_that_never_succeed_end_the_run(genotypes, tmp_path, monkeypatch):
    poisoned(monkeypatch, *(("kept", step) for step in range(60)))
    with pytest.raises(ManasError, match="in the last 50 steps"):
        manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path), epochs=1, steps=60, log_every=51))
    gc.collect()


@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_bf16_runs_and_its_losses_are_float32(kind, genotypes, tmp_path, monkeypatch):
    seen, outputs = [], []
    terms_of = step.restoration_terms

    def watched(restoration, *arguments, **options):
        terms = terms_of(restoration, *arguments, **options)
        outputs.append(restoration.fused.dtype)
        seen.extend(terms.values())
        return terms

    monkeypatch.setattr(step, "restoration_terms", watched)
    options = {"run": str(tmp_path), "precision": "bf16", "epochs": 1}
    if kind == "search":
        manas.search(search_config(**options, warmup=0, space={"residual": False}))
    else:
        other = write_genotype(tmp_path / "g.json", residual=False)
        manas.retrain(retrain_config(other, **options))
    assert set(outputs) == {torch.bfloat16}
    assert {term.dtype for term in seen} == {torch.float32}
    assert all(term.isfinite() for term in seen)
    state = load_checkpoint(tmp_path / "checkpoint.pt")["network"]
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}
    assert all_finite(state)
    assert all(np.isfinite(value) for line in lines(tmp_path) for value in line.values())


@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_bf16_runs_for_two_stitched_towers(kind, tmp_path):
    """Every stitch, every fusion and every norm meets bfloat16 features and float32 weights."""
    towers = {"derain": tower(norm="none"), "desnow": tower(norm="layer")}
    space = RestorationSpace(towers=towers, stitch="searched", fusion="searched")
    options = {"run": str(tmp_path / "run"), "precision": "bf16", "epochs": 1, "steps": 2, **TWO_TASKS}
    if kind == "search":
        manas.search(search_config(**options, warmup=0).model_copy(update={"space": space}))
    else:
        manas.retrain(retrain_config(str(Genotype.sample(space, seed=1).write(tmp_path / "g.json")), **options))
    assert all_finite(load_checkpoint(tmp_path / "run" / "checkpoint.pt")["network"])


def test_training_lowers_the_loss(genotypes, tmp_path):
    options = {"epochs": 1, "steps": 40, "schedule": {"warmup": 0}, "loss": {"internal": 0}}
    manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path), optimiser={"rate": 0.01}, **options))
    losses = [line["training/global/ssim"] for line in lines(tmp_path) if "rate" in line]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_model_is_a_function_of_the_seed(genotypes, tmp_path):
    """The same seed gives the same model, another seed another one."""
    models = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = retrain_config(genotypes["derain"], run=str(tmp_path / name), seed=seed, epochs=1, steps=1)
        models.append(load_model(manas.retrain(config))[0].state_dict())
    same = [torch.equal(models[0][name], models[1][name]) for name in models[0]]
    other = [torch.equal(models[0][name], models[2][name]) for name in models[0]]
    assert all(same)
    assert not all(other)


def test_no_graph_or_gradient_is_left_in_the_average(genotypes, tmp_path, monkeypatch):
    kept = []
    update = module.MovingAverage.update
    monkeypatch.setattr(
        module.MovingAverage, "update", lambda self, s: kept.append(self.network) or update(self, s)
    )
    manas.retrain(retrain_config(genotypes["derain"], run=str(tmp_path), epochs=1, steps=1))
    assert isinstance(kept[0], nn.Module)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in kept[0].parameters())
