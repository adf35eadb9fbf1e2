"""A package of somebody else's brings a space, its drawing and a preset, found by entry point."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = Path("experiments/configs/denoiser.py")
PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
DRAWING = re.search(r"```python\n(from manas.reporting.drawing.*?)```", PAGE, re.S)[1]
SETUP = """
[metadata]
name = their-spaces
version = 1.0
[options]
packages = their_spaces
[options.package_data]
their_spaces = *.yaml
[options.entry_points]
manas.spaces =
    their_denoiser = their_spaces.denoiser:Denoiser
manas.drawings =
    their_denoiser = their_spaces.drawing:DenoiserDrawing
manas.presets =
    their_spaces = their_spaces
"""
TINY = ["epochs=1", "steps=1", "data.patch=16", "data.validation_patch=16", "data.batch=1", "data.workers=0"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment variables under which their package is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    package = folder / "source" / "their_spaces"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "denoiser.py").write_text(SPACE.read_text(encoding="utf-8"))
    (package / "drawing.py").write_text(DRAWING)
    (package / "denoiser_tiny.yaml").write_text("{kind: their_denoiser, width: 4}")
    (package.parent / "setup.cfg").write_text(SETUP)
    (package.parent / "setup.py").write_text("from setuptools import setup\nsetup()\n")
    installed = folder / "site-packages"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(installed)]
    pip = [sys.executable, "-m", "pip", "install", *options, str(package.parent)]
    subprocess.run(pip, check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}


def manas(environment, folder, *arguments):
    command = [sys.executable, "-c", "from manas.commands.main import main; main()", *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def tiny(*more):
    return [part for setting in (*TINY, *more) for part in ("--set", setting)]


def test_it_is_searched_and_retrained_like_ours(environment, tmp_path):
    settings = tiny("space=denoiser_tiny", "method=gradient", "run=found")
    searched = manas(environment, tmp_path, "search", *settings)
    assert searched.returncode == 0, searched.stderr
    genotype = json.loads((tmp_path / "found" / "genotype.json").read_text())
    assert genotype["space"] == {"kind": "their_denoiser", "width": 4}
    sources = "data.sources=[{task: derain, weather: rain}]"
    command = ["retrain", "--genotype", "found/genotype.json", *tiny("run=network", sources)]
    retrained = manas(environment, tmp_path, *command)  # no --space: the kind is an entry point
    assert retrained.returncode == 0, retrained.stderr
    assert (tmp_path / "network" / "model.safetensors").exists()


def test_it_draws_itself_and_networks_of_its_towers(environment, tmp_path):
    tower = {"kind": "their_denoiser", "width": 4}
    choices = {f"layer{n}": f"conv{size}" for n, size in enumerate((1, 3, 5))}
    network = {"kind": "restoration", "towers": {"derain": tower}}
    for name, space, prefix in (("tower", tower, ""), ("network", network, "derain/")):
        chosen = {f"{prefix}{label}": choice for label, choice in choices.items()}
        genotype = {"format": "manas.genotype/1", "space": space, "choices": chosen}
        (tmp_path / f"{name}.json").write_text(json.dumps(genotype))
        drawn = manas(environment, tmp_path, "genotype", "draw", f"{name}.json", f"{name}.svg")
        assert drawn.returncode == 0, drawn.stderr
        svg = (tmp_path / f"{name}.svg").read_text()
        assert f">{prefix}layer2<" in svg
        assert "conv" not in svg  # squares, not boxes with names


def test_where_it_is_not_installed_the_kind_is_unknown(tmp_path):
    genotype = {"format": "manas.genotype/1", "space": {"kind": "their_denoiser", "width": 4}, "choices": {}}
    (tmp_path / "genotype.json").write_text(json.dumps(genotype))
    refused = manas(dict(os.environ), tmp_path, "export", "genotype.json", "out.json")
    assert refused.returncode == 2
    assert "their_denoiser" in refused.stderr
