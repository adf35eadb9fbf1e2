"""The code, configurations and outputs that the pages show are run as they stand."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data.archives.layouts import picture
from pages.shown import PAGES, block, blocks, commands, content

import manas
from manas.architecture.genotype import Genotype
from manas.commands.main import main
from manas.data.images import write_image
from manas.evaluation import protocols
from manas.evaluation.scenes import DegradedScene
from manas.restoration.model_file import ModelDescription, save_model
from search_spaces.multi_scale_attentive import MultiScaleAttentive, gates

TINY = ["epochs=1", "steps=1", "data.patch=16", "data.validation_patch=16", "data.batch=1", "data.workers=0"]
SMALL = {"patch": 16, "validation_patch": 16, "batch": 1, "workers": 0}


def tiny(*overrides):
    return [part for override in (*TINY, *overrides) for part in ("--set", override)]


def succeeds(arguments):
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert not stop.value.code


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """A working folder with small pairs to train on and to test on, photographs, and a model of the demo's."""
    monkeypatch.chdir(tmp_path)
    for part, scenes in (("rain", range(6)), ("test", range(6, 8))):
        for scene in scenes:
            for level, folder in enumerate(("clean", "light", "medium", "heavy")):
                write_image(Path(f"data/{part}/{folder}/{scene}.png"), picture(scene, level))
    write_image(Path("photos/rainy.png"), picture(9, 1))
    genotype = Genotype(space=manas.load_space("cmudrn"), choices={})
    Path("runs/demo").mkdir(parents=True)
    save_model("runs/demo/model.safetensors", genotype.network(), ModelDescription(genotype=genotype))


@pytest.fixture
def names(pairs, monkeypatch):
    """The names that the page on gates has at hand; trainings are of one step, entries are taken out again."""

    def small(config):
        return config | {"epochs": 1, "steps": 1, "data": config["data"] | SMALL}

    search, retrain = manas.search, manas.retrain
    monkeypatch.setattr(manas, "search", lambda config: search(small(config)), raising=False)
    monkeypatch.setattr(manas, "retrain", lambda config: retrain(small(config)), raising=False)
    monkeypatch.setattr(gates, "GATES", gates.GATES.copy())
    monkeypatch.setattr(protocols, "PROTOCOLS", protocols.PROTOCOLS.copy())
    return vars(gates)


def executed(code, given=None):
    """The names after a block, which has those that are given and no others."""
    names = {**(given or {}), "__name__": "shown"}
    exec(compile(code, "page", "exec"), names)
    return names


SHOWN = [(page, code) for page in PAGES for code in blocks(page, "python")]


@pytest.mark.parametrize(("page", "code"), SHOWN, ids=[f"{page}-{n}" for n, (page, _) in enumerate(SHOWN)])
def test_every_block_of_python_runs(page, code, names):
    """Alone, but for the one that a reader writes into the file of gates."""
    executed(code, names if code.startswith("class ContrastGate") else None)


def test_the_pages_show_code_and_commands():
    """A fence that is spelt otherwise would hide what is in it from every test."""
    assert len(SHOWN) == sum(len(re.findall(r"^```\s*py", content(page), re.M)) for page in PAGES) >= 9
    languages = {found for page in PAGES for found in re.findall(r"^```(\S+)", content(page), re.M)}
    assert languages <= {"python", "sh", "text", "yaml", "json", "ini", "bibtex"}
    assert sum(len([*commands(page)]) for page in PAGES) > 40


def test_the_readme_is_short():
    assert len(content("README.md").splitlines()) < 155


def test_the_commands_of_the_readme_and_then_its_python_run_in_one_folder(names, capsys):
    given = [words[1:] for words in commands("README.md") if words[0] == "manas"]
    assert [words[0] for words in given] == ["restore", "data", "search", "retrain", "restore"]
    write_image(Path("photo.jpg"), picture(9, 1))
    for words in given:
        succeeds([*words, *tiny()] if words[0] in ("search", "retrain") else words)
    assert Path("restored.jpg").exists()
    assert Path("restored/rainy.png").exists()
    capsys.readouterr()
    shown = executed(block("README.md", "python", "import manas\n"))
    assert np.asarray(shown["restored"]).shape == picture(9, 1).shape
    assert "| test | 6 |" in capsys.readouterr().out  # three levels of two scenes


def test_the_readme_shows_the_two_answers():
    shown = executed(block("README.md", "python", "from functools"))
    supernet, network = shown["supernet"], shown["network"]
    assert [fork.names for fork in list(supernet)[::2]] == [("conv1", "conv3", "conv5")] * 2
    assert [convolution.kernel_size for convolution in list(network)[::2]] == [(3, 3), (1, 1)]
    image = torch.rand(1, 3, 8, 8)
    assert supernet(image).shape == network(image).shape == image.shape


def test_a_space_of_ones_own_is_searched_exported_and_retrained(tmp_path, monkeypatch):
    code = Path("experiments/configs/denoiser.py")
    shown = block("docs/extending.md", "python", "# experiments/configs/denoiser.py")
    assert shown == code.read_text(encoding="utf-8")
    assert len(code.read_text(encoding="utf-8").splitlines()) < 40
    run, out, space = str(tmp_path / "run"), str(tmp_path / "denoiser.json"), f"{code.stem}:Denoiser"
    monkeypatch.setattr(sys, "path", [*sys.path, str(code.parent)])
    described = ["--set", f"space={{kind: '{space}', width: 4}}", "--set", "budget.macs=400k"]
    sources = ["--set", "data.sources=[{task: derain, weather: rain}]"]
    for arguments in (
        ["search", "experiments/configs/denoiser.yaml", *tiny(f"run={run}"), *described],
        ["export", run, out, "--space", space],
        ["retrain", "--genotype", out, "--space", space, *tiny(f"run={tmp_path / 'retrain'}"), *sources],
    ):
        succeeds(arguments)
    genotype = json.loads(Path(out).read_text())
    assert genotype["space"]["kind"] == space
    assert set(genotype["choices"]) == {"layer0", "layer1", "layer2"}
    assert (tmp_path / "retrain" / "model.safetensors").exists()


def test_a_gate_is_entered_in_one_place(names, monkeypatch):
    executed(block("docs/extending.md", "python", "class ContrastGate"), names)
    monkeypatch.setattr("search_spaces.multi_scale_attentive.tower.GATES", gates.GATES)
    monkeypatch.setattr("search_spaces.multi_scale_attentive.attention.GATES", gates.GATES)
    space = MultiScaleAttentive(
        channels=(4, 8), columns=(1,), attention={"gates": ("contrast", "skip_connect")}
    )
    assert space.choices()["cell0/branch1/node0/input"] == ("contrast", "skip_connect")
    space.supernet()


def test_a_loss_and_a_relaxation_are_named_in_a_configuration(names, tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "losses.py").write_text(block("docs/extending.md", "python", "def charbonnier"))
    (package / "relaxations.py").write_text(block("docs/extending.md", "python", "from manas.relaxations.base"))
    monkeypatch.syspath_prepend(tmp_path)
    shown = re.findall(r"`--set '?((?:loss|relaxation|method)[^'`]*)", content("docs/extending.md"))
    assert len(shown) == 3
    succeeds(["search", *tiny(*shown, "space=manas_tiny", "run=own", "data.versions=1")])
    metrics = Path("own/config.yaml").read_text()
    assert "my_package.losses:charbonnier: 1" in metrics
    assert "my_package.relaxations:Squared" in metrics


def test_a_measure_is_entered_in_one_place(names):
    executed(block("docs/evaluating.md", "python"))
    clean = np.random.default_rng(0).integers(20, 180, (16, 24, 3), dtype=np.uint8)
    scenes = [DegradedScene("rain", "", "a", clean + np.uint8(20), clean)]
    evaluation = manas.evaluate(lambda image: image - np.uint8(10), scenes, protocol="mine")
    (said,) = re.findall(
        r"`manas\.evaluate\(model, data, protocol=\"mine\"\)(.*?)`", content("docs/evaluating.md")
    )
    assert eval(f"evaluation{said}") == pytest.approx(10 * 219 / 255)
    assert "MAE degraded" in evaluation.table().headings


def test_the_genotype_has_the_shape_that_is_shown():
    shown = json.loads(block("docs/searching.md", "json"))
    space = MultiScaleAttentive(channels=(16, 24, 32), columns=(1, 1))
    written = json.loads(Genotype.sample(space, seed=0).to_json())
    assert list(shown) == list(written)
    assert shown["format"] == written["format"]
    for label in shown["choices"].keys() - {"..."}:
        assert label in written["choices"]
    for key in shown["space"].keys() - {"..."}:
        assert key in written["space"]


def test_the_genotypes_api_does_as_its_comments_say():
    shown = executed(block("docs/searching.md", "python"))
    assert len(shown["space"].choices()) == 39
    assert shown["genotype"].space == shown["space"]


def test_towers_are_searched_together_and_one_is_given(tmp_path, monkeypatch):
    """The commands of "Several towers at once", with as few steps as there can be."""
    monkeypatch.chdir(tmp_path)
    Genotype.sample(manas.load_space("manas_small"), seed=0).write(Path("runs/desnow/genotype.json"))
    Path("given.yaml").write_text(block("docs/searching.md", "yaml", "space:"))
    joint, retrain = (words[1:] for words in commands("docs/searching.md") if "runs/joint" in " ".join(words))
    succeeds(["search", "given.yaml", *tiny("run=runs/given")])
    succeeds([*joint, *tiny()])
    succeeds([*retrain, *tiny()])
    choices = json.loads(Path("runs/given/genotype.json").read_text())["choices"]
    assert {label.split("/")[0] for label in choices} == {"derain", "denoise", "stitch"}
    assert Path("runs/retrain/model.safetensors").exists()
