"""The command line: a user's mistake is one line that says what, where and what to do, and exit code 2."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from training.tiny_runs import (
    RAIN,
    REPOSITORY,
    TOWER,
    merged,
    retrain_settings,
    search_settings,
    tower,
    write_genotype,
    write_yaml,
)

import manas
from manas.architecture.genotype import Genotype
from manas.commands import main as cli
from manas.data.images import read_image, write_image


def call(*arguments):
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    return end.value.code or 0


def noise(path, height=20, width=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return write_image(path, pixels)


def pairs_in(folder):
    for seed, name in enumerate(("001", "002")):
        for kind in ("clean", "light", "heavy"):
            noise(folder / kind / f"{name}.png", seed=seed)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the run of a search, the run of a retraining, its configuration and its genotype."""
    folder = tmp_path_factory.mktemp("models")
    short = {"epochs": 1, "steps": 1}
    manas.search(write_yaml(folder / "search.yaml", search_settings(**short, run=str(folder / "search"))))
    settings = retrain_settings(write_genotype(folder / "derain.json"), **short, run=str(folder / "retrain"))
    manas.retrain(write_yaml(folder / "retrain.yaml", settings))
    return folder


@pytest.fixture
def config(tmp_path):
    """A configuration file of a search."""
    return write_yaml(tmp_path / "config.yaml", search_settings(run=str(tmp_path / "run"), epochs=1, steps=1))


def space(**changes):
    return f"space={json.dumps(merged(TOWER, changes))}"


def sources(*given):
    return f"data.sources={json.dumps(given)}"


# Each case: what is set, and what the line must say.
BAD_SETTINGS = {
    "unknown key": ("epocs=3", ["config.yaml", "'epocs'", "did you mean 'epochs'"]),
    "unknown inner key": ("data.pach=32", ["config.yaml", "'data.pach'", "did you mean 'patch'"]),
    "unknown key in a list": (
        sources({"task": "derain", "wether": "rain"}),
        ["'data.sources.0.wether'", "did you mean 'weather'"],
    ),
    "wrong type": ("epochs=many", ["config.yaml", "epochs", "integer", "'many'"]),
    "wrong inner type": ("data.patch=[64]", ["data.patch", "integer", "[64]"]),
    "not one of": ("precision=float16", ["precision", "'float32' or 'bf16'", "'float16'"]),
    "too small": ("epochs=0", ["epochs", "greater than or equal to 1", "given: 0"]),
    "too large": ("warmup=1", ["warmup", "less than 1", "given: 1"]),
    "negative rate": ("weights.rate=-1", ["weights.rate", "greater than 0", "-1"]),
    "no number": ("weights.rate=.nan", ["weights.rate", "nan"]),
    "infinite": ("weights.rate=.inf", ["weights.rate", "inf"]),
    "momentum of an optimiser": ("weights.betas=[1.5, 0.9]", ["weights.betas", "1.5"]),
    "no sources": ("data.sources=[]", ["data.sources", "at least 1"]),
    "two kinds of source": (sources(RAIN | {"pairs": "x"}), ["'derain'", "either 'weather' or 'pairs'"]),
    "unknown weather": (
        sources({"task": "derain", "weather": "hail"}),
        ["sources.0.weather", "'rain', 'snow' or 'noise'"],
    ),
    "override without value": ("epochs", ["--set epochs", "key=value"]),
    "override that is no YAML": ("epochs=[", ["--set epochs=[", "YAML"]),
    "override inside a value": ("epochs.x=1", ["--set epochs.x=1", "'epochs' holds a value"]),
    "override inside a value of the file": (
        "data.patch.x=1",
        ["--set data.patch.x=1", "'patch' holds a value"],
    ),
    "unknown preset": ("space=manas_tinny", ["'manas_tinny'", "did you mean 'manas_tiny'"]),
    "missing space file": ("space=nowhere.yaml", ["nowhere.yaml", "cannot be read", "existing YAML file"]),
    "space that is no space": ("space=json:loads", ["'json:loads'", "no SearchSpace", "subclass"]),
    "space in no module": ("space=no_such_module:Space", ["cannot import", "no_such_module"]),
    "unknown kind": (space(kind="multiscale_attentive"), ["did you mean 'multi_scale_attentive'"]),
    "unknown space option": (space(chanels=[4]), ["'chanels'", "did you mean 'channels'"]),
    "unknown gate": (
        space(attention={"gates": ["chanel_attention"]}),
        ["attention.gates", "unknown gate 'chanel_attention'", "did you mean 'channel_attention'"],
    ),
    "channels that do not fit": (space(channels=[4, 7]), ["7", "2 attention groups"]),
    "space without forks": (space(columns=[0], attention=None), ["no forks", "retrain it"]),
    "too many versions": ("data.versions=4", ["data.versions", "3", "set data.versions=3"]),
    "crops larger than the images": ("data.patch=4096", ["smaller than the crops of 4096", "data.patch"]),
    "device that is not here": ("device=cuda", ["device=cuda", "choose auto"]),
    "missing folder": (
        sources({"task": "derain", "pairs": "nowhere"}),
        ["nowhere", "no such folder", "give a"],
    ),
    "missing photographs": (
        sources({"task": "derain", "weather": "rain", "photographs": "nowhere"}),
        ["nowhere", "no such folder", "give the folder"],
    ),
}


def assert_one_line(text, *parts):
    """`text` is one line without a traceback, and says all `parts`."""
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, text
    assert text.startswith("manas: ")
    assert "Traceback" not in text
    for part in parts:
        assert part in text, f"{part!r} is not said: {text}"


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_setting_is_one_line(case, config, capsys):
    override, parts = BAD_SETTINGS[case]
    if override == "device=cuda" and torch.cuda.is_available():
        pytest.skip("cuda is here")
    assert call("search", config, "--set", override) == 2
    assert_one_line(capsys.readouterr().err, *parts)


def test_an_override_inside_a_number_of_a_list_is_one_line(tmp_path, capsys):
    content = merged(search_settings(), {"space": {"columns": [1]}})
    config = write_yaml(tmp_path / "config.yaml", content)
    for override in ("space.columns.0.x=1", "space.columns.0.x.y=1"):
        assert call("search", config, "--set", override) == 2
        assert_one_line(capsys.readouterr().err, override)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["config.yaml", "No such file", "give an existing YAML file"]),
        ("epochs: [1", ["config.yaml", "not valid YAML", "line 1"]),
        ("- epochs", ["config.yaml", "a mapping of keys to values"]),
        (b"epochs: \xff\xfe", ["config.yaml", "not valid YAML"]),
        ("1: 2", ["config.yaml", "1"]),
        ("data:", ["config.yaml", "data"]),
    ],
    ids=["missing", "no YAML", "list", "no text", "number as key", "empty section"],
)
def test_a_bad_configuration_file_is_one_line(content, parts, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert call("search", path) == 2
    assert_one_line(capsys.readouterr().err, *parts)


def with_source(folder, **more):
    return "--set", sources({"task": "derain", "pairs": str(folder), **more})


class TestPairs:
    """Folders of pairs that cannot be used."""

    def test_a_folder_without_pairs(self, config, tmp_path, capsys):
        (tmp_path / "pairs").mkdir()
        assert call("search", config, *with_source(tmp_path / "pairs")) == 2
        assert_one_line(
            capsys.readouterr().err, str(tmp_path / "pairs"), "no folder of clean images", "name it"
        )

    def test_an_image_without_partner(self, config, tmp_path, capsys):
        folder = pairs_in(tmp_path / "pairs")
        (folder / "light" / "002.png").unlink()
        assert call("search", config, *with_source(folder)) == 2
        assert_one_line(
            capsys.readouterr().err, str(folder / "clean" / "002.png"), "no partner", "share a name"
        )

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_unreadable_image(self, workers, config, tmp_path, capsys):
        folder = pairs_in(tmp_path / "pairs")
        for broken in folder.glob("*/*.png"):
            broken.write_bytes(broken.read_bytes()[:60])
        overrides = [*with_source(folder), "--set", f"data.workers={workers}"]
        assert call("search", config, *overrides) == 2
        assert_one_line(capsys.readouterr().err, str(folder), "cannot read", "replace the file")

    def test_images_of_two_sizes(self, config, tmp_path, capsys):
        folder = pairs_in(tmp_path / "pairs")
        for path in folder.glob("light/*.png"):
            noise(path, height=24)
        assert call("search", config, *with_source(folder)) == 2
        assert_one_line(capsys.readouterr().err, str(folder / "light"), "20x24", "20x20", "one size")


def test_a_mistake_leaves_no_run_behind(config, tmp_path, capsys):
    """Else the corrected command would be told that there is a run already."""
    folder = tmp_path / "pairs"
    arguments = ["search", config, *with_source(folder)]
    assert call(*arguments) == 2
    pairs_in(folder)
    assert call(*arguments) == 0, capsys.readouterr().err


def test_a_run_is_neither_replaced_nor_resumed_unasked(models, capsys):
    assert call("search", models / "search.yaml") == 2
    assert_one_line(capsys.readouterr().err, str(models / "search"), "holds a run", "--resume", "--overwrite")


def test_both_resume_and_overwrite_are_refused(models, capsys):
    before = (models / "search" / "checkpoint.pt").read_bytes()
    assert call("search", models / "search.yaml", "--resume", "--overwrite") == 2
    assert_one_line(capsys.readouterr().err, "--resume", "--overwrite", "one")
    assert (models / "search" / "checkpoint.pt").read_bytes() == before


def test_nothing_to_resume_is_one_line(config, tmp_path, capsys):
    assert call("search", config, "--resume") == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path / "run"), "no run to resume", "without --resume")


def test_another_configuration_is_not_resumed(models, capsys):
    assert call("search", models / "search.yaml", "--resume", "--set", "seed=5") == 2
    assert_one_line(capsys.readouterr().err, "config.yaml", "differs", "resume with")


def test_a_run_directory_that_is_a_file_is_one_line(config, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert call("search", config) == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path / "run"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(60), "truncated", "model"])
def test_a_corrupt_checkpoint_is_one_line(content, models, tmp_path, capsys):
    whole = (models / "search" / "checkpoint.pt").read_bytes()
    if content == "truncated":
        content = whole[: len(whole) // 2]
    elif content == "model":
        content = (models / "retrain" / "model.safetensors").read_bytes()
    settings = search_settings(run=str(tmp_path / "run"), epochs=1, steps=1)
    config = write_yaml(tmp_path / "config.yaml", settings)
    assert call("search", config) == 0
    capsys.readouterr()
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(content)
    assert call("search", config, "--resume") == 2
    assert_one_line(capsys.readouterr().err, str(checkpoint), "not a checkpoint", "--overwrite")
    assert call("export", checkpoint, tmp_path / "out.json") == 2
    assert_one_line(capsys.readouterr().err, str(checkpoint), "not a checkpoint")
    assert not (tmp_path / "out.json").exists()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capsys):
    """A pickle that calls a function when it is loaded."""

    class Calls:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it_ran",)

    torch.save({"format": "manas.checkpoint/1", "kind": Calls()}, tmp_path / "checkpoint.pt")
    assert call("export", tmp_path / "checkpoint.pt", tmp_path / "out.json") == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path / "checkpoint.pt"))
    assert not (tmp_path / "it_ran").exists()


def changed(path, out, change):
    content = json.loads(Path(path).read_text())
    change(content)
    out.write_text(json.dumps(content))
    return out


BAD_GENOTYPES = {
    "of another space": (lambda g: g["space"].update(columns=[2]), ["'cell0/column1'", "parallel, fusion"]),
    "of a smaller space": (lambda g: g["space"].update(columns=[0]), ["'cell0/column0'", "no fork"]),
    "unknown gate": (
        lambda g: g["choices"].update({"cell0/branch0/node0/input": "sep_conv_9x9"}),
        ["'cell0/branch0/node0/input'", "'sep_conv_9x9'", "did you mean 'sep_conv_3x3'"],
    ),
    "unknown gate in the space": (
        lambda g: g["space"]["attention"].update(gates=["skipconnect"]),
        ["unknown gate 'skipconnect'", "did you mean 'skip_connect'"],
    ),
    "missing choice": (
        lambda g: g["choices"].pop("cell0/column0"),
        ["no choice for 'cell0/column0'", "parallel"],
    ),
    "unknown format": (lambda g: g.update(format="manas.genotype/9"), ["manas.genotype/9", "manas.genotype/1"]),
    "no format": (lambda g: g.pop("format"), ["not a genotype", "format"]),
    "unknown kind": (lambda g: g["space"].update(kind="manas"), ["no space of kind 'manas'"]),
    "code to import": (lambda g: g["space"].update(kind="os:system"), ["'os:system'", "may not name code"]),
    "unknown key": (lambda g: g.update(choises={}), ["'choises'", "did you mean 'choices'"]),
}


@pytest.mark.parametrize("case", BAD_GENOTYPES)
def test_a_bad_genotype_is_one_line(case, models, tmp_path, capsys):
    change, parts = BAD_GENOTYPES[case]
    path = changed(models / "derain.json", tmp_path / "bad.json", change)
    config = write_yaml(tmp_path / "config.yaml", retrain_settings("unset", run=str(tmp_path / "run")))
    assert call("retrain", config, "--genotype", path) == 2
    assert_one_line(capsys.readouterr().err, str(path), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe\x00"])
def test_a_file_that_is_no_genotype_is_one_line(content, tmp_path, capsys):
    path = tmp_path / "genotype.json"
    if content is not None:
        path.write_bytes(content)
    assert call("retrain", "--genotype", f"derain={path}", "--set", "device=cpu") == 2
    assert_one_line(capsys.readouterr().err, str(path), "genotype")


def test_genotypes_of_towers_that_cannot_be_stitched_are_one_line(models, tmp_path, capsys):
    other = write_genotype(tmp_path / "other.json", channels=[4, 12])
    given = [f"derain={models / 'derain.json'}", f"desnow={other}"]
    assert call("retrain", *(part for text in given for part in ("--genotype", text))) == 2
    assert_one_line(capsys.readouterr().err, "[[4, 8]]", "[[4, 12]]", "same channels")


def test_genotype_options_that_contradict_are_one_line(models, capsys):
    path = models / "derain.json"
    assert call("retrain", "--genotype", path, "--genotype", f"desnow={path}") == 2
    assert_one_line(capsys.readouterr().err, "--genotype", "task=file")
    assert call("retrain", "--genotype", path) == 2  # the default sources have two tasks
    assert_one_line(capsys.readouterr().err, str(path), "derain, desnow", "task=path")
    assert call("retrain") == 2
    assert_one_line(capsys.readouterr().err, "'genotype' is missing")
    assert call("retrain", "--genotype", f"type={path}") == 2
    assert_one_line(capsys.readouterr().err, "'type' cannot name a task")


def test_a_source_without_tower_is_one_line(models, tmp_path, capsys):
    given = ["--genotype", f"derain={models / 'derain.json'}", "--set", f"run={tmp_path / 'run'}"]
    assert call("retrain", *given, "--set", sources({"task": "derian", "weather": "rain"})) == 2
    assert_one_line(capsys.readouterr().err, "data.sources", "'derian'", "did you mean 'derain'")


def no_model(path):
    path.write_bytes(b"these are no weights")


def not_ours(path):
    save_file({"weight": torch.zeros(1)}, path)


def of_a_future_version(path):
    save_file({"weight": torch.zeros(1)}, path, metadata={"manas": '{"format": "manas.model/9"}'})


def without_json(path):
    save_file({"weight": torch.zeros(1)}, path, metadata={"manas": "{"})


def with_other_weights(path):
    genotype = Genotype.sample(tower(), seed=0)
    content = {"format": "manas.model/1", "genotype": genotype.model_dump(mode="json")}
    save_file({"weight": torch.zeros(1)}, path, metadata={"manas": json.dumps(content)})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: None, "no such file"),
        (Path.mkdir, "no such file"),
        (Path.touch, "not a model file"),
        (no_model, "not a model file"),
        (not_ours, "without a manas description"),
        (of_a_future_version, "manas.model/9"),
        (without_json, "unknown format"),
        (with_other_weights, "do not fit the genotype"),
    ],
    ids=["missing", "folder", "empty", "text", "foreign", "future", "no JSON", "other weights"],
)
def test_a_file_that_is_no_model_is_one_line(damage, says, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    damage(model)
    image = noise(tmp_path / "image.png")
    assert call("restore", image, "-o", tmp_path / "out", "--model", model) == 2
    assert_one_line(capsys.readouterr().err, str(model), says)
    assert call("evaluate", "--model", model) == 2
    assert_one_line(capsys.readouterr().err, str(model), says)
    assert not (tmp_path / "out").exists()


def test_a_truncated_model_is_one_line(models, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    whole = (models / "retrain" / "model.safetensors").read_bytes()
    for size in (4, 100, len(whole) - 1):
        model.write_bytes(whole[:size])
        assert call("export", model, tmp_path / "out.json") == 2
        assert_one_line(capsys.readouterr().err, str(model), "not a model file")


class TestEvaluate:
    """manas evaluate"""

    @pytest.fixture
    def arguments(self, models):
        return ["evaluate", "--device", "cpu", "--model", models / "retrain" / "model.safetensors"]

    def test_pairs(self, arguments, tmp_path, capsys):
        folder = pairs_in(tmp_path / "pairs")
        table, picture = tmp_path / "scores.csv", tmp_path / "picture.png"
        assert call(*arguments, folder, "--csv", table, "--picture", picture) == 0
        out = capsys.readouterr().out
        assert "protocol derain" in out
        assert "pairs, light" in out
        assert len(table.read_text().splitlines()) == 1 + 4
        assert read_image(picture).size

    def test_photographs_of_a_folder(self, arguments, tmp_path, capsys):
        noise(tmp_path / "clean" / "a.png")
        assert call(*arguments, "--photographs", tmp_path / "clean", "--weather", "snow") == 0
        assert "snow, heavy" in capsys.readouterr().out

    def test_bad_input_is_one_line(self, arguments, tmp_path, capsys):
        folder = pairs_in(tmp_path / "pairs")
        cases = [
            ([tmp_path / "none"], [str(tmp_path / "none"), "no such folder"]),
            (["--photographs", tmp_path / "none"], [str(tmp_path / "none"), "no such folder"]),
            (["--weather", "hail"], ["'hail'", "rain, snow"]),
            ([folder, "--protocol", "derian"], ["'derian'", "derain"]),
        ]
        for given, parts in cases:
            assert call(*arguments, *given) == 2
            assert_one_line(capsys.readouterr().err, *parts)

    def test_a_table_in_a_new_folder(self, arguments, tmp_path):
        """As `--picture` and `export` do, the folder is made."""
        table = tmp_path / "new" / "scores.csv"
        assert call(*arguments, pairs_in(tmp_path / "pairs"), "--csv", table) == 0
        assert table.exists()


class TestPrograms:
    """The programs of experiments/, which are the command line under other names."""

    def run(self, script, monkeypatch, *arguments):
        path = REPOSITORY / "experiments" / script
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        return end.value.code or 0

    def test_export(self, models, tmp_path, monkeypatch, capsys):
        out = tmp_path / "new" / "out.json"
        assert self.run("export.py", monkeypatch, models / "search", out) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert Genotype.read(out) == Genotype.read(models / "search" / "genotype.json")

    def test_retrain(self, models, tmp_path, monkeypatch, capsys):
        config = write_yaml(tmp_path / "c.yaml", retrain_settings("unset", epochs=1, steps=1))
        monkeypatch.chdir(tmp_path)
        assert self.run("retrain.py", monkeypatch, config, "--genotype", models / "derain.json") == 0
        assert capsys.readouterr().out == f"{Path('run', 'model.safetensors')}\n"
        assert (tmp_path / "run" / "model.safetensors").is_file()

    def test_search(self, tmp_path, monkeypatch, capsys):
        config = write_yaml(tmp_path / "c.yaml", search_settings(epochs=1, steps=1))
        monkeypatch.chdir(tmp_path)
        assert self.run("search.py", monkeypatch, config, "--set", "seed=3") == 0
        assert "parameters" in capsys.readouterr().out
        assert Genotype.read(tmp_path / "run" / "genotype.json").provenance["seed"] == 3


def test_export_of_an_empty_folder_is_one_line(tmp_path, capsys):
    assert call("export", tmp_path, tmp_path / "out.json") == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path), "no run", "genotype.json")
    assert call("export", tmp_path / "none", tmp_path / "out.json") == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path / "none"))


def test_the_schema_is_json(capsys):
    assert call("genotype", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"space", "choices", "provenance"} <= schema["properties"].keys()


def test_an_interruption_is_one_line(config, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("manas.searching.search.search", interrupted)
    assert call("search", config) == 130
    assert_one_line(capsys.readouterr().err, "interrupted", "--resume")


def test_a_defect_keeps_its_traceback(config, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("ours")

    monkeypatch.setattr("manas.searching.search.search", broken)
    with pytest.raises(RuntimeError, match="ours"):
        cli.main(["search", str(config)])


def test_genotypes_by_task_replace_the_one_of_a_configuration(tmp_path, fails):
    config = tmp_path / "retrain.yaml"
    config.write_text("genotype: runs/search/genotype.json\ninit: whole.safetensors\n")
    missing = tmp_path / "derain.json"
    fails(
        "retrain",
        config,
        "--genotype",
        f"derain={missing}",
        "--init",
        "derain=a",
        says=[f"{missing}: cannot be read"],
    )


def test_a_preset_that_is_misspelt_is_told_the_nearest(fails):
    fails("retrain", "--genotype", "cmudnr", says=["cmudnr: no such file, and no preset", "'cmudrn'"])
