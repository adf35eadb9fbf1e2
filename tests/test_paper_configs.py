"""The papers' protocols: every configuration is valid, of the published size, and runs where its data is."""

import json
from pathlib import Path

import pytest
import torch
from data.archives.layouts import MINIATURES, Miniature, one_folder

import manas
from manas.architecture.choice import weight_parameters
from manas.architecture.finding import load_space
from manas.config import read_config
from manas.data.dataset.cache import ImageCache
from manas.restoration.model_file import load_model, read_description
from manas.searching.config import SearchConfig
from manas.training.config import RetrainConfig

FOLDER = Path(__file__).parents[1] / "experiments" / "configs" / "paper"
SEARCHES = ("manas_search", "clearer_search")
RETRAININGS = ("manas_retrain", "clearer_retrain", "drn_rain100l", "drn_rain100h", "cmudrn")
MULTISTEP = [(0.3, 1.0, 0.5), (0.5, 0.5, 0.25), (0.8, 0.25, 0.125)]


def config_of(name, *overrides):
    model = SearchConfig if name in SEARCHES else RetrainConfig
    return read_config(model, FOLDER / f"{name}.yaml", overrides)


def images_seen(config):
    return config.epochs * config.steps * config.data.batch * config.data.versions


def count(module):
    return sum(parameter.numel() for parameter in weight_parameters(module))


def test_every_configuration_is_known_here():
    assert {path.stem for path in FOLDER.glob("*")} == {*SEARCHES, *RETRAININGS}


@pytest.mark.parametrize("name", [*SEARCHES, *RETRAININGS])
def test_runs_do_not_share_a_directory_and_data_is_where_it_is_put(name):
    config = config_of(name)
    assert config.run == f"runs/paper/{name}"
    assert all(source.pairs.startswith("data/") for source in config.data.sources)


@pytest.mark.parametrize("system", ["manas", "clearer"])
def test_what_a_search_finds_is_retrained(system):
    search, retraining = config_of(f"{system}_search"), config_of(f"{system}_retrain")
    assert retraining.genotype == f"{search.run}/genotype.json"
    for name in ("sources", "versions", "patch"):
        assert getattr(retraining.data, name) == getattr(search.data, name)
    assert retraining.loss == search.loss


@pytest.mark.parametrize(
    ("name", "parameters", "forks"),
    [("manas_search", 13_296_167, 39), ("clearer_search", 12_558_528, 12)],
)
def test_size_of_a_supernet(name, parameters, forks):
    space = config_of(name).space
    with torch.device("meta"):
        assert count(space.supernet()) == parameters
    assert len(space.choices()) == forks


@pytest.mark.parametrize(
    ("name", "parameters"), [("drn_rain100l", 10_595), ("drn_rain100h", 10_595), ("cmudrn", 2 * 10_595 + 1_630)]
)
def test_size_of_a_network(name, parameters):
    """Of CMUDRN, 7 x 4 entries of stitches and 1,602 parameters of the mask are beside the towers."""
    with torch.device("meta"):
        assert count(load_space(config_of(name).genotype).network()) == parameters


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("manas_search", 200 * 1000 * 48),
        ("manas_retrain", 200 * 500 * 96),
        ("clearer_search", 200 * 50 * 32),
        ("clearer_retrain", 2000 * 100 * 32),
        ("drn_rain100l", 100 * 200 * 2 * 15),
        ("cmudrn", 2 * 100 * 1176 * 16),
    ],
)
def test_images_seen(name, images):
    assert images_seen(config_of(name)) == images


def test_heavy_rain_is_seen_as_often_as_in_the_paper():
    patches = 100 * 1254 * 15  # the last batch of an epoch is smaller there
    assert 0 <= images_seen(config_of("drn_rain100h")) - patches < 100 * 16


@pytest.mark.parametrize("name", ["drn_rain100l", "drn_rain100h", "cmudrn"])
def test_the_rate_of_drn_is_halved_after_epochs_30_50_and_80(name):
    config = config_of(name)
    total = config.epochs * config.steps
    for share, before, after in MULTISTEP:
        at = round(share * config.epochs) * config.steps
        assert config.schedule.factor(at - 1, total) == before
        assert config.schedule.factor(at, total) == after


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("manas_search", 2e-3, 1e-4),
        ("clearer_search", 0.025, 0.001),
        ("manas_retrain", 1e-3, 0),
        ("clearer_retrain", 2e-3, 0),
    ],
)
def test_the_rate_falls_by_a_cosine(name, first, last):
    config = config_of(name)
    optimiser = config.weights if name in SEARCHES else config.optimiser
    rates = [optimiser.rate * config.schedule.factor(step, 1000) for step in (0, 500, 1000)]
    assert rates == pytest.approx([first, (first + last) / 2, last])


@pytest.mark.parametrize("name", SEARCHES)
def test_the_alphas_move_after_ten_epochs(name):
    config = config_of(name)
    assert config.first_alpha_step == 10 * config.steps
    assert config.architecture == pytest.approx(0.01 / torch.tensor(10.0).log().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["manas_search", "manas_retrain"])
def test_the_internal_loss_sets_in_after_five_epochs(name):
    config = config_of(name)
    total = config.epochs * config.steps
    assert "internal" not in config.loss.active((5 * config.steps - 1) / total)
    assert config.loss.active(5 * config.steps / total) == {"mse": 1, "ssim": 1, "tv": 1e-4, "internal": 1}


@pytest.mark.parametrize(
    ("name", "augment"),
    [
        ("manas_search", ["eightfold"]),
        ("manas_retrain", ["eightfold"]),
        ("clearer_search", ["eightfold"]),
        ("clearer_retrain", ["eightfold"]),
        ("drn_rain100l", ["mirror"]),
        ("drn_rain100h", ["none"]),
        ("cmudrn", ["none", "mirror"]),
    ],
)
def test_pairs_are_augmented_as_in_the_released_code_and_it_is_written(name, augment):
    config = config_of(name)
    assert [source.augment for source in config.data.sources] == augment
    assert all("augment" in source.model_fields_set for source in config.data.sources)


SETS = {
    "DID-MDN-training": MINIATURES["did_mdn"](),
    "Rain800/training": MINIATURES["rain800 left"](),
    "RainTrainL": MINIATURES["rain100 training"](),
    "RainTrainH": MINIATURES["rain100 training"](),
    "Snow100K/training": MINIATURES["snow100k training"](),
}
SMALL = {
    "device": "cpu",
    "epochs": 1,
    "steps": 2,
    "log_every": 1,
    "data.patch": 16,
    "data.batch": 2,
    "data.workers": 0,
    "data.validation_patch": 16,
    "data.validation_images": 1,
}
NARROW = "{kind: multi_scale_attentive, channels: [4, 8, 16, 32], columns: [1, 1, 1], attention: %s, %s}"
STEM = "stem: {blocks: 1, planes: 2, expansion: 2}"
SPACES = {
    "manas_search": NARROW % ("{gates: [none, skip_connect, sep_conv_3x3, cbam]}", STEM),
    "clearer_search": NARROW % ("null", STEM),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A function that gives the directory of a finished run of two steps, as the configuration has it.

    It runs with the data in its published layout, relative to the folder where it is started. Spaces of
    paper size are replaced by narrow ones.
    """
    root, threads = tmp_path_factory.mktemp("paper"), torch.get_num_threads()
    for name, miniature in SETS.items():
        miniature.write(root / "data" / name)
    test = one_folder("norain-{:03}.png", "rainy/rain-{:03}.png")  # with one of the training backgrounds
    Miniature("rain100", {n: image for n, image in test.files.items() if "010" in n}, ("rainy",), (10,)).write(
        root / "data" / "Rain100H"
    )
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield _finished
    torch.set_num_threads(threads)


def _finished(name):
    small = [f"{key}={value}" for key, value in SMALL.items()]
    run = Path(config_of(name).run)
    if run.exists():
        return run
    if name in SEARCHES:
        manas.search(config_of(name, *small, f"space={SPACES[name]}"))
    else:
        manas.retrain(config_of(name, *small))
    return run


def logged(run, name):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_runs(name, finished):
    genotype = manas.Genotype.read(finished(name) / "genotype.json")
    assert genotype.choices.keys() == load_space(genotype.space).choices().keys()


@pytest.mark.parametrize("name", ["manas_retrain", "clearer_retrain"])
def test_what_it_finds_is_retrained(name, finished):
    found = manas.Genotype.read(finished(name.replace("retrain", "search")) / "genotype.json")
    genotype = read_description(finished(name) / "model.safetensors").genotype
    assert list(genotype.choices.values()) == list(found.choices.values())
    assert list(genotype.space.towers) == ["derain"]


@pytest.mark.parametrize("name", ["drn_rain100l", "drn_rain100h", "cmudrn"])
def test_a_network_made_by_hand_is_trained_as_it_is(name, finished):
    run = finished(name)
    network, description = load_model(run / "model.safetensors")
    preset = load_space(config_of(name).genotype)
    space = description.genotype.space
    assert (space if name == "cmudrn" else space.towers["derain"]) == preset
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    for task in space.towers:
        assert len(logged(run, f"training/stages/{task}")) == 2
    assert logged(run, "rate") == pytest.approx([1e-3, 0.25e-3])  # three and five tenths of two steps are one


def test_backgrounds_of_the_test_set_are_left_out(finished):
    finished("drn_rain100h")
    for name, scenes in (("drn_rain100h", "12"), ("drn_rain100l", ("1", "2", "10")), ("cmudrn", "12")):
        source = config_of(name).data.sources[0].open(1, ImageCache(0))
        assert {scene.name for scene in source.scenes} == set(scenes)
