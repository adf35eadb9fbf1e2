"""Files in, files out: where every image goes, and that nothing is overwritten unasked."""

import numpy as np
import pytest

from manas.data.images import read_image, write_image
from manas.errors import ManasError
from manas.inference.files import restore_file, targets_of


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(root, targets):
    return {s.relative_to(root).as_posix(): t.relative_to(root).as_posix() for s, t in targets.items()}


def test_the_tree_below_a_folder_is_kept(tmp_path):
    touch(tmp_path, "in/b.jpg", "in/a/c.png", "in/a/d/e.tif", "in/notes.txt")
    assert relative(tmp_path, targets_of([tmp_path / "in"], tmp_path / "out")) == {
        "in/a/c.png": "out/a/c.png",
        "in/a/d/e.tif": "out/a/d/e.png",
        "in/b.jpg": "out/b.png",
    }


def test_files_and_folders_together(tmp_path):
    touch(tmp_path, "in/a.png", "other/b.JPG")
    given = [tmp_path / "other" / "b.JPG", tmp_path / "in"]
    assert relative(tmp_path, targets_of(given, tmp_path / "out")) == {
        "other/b.JPG": "out/b.png",
        "in/a.png": "out/a.png",
    }


@pytest.mark.parametrize("name", ["restored.png", "deep/restored.JPEG", "restored.tiff"])
def test_one_image_into_a_file(name, tmp_path):
    touch(tmp_path, "a.png")
    assert targets_of([tmp_path / "a.png"], tmp_path / name) == {tmp_path / "a.png": tmp_path / name}


def test_names_with_dots_are_kept(tmp_path):
    touch(tmp_path, "in/a.b.png", "in/a.c.png", "f.1.png")
    targets = targets_of([tmp_path / "in", tmp_path / "f.1.png"], tmp_path / "out")
    assert [t.name for t in targets.values()] == ["a.b.png", "a.c.png", "f.1.png"]


def test_the_same_image_given_twice_is_restored_once(tmp_path):
    touch(tmp_path, "a.png")
    assert len(targets_of([tmp_path / "a.png", tmp_path / "a.png"], tmp_path / "out")) == 1


class TestRefused:
    def check(self, inputs, out, match):
        with pytest.raises(ManasError, match=match):
            targets_of(inputs, out)

    def test_overwriting_the_input(self, tmp_path):
        touch(tmp_path, "in/a.png", "in/b.jpg")
        self.check(
            [tmp_path / "in" / "a.png"], tmp_path / "in" / "a.png", "would overwrite .*a.png; give another -o"
        )
        self.check([tmp_path / "in" / "a.png"], tmp_path / "in", "would overwrite")
        self.check([tmp_path / "in"], tmp_path / "in", "would overwrite")
        self.check([tmp_path / "in"], tmp_path / "x" / ".." / "in", "would overwrite")

    def test_overwriting_by_a_link(self, tmp_path):
        touch(tmp_path, "in/a.png")
        try:
            (tmp_path / "link").symlink_to(tmp_path / "in")
        except OSError:
            pytest.skip("no symbolic links here")
        self.check([tmp_path / "in"], tmp_path / "link", "would overwrite")

    def test_overwriting_another_input(self, tmp_path):
        touch(tmp_path, "in/a.jpg", "out/a.png")
        self.check([tmp_path / "in", tmp_path / "out" / "a.png"], tmp_path / "out", "would overwrite")

    def test_two_inputs_with_one_output(self, tmp_path):
        touch(tmp_path, "one/a.png", "two/a.png", "three/a.jpg")
        self.check([tmp_path / "one", tmp_path / "two"], tmp_path / "out", "another input goes to .*a.png too")
        files = [tmp_path / "one" / "a.png", tmp_path / "three" / "a.jpg"]
        self.check(files, tmp_path / "out", "two folders")

    def test_a_file_for_several_images(self, tmp_path):
        touch(tmp_path, "in/a.png", "in/b.png")
        self.check([tmp_path / "in"], tmp_path / "out.png", "is one file; give a folder")
        self.check(
            [tmp_path / "in" / "a.png", tmp_path / "in" / "b.png"], tmp_path / "out.png", "give a folder"
        )

    def test_folders_without_images(self, tmp_path):
        touch(tmp_path, "in/notes.txt")
        self.check([tmp_path / "in"], tmp_path / "out", "no image")

    def test_a_missing_input_before_any_work(self, tmp_path):
        touch(tmp_path, "a.png")
        self.check([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", "b.png")


def test_restoring_a_file(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    source = write_image(tmp_path / "a.png", picture)
    target = tmp_path / "deep" / "b.png"
    assert restore_file(lambda image: 255 - image, source, target) == target
    np.testing.assert_array_equal(read_image(target), 255 - picture)
    np.testing.assert_array_equal(read_image(source), picture)
