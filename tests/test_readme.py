"""What the README shows is run as it stands."""

import json
import re
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import yaml
from data.archives.layouts import did_mdn, folders, one_folder, picture

import manas
from manas.architecture.genotype import Genotype
from manas.commands.main import main
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs
from manas.data.weather import degrade
from manas.evaluation import protocols
from manas.evaluation.scenes import DegradedScene
from search_spaces.multi_scale_attentive import MultiScaleAttentive, gates

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TINY = ["epochs=1", "steps=1", "data.patch=16", "data.validation_patch=16", "data.batch=1", "data.workers=0"]


def block(beginning):
    """The code block of the README that begins so."""
    return next(code for code in re.findall(r"```python\n(.*?)```", README, re.S) if code.startswith(beginning))


def tiny(*overrides):
    return [part for override in (*TINY, *overrides) for part in ("--set", override)]


def test_a_space_of_ones_own_is_searched_exported_and_retrained(tmp_path, monkeypatch):
    code = Path("experiments/configs/denoiser.py")
    assert block("# experiments/configs/denoiser.py") == code.read_text(encoding="utf-8")
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
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert not stop.value.code
    genotype = json.loads(Path(out).read_text())
    assert genotype["space"]["kind"] == space
    assert set(genotype["choices"]) == {"layer0", "layer1", "layer2"}
    assert (tmp_path / "retrain" / "model.safetensors").exists()


def test_a_gate_is_entered_in_one_place(monkeypatch):
    monkeypatch.setattr(gates, "GATES", gates.GATES.copy())
    names = vars(gates) | {"GATES": {}}
    exec(compile(block("class ContrastGate"), "README.md", "exec"), names)
    gates.GATES.update(names["GATES"])
    monkeypatch.setattr("search_spaces.multi_scale_attentive.tower.GATES", gates.GATES)
    monkeypatch.setattr("search_spaces.multi_scale_attentive.attention.GATES", gates.GATES)
    space = MultiScaleAttentive(
        channels=(4, 8), columns=(1,), attention={"gates": ("contrast", "skip_connect")}
    )
    assert space.choices()["cell0/branch1/node0/input"] == ("contrast", "skip_connect")
    space.supernet()


def test_a_measure_is_entered_in_one_place(monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", protocols.PROTOCOLS.copy())
    exec(compile(block("from dataclasses import replace\n\nfrom manas.evaluation"), "README.md", "exec"), {})
    clean = np.random.default_rng(0).integers(20, 180, (16, 24, 3), dtype=np.uint8)
    scenes = [DegradedScene("rain", "", "a", clean + np.uint8(20), clean)]
    evaluation = manas.evaluate(lambda image: image - np.uint8(10), scenes, protocol="mine")
    (said,) = re.findall(r"`manas\.evaluate\(model, data, protocol=\"mine\"\)(.*?)`", README)
    assert eval(f"evaluation{said}") == pytest.approx(10 * 219 / 255)
    assert "MAE degraded" in evaluation.table().headings


def test_the_genotype_has_the_shape_that_is_shown():
    shown = json.loads(re.search(r"```json\n(.*?)```", README, re.S).group(1))
    written = json.loads(
        Genotype.sample(MultiScaleAttentive(channels=(16, 24, 32), columns=(1, 1)), seed=0).to_json()
    )
    assert list(shown) == list(written)
    assert shown["format"] == written["format"]
    for label in shown["choices"].keys() - {"..."}:
        assert label in written["choices"]
    for key in shown["space"].keys() - {"..."}:
        assert key in written["space"]


def test_the_api_that_is_shown_runs():
    names: dict = {"manas": __import__("manas")}
    exec(compile(block("space = manas.load_space"), "README.md", "exec"), names)
    assert len(names["space"].choices()) == 39
    assert names["genotype"].space == names["space"]


def test_towers_are_searched_together_and_one_is_given(tmp_path, monkeypatch):
    """The commands of "The systems it contains", with as few steps as there can be."""
    monkeypatch.chdir(tmp_path)
    Genotype.sample(manas.load_space("manas_small"), seed=0).write(Path("runs/desnow/genotype.json"))
    (shown,) = (code for code in re.findall(r"```yaml\n(.*?)```", README, re.S) if code.startswith("space:"))
    Path("given.yaml").write_text(shown)
    sources = re.search(r"--set space=joint \\\n +--set '(data.sources=.*?)'", README)[1]
    given = ["search", "given.yaml", *tiny("run=runs/given")]
    joint = ["search", *tiny("run=runs/joint", "space=joint", sources)]
    retrain = ["retrain", "--genotype", "runs/joint/genotype.json", *tiny("run=runs/network")]
    for arguments in (given, joint, retrain):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert not stop.value.code
    choices = json.loads(Path("runs/given/genotype.json").read_text())["choices"]
    assert {label.split("/")[0] for label in choices} == {"derain", "denoise", "stitch"}
    assert Path("runs/network/model.safetensors").exists()


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """The two sets whose reports the README shows: synthesised rain, and one with planted near-duplicates."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    found = {**builtin_photographs("training"), **builtin_photographs("held_out")}
    for name in builtin_photographs("training"):
        write_image(Path("photographs") / f"{name}.png", read_image(found[name]))
    manas.synthesize("photographs", "data/rain")
    planted = {
        "001.jpg": read_image(found["astronaut"]),
        "002.png": read_image(found["rocket"])[:, ::-1],
        "003.png": read_image(found["motorcycle_left"])[100:356, 200:456],
        "004.png": read_image(found["chelsea"]),
        "005.png": read_image(found["coffee"]),
    }
    for place, (name, clean) in enumerate(planted.items()):
        rain = degrade(clean.astype(np.float32) / 255, "rain", ("medium",), seed=place).degraded[0]
        write_image(Path("data/test/target") / name, clean)
        write_image(Path("data/test/input") / name, (rain * 255 + 0.5).astype(np.uint8))


def test_the_sources_that_are_shown_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    did_mdn().write(Path("data/DID-MDN-training"))
    one_folder("norain-{}.png", "rain-{}.png").write(Path("data/RainTrainH"))
    folders("folders", "target/{}.png", "input/{}.png", numbers=(2, 30)).write(Path("data/Rain100H"))
    for number in (4, 5):
        write_image(Path("data/photographs") / f"{number}.png", picture(number))
    shown = yaml.safe_load(re.search(r"```yaml\n(data:.*?)```", README, re.S).group(1))["data"]
    shown |= {"cache_folder": "decoded", "patch": 16, "validation_patch": 16, "workers": 0}
    data = Backgrounds(DataConfig(**shown), ["derain", "desnow"], seed=0, held_share=0.4)
    assert [len(source.identities) for source in data.sources] == [3, 2, 2]
    assert data.notes == ["data.sources.1: left out 1 backgrounds that are in data/Rain100H"]
    next(data.batches("kept"))
    assert list(Path("decoded").glob("*/*.npy"))


def test_the_reports_on_data_are_what_is_printed(sets, capsys):
    for arguments, code in ((["data/rain"], 0), (["data/rain", "data/test"], 1)):
        with pytest.raises(SystemExit) as stop:
            main(["data", "check", *arguments])
        assert (stop.value.code or 0) == code
        printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()).strip()
        last = printed[printed.index("backgrounds in two sets") :] if code else printed
        shown = [dedent(text).strip() for text in re.findall(r"```text\n(.*?)```", README, re.S)]
        assert last in shown, printed
