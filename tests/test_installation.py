"""The installation that the README names finds the package from wherever a script stands."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[1]
FILES = [
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "manas/__init__.py",
    "search_spaces/__init__.py",
]
BUILD = "import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])"
# A script finds what is in its own folder first, and then what is installed.
SCRIPT = "import site, sys; site.addsitedir('site'); sys.path.insert(0, ''); import manas; manas.__version__"


def test_a_script_beside_the_clone_imports_the_package(tmp_path):
    """The clone, a folder called manas, must not hide the package manas that is in it."""
    pytest.importorskip("setuptools", minversion="77")
    clone = tmp_path / "manas"
    for name in FILES:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, clone / name)
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=clone, check=True, capture_output=True)
    ZipFile(next(tmp_path.glob("*.whl"))).extractall(tmp_path / "site")
    # Without the packages of this environment, in which manas is installed already.
    said = subprocess.run([sys.executable, "-ISc", SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
