"""The package: light to import, every public name resolves, a wheel brings everything that it needs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import manas

REPOSITORY = Path(__file__).parents[1]
OLDEST_SETUPTOOLS = 77


def python(*arguments, **options):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)


def test_every_public_name_resolves():
    assert manas.__all__ == sorted(manas.__all__)
    for name in manas.__all__:
        found = getattr(manas, name)
        assert callable(found)
        assert found.__doc__
    assert set(manas.__all__) <= set(dir(manas))


def test_what_the_design_promises_is_public():
    promised = {"load_space", "SearchSpace", "Choice", "Genotype", "search", "retrain", "Restorer", "evaluate"}
    assert promised <= set(manas.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        manas.serach  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert manas.__version__ == metadata.version("manas")


def test_importing_it_does_not_import_torch():
    program = (
        "import sys, manas, manas.commands.main, manas.errors; "
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'skimage'}; "
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = python("-c", program)
    assert done.stdout == "[]\n", done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that is built from a copy, with the build backend that is installed."""
    try:
        version = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        pytest.skip("setuptools, the build backend, is not installed, and tests fetch nothing")
    if int(version.split(".")[0]) < OLDEST_SETUPTOOLS:
        pytest.skip(f"setuptools is {version}, older than the build system asks for, and tests fetch nothing")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("manas", "search_spaces"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-w", folder]
    done = python("-m", "pip", "wheel", source, *options)
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("manas-*.whl"))


def test_the_wheel_holds_every_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("manas", "search_spaces")
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".yaml", ".typed", ".safetensors", ".md")
    }
    assert {"manas/py.typed", "search_spaces/presets/manas.yaml", "manas/models/weather.md"} <= expected
    assert expected <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"manas", "search_spaces"}  # no tests


def test_the_wheel_says_what_it_brings(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        entries = archive.read(f"{info}/entry_points.txt").decode()
        described = archive.read(f"{info}/METADATA").decode()
    for entry in (
        "manas = manas.commands.main:main",
        "multi_scale_attentive = search_spaces.multi_scale_attentive:MultiScaleAttentive",
        "restoration = manas.restoration.network:RestorationSpace",
        "search_spaces = search_spaces.presets",
        "multi_scale_attentive = search_spaces.multi_scale_attentive.drawing:TowerDrawing",
    ):
        assert entry in entries
    assert f"Version: {manas.__version__}" in described
    for requirement in ("torch>=2.6", "pydantic>=2.7", "safetensors", "scikit-image", "thop"):
        assert f"Requires-Dist: {requirement}" in described


def test_an_installed_wheel_searches_with_a_preset(wheel, tmp_path):
    """In another directory, found before the checkout that runs the tests."""
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--target", site]
    installed = python("-m", "pip", "install", *options, wheel)
    assert installed.returncode == 0, installed.stderr
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = python("-c", "import manas, search_spaces; print(manas.__file__)", cwd=work, env=environment)
    assert Path(where.stdout.strip()).is_relative_to(site)
    settings = ["epochs=1", "steps=1", "data.patch=16", "data.batch=1", "data.workers=0", "data.versions=1"]
    settings += ["data.validation_patch=16", "data.validation_images=1", "device=cpu", "space=manas_tiny"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    done = python(next((site / "bin").glob("manas*")), "search", *arguments, cwd=work, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "runs/search/genotype.json"
    genotype = json.loads((work / "runs" / "search" / "genotype.json").read_text())
    assert genotype["space"]["channels"] == [32, 48]
