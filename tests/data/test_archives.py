"""Folders of pairs: which layouts are understood, and what is refused."""

import pytest

from manas.data.archives import paired_scenes, pairing_key
from manas.errors import ManasError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def described(root):
    """Scenes as {name: (clean file, {level: degraded file})}, files relative to the root."""
    return {
        scene.name: (
            scene.clean.relative_to(root).as_posix(),
            {level: path.relative_to(root).as_posix() for level, path in scene.degraded.items()},
        )
        for scene in paired_scenes(root)
    }


def test_levels_beside_clean(tmp_path):
    touch(
        tmp_path, *(f"{folder}/{n}.png" for folder in ("clean", "light", "medium", "fog") for n in ("a", "b"))
    )
    assert described(tmp_path) == {
        n: (f"clean/{n}.png", {level: f"{level}/{n}.png" for level in ("fog", "light", "medium")})
        for n in ("a", "b")
    }


@pytest.mark.parametrize(
    ("clean", "degraded"),
    [("target", "input"), ("norain", "rain"), ("gt", "lq"), ("GT", "Snow"), ("ground_truth", "rainy_image")],
)
def test_published_folder_names(clean, degraded, tmp_path):
    touch(tmp_path, f"{clean}/1.png", f"{degraded}/1.png", "masks/1.png")
    assert described(tmp_path) == {"1": (f"{clean}/1.png", {degraded.lower(): f"{degraded}/1.png"})}


@pytest.mark.parametrize(
    ("clean", "degraded", "key"),
    [
        ("001", "1", "1"),
        ("norain-001", "rain-001", "1"),
        ("norain-12", "norain-12x2", "12"),
        ("no-rain-7", "rain-7", "7"),
        ("0042", "0042_s80_a04", "42"),
        ("Street", "street", "street"),
        ("scene_a", "scene_a", "scene_a"),
        ("0", "000", "0"),
    ],
)
def test_names_pair_across_prefixes_marks_and_number_formats(clean, degraded, key, tmp_path):
    touch(tmp_path, f"target/{clean}.png", f"input/{degraded}.jpg")
    assert described(tmp_path) == {key: (f"target/{clean}.png", {"input": f"input/{degraded}.jpg"})}


@pytest.mark.parametrize("stem", ["rainbow", "x2y", "1x3", "s80_a04", "1_2", "rain"])
def test_other_names_are_kept(stem):
    assert pairing_key(stem) == stem


def test_folders_below_are_kept_apart(tmp_path):
    touch(tmp_path, *(f"{kind}/{place}/1.png" for kind in ("target", "input") for place in ("north", "south")))
    assert described(tmp_path) == {
        f"{place}/1": (f"target/{place}/1.png", {"input": f"input/{place}/1.png"})
        for place in ("north", "south")
    }


def test_names_pair_in_folders_below(tmp_path):
    touch(tmp_path, "norain/north/norain-001.png", "rain/north/rain-1.png")
    assert len(paired_scenes(tmp_path)) == 1


def refused(root, *parts):
    with pytest.raises(ManasError) as error:
        paired_scenes(root)
    for part in parts:
        assert str(part) in str(error.value)


class TestRefused:
    def test_missing_folder(self, tmp_path):
        refused(tmp_path / "none", tmp_path / "none", "no such folder", "give a folder")

    def test_file(self, tmp_path):
        touch(tmp_path, "a.png")
        refused(tmp_path / "a.png", "no such folder")

    def test_no_clean_folder(self, tmp_path):
        touch(tmp_path, "rain/1.png")
        refused(tmp_path, tmp_path, "no folder of clean images", "clean", "norain")

    def test_no_degraded_folder(self, tmp_path):
        touch(tmp_path, "target/1.png", "anything/1.png")
        refused(tmp_path, tmp_path, "no degraded images beside 'target'", "'input'")

    def test_degraded_image_without_clean_one(self, tmp_path):
        touch(tmp_path, "clean/1.png", "light/1.png", "light/2.png", "light/3.png")
        refused(tmp_path, tmp_path / "light" / "2.png", tmp_path / "clean", "2 such files")

    def test_clean_image_without_degraded_one(self, tmp_path):
        touch(tmp_path, "clean/1.png", "clean/2.png", "light/1.png", "light/2.png", "heavy/1.png")
        refused(tmp_path, tmp_path / "clean" / "2.png", tmp_path / "heavy", "1 such files")

    def test_the_folder_is_named_as_it_is_on_disk(self, tmp_path):
        touch(tmp_path, "Clean/1.png", "Clean/2.png", "Light/1.png")
        refused(tmp_path, tmp_path / "Clean" / "2.png", tmp_path / "Light")

    @pytest.mark.parametrize("names", [("001.png", "1.png"), ("rain-3.png", "3x2.png")])
    def test_two_files_with_one_key(self, names, tmp_path):
        touch(tmp_path, "input/1.png", *(f"target/{name}" for name in names))
        refused(tmp_path, *names, "keep one")

    def test_two_files_that_differ_in_their_suffix(self, tmp_path):
        touch(tmp_path, "input/1.png", "target/1.png", "target/1.jpg")
        refused(tmp_path, "1.jpg", "1.png", "rename one")

    @pytest.mark.parametrize("empty", ["clean", "light"])
    def test_folder_without_images(self, empty, tmp_path):
        touch(tmp_path, "clean/1.png", "light/1.png")
        (tmp_path / empty / "1.png").unlink()
        (tmp_path / empty / "notes.txt").touch()
        refused(tmp_path, tmp_path / empty, "no image")
