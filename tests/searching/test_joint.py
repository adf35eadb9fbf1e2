"""Towers, stitches and fusion in one search; one tower given; a third task by configuration alone."""

import json

import numpy as np
import pytest
import torch
from searching.plainly import plainly
from training.tiny_runs import RAIN, SNOW, TOWER, genotype_of, retrain_settings, search_settings, write_yaml

import manas
from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.decided import Decided
from manas.architecture.finding import load_space
from manas.architecture.genotype import Genotype
from manas.architecture.weighting import OneHot
from manas.commands import main as cli
from manas.config import read_config
from manas.cost.counting import cost_table, measure
from manas.errors import ManasError
from manas.restoration.model_file import read_description
from manas.restoration.network import RestorationSpace, tasks_of
from manas.searching.config import SearchConfig

NOISE = {"task": "denoise", "weather": "noise"}
SOURCES = {"derain": RAIN, "desnow": SNOW, "denoise": NOISE}
SMALL_TOWER = TOWER | {"attention": {"groups": 1, "gates": ["none", "channel_attention"]}}
PREFIXES = {"derain", "desnow", "stitch", "fusion"}


def joint(**changes):
    """The joint preset with the smallest towers, as a configuration has it."""
    return (
        load_space("joint").model_dump(mode="json") | {"towers": dict.fromkeys(SOURCES, SMALL_TOWER)} | changes
    )


def two(**changes):
    return joint(towers=dict.fromkeys(("derain", "desnow"), SMALL_TOWER)) | changes


def settings(folder, space, **changes):
    sources = [SOURCES[task] for task in space["towers"]]
    short = {"epochs": 1, "steps": 2, "warmup": 0, "eigenvalue_every": 0}
    data = {"sources": sources, "batch": len(sources), "validation_images": 1}
    return search_settings(run=str(folder), data=data, **short) | {"space": space} | changes


def searched(folder, space, **changes):
    """The run directory of a tiny search."""
    with plainly():
        manas.search(read_config(SearchConfig, settings(folder, space, **changes)))
    return folder


def retrained(folder, genotype, tasks, **changes):
    """The model of a tiny retraining, by the command line."""
    sources = {"sources": [SOURCES[task] for task in tasks]}
    config = retrain_settings("unset", run=str(folder), epochs=1, steps=1, data=sources, **changes)
    with pytest.raises(SystemExit) as end:
        cli.main(["retrain", str(write_yaml(folder.with_suffix(".yaml"), config)), "--genotype", str(genotype)])
    assert not end.value.code
    return folder / "model.safetensors"


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def picture():
    return np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory of a joint search."""
    return searched(tmp_path_factory.mktemp("joint") / "run", two())


def test_the_preset_searches_everything():
    space = load_space("joint")
    assert (space.stitch, space.fusion, tasks_of(space)) == ("searched", "searched", ("derain", "desnow"))
    labels = space.choices()
    assert {label.split("/")[0] for label in labels} == PREFIXES
    tower = len(space.towers["derain"].choices())
    assert len(labels) == 2 * tower + len([label for label in labels if label.startswith("stitch/")]) + 1


class TestSearch:
    def test_labels_carry_their_prefix(self, run):
        genotype = genotype_of(run)
        assert {label.split("/")[0] for label in genotype.choices} == PREFIXES
        of_rain, of_snow = (
            {label.removeprefix(f"{task}/") for label in genotype.choices if label.startswith(f"{task}/")}
            for task in ("derain", "desnow")
        )
        assert of_rain == of_snow == set(load_space(SMALL_TOWER).choices())

    def test_every_alpha_moved(self, run):
        """Adam has seen a gradient of each; where the alphas are does not tell, since steps may cancel."""
        state = torch.load(run / "checkpoint.pt", weights_only=True)["alphas"]["optimiser"]["state"]
        assert len(state) == len(load_space(two()).choices())
        assert all((moments["exp_avg_sq"] > 0).all() for moments in state.values())

    def test_it_retrains_by_the_command_line(self, run, tmp_path):
        model = retrained(tmp_path / "retrained", run / "genotype.json", ("derain", "desnow"))
        genotype = genotype_of(run)
        assert read_description(model).genotype.choices == genotype.choices
        restored = manas.Restorer.load(model, device="cpu")(picture())
        assert restored.shape == (9, 6, 3)

    @pytest.mark.parametrize(
        "changes",
        [
            {"relaxation": "gumbel"},
            {"order": "second", "weights": {"clip": None}, "loss": {"stages": 0.1}},
            {"loss": {"local": 0}},
        ],
        ids=["gumbel", "second order", "global alone"],
    )
    def test_other_ways_of_searching(self, changes, tmp_path):
        folder = searched(tmp_path / "run", two(), **changes)
        assert {label.split("/")[0] for label in genotype_of(folder).choices} == PREFIXES
        assert all(np.isfinite(value) for line in lines(folder) for value in line.values())


# Invariants 1 and 2


@pytest.mark.parametrize("space", [two(), joint(), two(stitches={"shared": False, "after": [0]})])
def test_the_supernet_is_the_derived_network(space, randomised):
    space = load_space(space)
    supernet = randomised(space.supernet()).double().eval()
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for seed in range(3):
        genotype = Genotype.sample(space, seed)
        network = space.inherit(supernet, genotype).eval()
        with torch.no_grad(), relaxed_by(supernet, OneHot(genotype.choices)):
            ours, theirs = supernet(image), network(image)
        torch.testing.assert_close(ours.fused, theirs.fused, rtol=0, atol=1e-12)
        for task in tasks_of(space):
            torch.testing.assert_close(ours.tasks[task], theirs.tasks[task], rtol=0, atol=1e-12)
    assert not choices_of(network)


@pytest.mark.parametrize("metric", ["parameters", "macs"])
@pytest.mark.parametrize("tasks", [("derain", "desnow"), tuple(SOURCES)])
def test_the_expected_cost_at_one_hot_is_that_of_the_genotype(metric, tasks):
    space = load_space(joint(towers=dict.fromkeys(tasks, SMALL_TOWER)))
    table = cost_table(space, metric, (3, 16, 16))
    for seed in range(3):
        choices = Genotype.sample(space, seed).choices
        one_hot = {
            label: torch.tensor([float(choices[label] == name) for name in fork.names]).double()
            for label, fork in table.forks.items()
        }
        expected = table.expected(one_hot).item()
        assert expected == table.exact(choices)
        assert expected == measure(space.network(choices), metric, (3, 16, 16))


# One tower is given


def test_one_task_is_searched_beside_the_tower_of_another(tmp_path):
    snow = Genotype.sample(load_space(SMALL_TOWER), seed=7)
    space = two(towers={"derain": SMALL_TOWER, "desnow": str(snow.write(tmp_path / "snow.json"))})
    run = searched(tmp_path / "run", space)
    found = genotype_of(run)
    assert isinstance(found.space.towers["desnow"], Decided)
    assert {label.split("/")[0] for label in found.choices} == PREFIXES - {"desnow"}
    model = retrained(tmp_path / "retrained", run / "genotype.json", ("derain", "desnow"))
    genotype = read_description(model).genotype
    assert genotype.space.towers["desnow"].chosen == snow.choices
    theirs, mine = snow.network().state_dict(), genotype.network().towers["desnow"].state_dict()
    assert {name: tensor.shape for name, tensor in mine.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


# A third task


def test_three_tasks_from_search_to_blind_restoration(tmp_path):
    run = searched(tmp_path / "run", joint())
    genotype = Genotype.read(run / "genotype.json")
    assert tasks_of(genotype.space) == tuple(SOURCES)
    steps = lines(run)[0]
    assert {f"weights/local/{task}" for task in SOURCES} <= steps.keys()
    model = retrained(tmp_path / "retrained", run / "genotype.json", SOURCES, loss={"stages": 0.1})
    logged = lines(tmp_path / "retrained")
    assert {f"training/{kind}/{task}" for kind in ("local", "stages") for task in SOURCES} <= logged[0].keys()
    assert {f"validation/psnr/{task}" for task in SOURCES} <= logged[-1].keys()
    blind = manas.Restorer.load(model, device="cpu")(picture())
    ours = manas.Restorer.load(model, device="cpu", task="denoise")(picture())
    assert blind.shape == ours.shape == (9, 6, 3)
    assert set(read_description(model).degradations) == set(SOURCES)
    assert isinstance(genotype.space, RestorationSpace)


class TestLossesWithoutEffect:
    """As in retraining: what would have no effect, or leave a part without a gradient, is refused."""

    def refused(self, tmp_path, loss, space, sources, match):
        config = {"run": str(tmp_path / "run"), "space": space, "loss": loss}
        with pytest.raises(ManasError, match=match):
            manas.search(config | {"data": {"sources": sources, "validation_patch": 16, "patch": 16}})
        assert not (tmp_path / "run").exists()

    def test_of_a_lone_tower(self, tmp_path):
        rain = [{"task": "derain", "weather": "rain"}]
        self.refused(tmp_path, {"stages": 0.1}, "manas_tiny", rain, "stages is for a network of towers")

    @pytest.mark.parametrize(
        ("loss", "match"), [({"fused": 0}, "fusion without a gradient"), ({"stages": 1, "local": 0}, "local=0")]
    )
    def test_of_two_towers(self, tmp_path, loss, match):
        sources = [{"task": "derain", "weather": "rain"}, {"task": "desnow", "weather": "snow"}]
        self.refused(tmp_path, loss, "joint", sources, match)
