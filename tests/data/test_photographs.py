"""The clean photographs: where they are found, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from manas.data import photographs
from manas.data.photographs import HELD_OUT, TRAINING, builtin_photographs, photographs_in
from manas.errors import ManasError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(("split", "names"), [("training", TRAINING), ("held_out", HELD_OUT)])
def test_builtin_photographs_open_in_their_order(split, names):
    found = builtin_photographs(split)
    assert tuple(found) == names
    for name, path in found.items():
        assert path.stem == name
        with Image.open(path) as picture:
            assert min(picture.size) >= 300


def test_no_picture_is_in_both_splits():
    assert not set(TRAINING) & set(HELD_OUT)


def test_scikit_image_is_not_imported():
    program = (
        "import sys; from manas.data.photographs import builtin_photographs; "
        "builtin_photographs('training'); sys.exit('skimage' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_unknown_split_is_refused():
    with pytest.raises(ManasError, match="'test'.*training, held_out"):
        builtin_photographs("test")


def test_absent_scikit_image_is_reported(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda _: None)
    with pytest.raises(ManasError, match="scikit-image is not installed"):
        builtin_photographs("training")


def test_absent_file_is_reported(monkeypatch, tmp_path):
    touch(tmp_path, "data/chelsea.png")
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(photographs, "find_spec", lambda _: package)
    with pytest.raises(ManasError, match=r"coffee.*no such file"):
        builtin_photographs("held_out")


def test_folder_is_read_recursively_and_sorted_by_key(tmp_path):
    touch(tmp_path, "b.JPG", "b-1.png", "a/z.png", "a/y.1.tiff", "a/deep/x.webp", "c.jpeg", "d.bmp", "e.tif")
    touch(tmp_path, "notes.txt", "png", "archive.png/inside.txt")
    found = photographs_in(tmp_path)
    assert list(found) == ["a/deep/x", "a/y.1", "a/z", "b", "b-1", "c", "d", "e"]
    assert found["a/y.1"] == tmp_path / "a" / "y.1.tiff"
    assert found["b"] == tmp_path / "b.JPG"


def test_equal_stems_in_different_folders_are_two_photographs(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    assert list(photographs_in(tmp_path)) == ["a/1", "b/1"]


def test_two_files_with_one_key_are_refused(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/1.png")
    with pytest.raises(ManasError, match=r"1\.jpg and 1\.png.*a/1"):
        photographs_in(tmp_path)


def test_folder_without_images_is_refused(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(ManasError, match="no image"):
        photographs_in(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file.png"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    touch(tmp_path, "file.png")
    with pytest.raises(ManasError, match=f"{name}: no such folder"):
        photographs_in(tmp_path / name)
