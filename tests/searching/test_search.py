"""The search end to end: two groups of parameters on two parts of the backgrounds, and what is left behind."""

import json
from functools import partial

import pytest
import torch
import yaml
from searching.plainly import plainly
from torch import nn
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
from manas.architecture.choice import choices_of
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.data.dataset.backgrounds import Backgrounds
from manas.errors import ManasError
from manas.restoration.model_file import read_description
from manas.restoration.network import RestorationSpace
from manas.restoration.tower import Tower
from manas.searching.config import SearchConfig
from manas.searching.gradient import GradientSearch
from manas.training.checkpoint import load_checkpoint
from manas.training.from_run import genotype_from
from manas.training.run import WRITTEN


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Pooled(SearchSpace):
    """Pools, and multiplies by one weight: no convolution, and no MACs."""

    def build(self, decide):
        return PooledTower(decide)


class PooledTower(Tower):
    size_multiple = 1
    channels = ((3,),)

    def __init__(self, decide):
        super().__init__()
        pools = {pool.__name__.lower(): partial(pool, 3, 1, 1) for pool in (nn.AvgPool2d, nn.MaxPool2d)}
        self.pool = decide("pool", pools)
        self.scale = nn.Parameter(torch.ones(1))

    def stem(self, image):
        return [image]

    def stages(self):
        return [lambda features, image: [self.pool(features[0])]]

    def head(self, features, image):
        return self.scale * features[0]


@pytest.fixture
def plain():
    with plainly():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory of a search."""
    path = tmp_path_factory.mktemp("searched") / "run"
    manas.search(search_config(run=str(path)))
    return path


class TestWholeRun:
    def test_everything_is_written(self, run):
        names = {path.name for path in run.iterdir()}
        assert names - {"report.html"} == {
            "checkpoint.pt",
            "config.yaml",
            "cost.json",
            "environment.json",
            "evidence.json",
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
        last = Genotype.read(run / "genotypes" / "epoch_0001.json")
        assert (genotype.space, genotype.choices) == (last.space, last.choices)
        own = {
            name: genotype.provenance[name] for name in ("verdict", "decided_by", "compute", "compute_judging")
        }
        assert genotype.provenance == {**last.provenance, **own}
        assert own["decided_by"].keys() == genotype.choices.keys()
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
        assert SearchConfig.model_validate(written) == search_config(run=str(run))

    def test_metrics_by_name(self, run):
        steps = [line for line in lines(run) if "weights/gradient" in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
        assert {"weights/global/mse", "weights/global/ssim", "weights/global/tv"} <= steps[0].keys()
        assert not any(name.startswith("alphas/") for line in steps[:2] for name in line)
        for name in ("global/mse", "complexity", "gradient"):
            assert all(f"alphas/{name}" in line for line in steps[2:])
        assert ["alphas/architecture" in line for line in steps] == [False] * 3 + [True] * 3  # the later half
        epochs = [line for line in lines(run) if "validation/psnr_relaxed" in line]
        assert [line["step"] for line in epochs] == [3, 6]
        for line in epochs:
            for label, names in tower().choices().items():
                shares = [line[f"probabilities/{label}/{name}"] for name in names]
                assert sum(shares) == pytest.approx(1)


def test_health_by_name_once_an_epoch(run):
    """Everything by which a search can be judged later (issue 3, Health)."""
    epochs = [line for line in lines(run) if "health/skip_share" in line]
    assert [line["step"] for line in epochs] == [3, 6]
    for line in epochs:
        gap = line["validation/psnr_relaxed"] - line["validation/psnr_one_hot"]
        assert line["validation/discretisation_gap"] == pytest.approx(gap)
        assert line["health/cost"] > 0
        assert 0 <= line["health/skip_share"] + line["health/zero_share"] <= 1
        assert isinstance(line["health/eigenvalue"], float)
        assert line["health/alpha_gradient"] > 0
        entropies = [value for name, value in line.items() if name.startswith("entropy/")]
        assert len(entropies) == 2  # columns and gates
        assert all(0 < entropy <= 1 for entropy in entropies)
        for tag in ("parallel+fusion", "none+..+channel_attention_4"):
            shares = [value for name, value in line.items() if name.startswith(f"shares/{tag}/")]
            assert sum(shares) == pytest.approx(1)
    assert epochs[-1]["health/cost"] == Genotype.read(run / "genotype.json").provenance["macs"]


def test_the_alphas_of_an_epoch_at_rest_have_no_gradient(tmp_path):
    with plainly():
        manas.search(search_config(run=str(tmp_path), epochs=2, steps=1, warmup=0.5, eigenvalue_every=2))
    first, second = (line for line in lines(tmp_path) if "health/skip_share" in line)
    assert "health/alpha_gradient" not in first
    assert "health/alpha_gradient" in second
    assert "health/eigenvalue" not in first  # of every second epoch
    assert "health/eigenvalue" in second


def test_how_it_went_is_said_in_words(tmp_path, capsys):
    with plainly():
        genotype = manas.search(
            search_config(run=str(tmp_path), epochs=1, steps=1, warmup=0.99, eigenvalue_every=0)
        )
    assert genotype.provenance["verdict"] == [
        "the alphas were at rest throughout (epochs: 1), so the genotype is a random draw; lower warmup or "
        "search for more epochs"
    ]
    assert capsys.readouterr().err.endswith(genotype.provenance["verdict"][0] + "\n")


def test_resuming_a_finished_search_changes_nothing(tmp_path):
    config = search_config(run=str(tmp_path), epochs=1, steps=2, warmup=0)
    with plainly():
        found = manas.search(config)
        before = {
            p: p.read_bytes() for p in tmp_path.rglob("*") if p.suffix in (".json", ".jsonl", ".yaml", ".png")
        }
        assert manas.search(config, resume=True) == found
    (tmp_path / "environment.json").write_bytes(before[tmp_path / "environment.json"])  # it says when and how
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("plain")
def test_the_same_seed_gives_the_same_genotype(tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        manas.search(search_config(run=str(tmp_path / name), seed=seed, epochs=1))
        state = load_checkpoint(tmp_path / name / "checkpoint.pt")
        found.append((state["network"], state["choices"], state["history"]))
    assert identical(found[0], found[1])
    assert not identical(found[0], found[2])


@pytest.mark.usefixtures("plain")
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
    """Every background that is drawn, by part: the clean picture that the crop is cut from."""
    seen = {"kept": set(), "held": set()}
    crop = Backgrounds._crops

    def watched(self, part, *arguments, **options):
        crops = crop(self, part, *arguments, **options)
        item = type(crops).__getitem__

        class Watched(type(crops)):
            def __getitem__(self, key):
                source = self.sources[key.source]
                seen[part].add(source.pictures[self.chosen[key.source][key.background]])
                return item(self, key)

        crops.__class__ = Watched
        return crops

    monkeypatch.setattr(Backgrounds, "_crops", watched)
    return seen


@pytest.mark.usefixtures("plain")
def test_weights_and_alphas_see_other_backgrounds(tmp_path, monkeypatch):
    seen = watch_batches(monkeypatch)
    steps = []
    weight_step, alpha_step = GradientSearch._weight_step, GradientSearch._alpha_step
    monkeypatch.setattr(
        GradientSearch, "_weight_step", lambda s, b, n: steps.append(("w", b)) or weight_step(s, b, n)
    )
    monkeypatch.setattr(
        GradientSearch,
        "_alpha_step",
        lambda s, held, kept, n: steps.append(("a", held)) or alpha_step(s, held, kept, n),
    )
    manas.search(search_config(run=str(tmp_path), data={"sources": [RAIN, SNOW]}, warmup=0, steps=8, epochs=1))
    assert seen["kept"]
    assert seen["held"]
    assert not seen["kept"] & seen["held"]
    assert [kind for kind, _ in steps] == ["a", "w"] * 8
    of_weights, of_alphas = ({b.clean.numpy().tobytes() for k, b in steps if k == kind} for kind in "wa")
    assert not of_weights & of_alphas


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_statistics_of_the_alpha_step(statistics, tmp_path, monkeypatch):
    modes = []
    alpha_step = GradientSearch._alpha_step

    def watched(self, held, kept, step):
        terms = alpha_step(self, held, kept, step)
        modes.append(self.network.training)
        return terms

    monkeypatch.setattr(GradientSearch, "_alpha_step", watched)
    manas.search(search_config(run=str(tmp_path), warmup=0, alpha_statistics=statistics, epochs=1, steps=2))
    assert modes == [statistics == "batch"] * 2
    assert all(t.isfinite().all() for t in load_checkpoint(tmp_path / "checkpoint.pt")["network"].values())


@pytest.mark.usefixtures("plain")
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
    manas.search(SearchConfig.model_validate(settings | {"space": space}))
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

    def test_a_space_without_any_cost(self, tmp_path):
        """The share of the dearest architecture would be no number, and every step of the alphas left out."""
        config = search_config(run=str(tmp_path / "run")).model_copy(update={"space": Pooled()})
        with pytest.raises(ManasError, match="no architecture of it has any macs, .* another metric"):
            manas.search(config)
        assert not (tmp_path / "run").exists()

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
