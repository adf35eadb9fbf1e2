"""manas restore: which files come out, what is said, and with which exit code."""

import os

import numpy as np
import pytest
import torch

from manas.commands import restore as command
from manas.data.images import read_image, write_image
from manas.inference.restorer import Restorer
from manas.photos import encoding
from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.picture import Picture
from manas.restoration.model_file import ModelDescription, save_model


@pytest.fixture(scope="module")
def model(small_genotype, randomised, tmp_path_factory):
    """A model file of two towers, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_model(path, randomised(small_genotype.network()), ModelDescription(genotype=small_genotype))


def drawn(height, width, dtype=np.uint8):
    return np.random.default_rng(height).integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype=dtype)


@pytest.fixture
def folder(tmp_path):
    """Three pictures of different formats, one below another folder."""
    write_image(tmp_path / "in" / "a.png", drawn(7, 5))
    write_image(tmp_path / "in" / "b.jpg", drawn(6, 6))
    encode(Picture(drawn(4, 9, np.uint16)), tmp_path / "in" / "deep" / "c.tif")
    return tmp_path / "in"


@pytest.fixture
def restore(run, model):
    return lambda *arguments: run("restore", "--model", model, "--device", "cpu", *arguments)


def invert(pixels, progress=None):
    return np.iinfo(pixels.dtype).max - pixels


@pytest.fixture
def loaded(monkeypatch):
    """Replaces the restorer by `invert`; holds the options that it was loaded with."""
    options = {}

    def load(path, **given):
        options.update(given)
        return invert

    monkeypatch.setattr(Restorer, "load", load)
    return options


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder(restore, folder, model, tmp_path):
    code, out, err = restore(folder, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert tree(tmp_path / "out") == ["a.png", "b.jpg", "deep/c.tif"]
    assert out.split() == [str(tmp_path / "out" / name) for name in tree(tmp_path / "out")]
    restorer = Restorer.load(model, device="cpu")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), restorer(drawn(7, 5)))
    deep = decode(tmp_path / "out" / "deep" / "c.tif").pixels
    np.testing.assert_array_equal(deep, restorer(drawn(4, 9, np.uint16)))


def test_a_file(restore, folder, tmp_path):
    code, out, _ = restore(folder / "a.png", "-o", tmp_path / "new" / "restored.webp")
    assert (code, out.split()) == (0, [str(tmp_path / "new" / "restored.webp")])
    assert read_image(tmp_path / "new" / "restored.webp").shape == (7, 5, 3)


def test_a_pattern_into_another_format(restore, folder, tmp_path):
    code, _, err = restore(f"{folder}/**/*.[jt]*", "-o", tmp_path / "out", "--format", "webp")
    assert (code, tree(tmp_path / "out")) == (0, ["b.webp", "deep/c.webp"])
    assert "manas: 16 bit became 8 bit in WEBP (1 file)\n" in err


@pytest.mark.usefixtures("loaded")
class TestFiles:
    def test_in_place(self, restore, folder):
        assert restore(folder, "--in-place")[0] == 0
        assert tree(folder) == ["a.png", "b.jpg", "deep/c.tif"]
        np.testing.assert_array_equal(read_image(folder / "a.png"), invert(drawn(7, 5)))

    def test_in_place_of_what_a_link_leads_to(self, restore, folder, tmp_path):
        (folder / "a.png").rename(tmp_path / "far.png")
        (folder / "a.png").symlink_to(tmp_path / "far.png")
        assert restore(folder, "--in-place")[0] == 0
        assert (folder / "a.png").is_symlink()
        np.testing.assert_array_equal(read_image(tmp_path / "far.png"), invert(drawn(7, 5)))

    def test_views(self, restore, folder, tmp_path):
        restore(folder / "a.png", "-o", tmp_path / "out", "--side-by-side", "--difference")
        assert tree(tmp_path / "out") == ["a.png", "a.png.compare.png", "a.png.difference.png"]

    def test_what_is_there_already(self, restore, folder, tmp_path):
        out = tmp_path / "out"
        write_image(out / "a.png", drawn(2, 2))
        code, said, err = restore(folder, "-o", out)
        assert (code, said, tree(out)) == (2, "", ["a.png"])
        assert "a.png exists already" in err
        code, said, _ = restore(folder, "-o", out, "--skip-existing")
        assert (code, len(said.split())) == (0, 2)
        assert read_image(out / "a.png").shape == (2, 2, 3)
        assert restore(folder, "-o", out, "--overwrite")[0] == 0
        assert read_image(out / "a.png").shape == (7, 5, 3)
        assert restore(folder, "-o", out, "--skip-existing") == (0, "", "")

    def test_losses_are_counted_and_told_once(self, restore, tmp_path):
        for name in "abc":
            clear = np.zeros((4, 4), np.uint8)
            encode(Picture(drawn(4, 4), clear), tmp_path / "in" / f"{name}.png")
        code, _, err = restore(tmp_path / "in", "-o", tmp_path / "out", "--format", "jpg")
        assert (code, err) == (0, "manas: alpha is not kept in JPEG (3 files)\n")


@pytest.mark.usefixtures("loaded")
class TestFailures:
    def test_unreadable_files_are_named_in_the_end_and_the_rest_is_done(self, restore, folder, tmp_path):
        (folder / "aa.png").write_text("no picture")
        (folder / "deep" / "empty.jpg").touch()
        code, out, err = restore(folder, "-o", tmp_path / "out")
        assert code == 1
        assert tree(tmp_path / "out") == ["a.png", "b.jpg", "deep/c.tif"]
        assert len(out.split()) == 3
        heading, *lines = err.splitlines()
        assert heading == "manas: 2 of 5 files could not be restored:"
        for line, name in zip(lines, ("aa.png", "deep/empty.jpg"), strict=True):
            assert line.startswith(f"{folder / name}: cannot read it as an image")

    def test_a_full_disk(self, restore, folder, tmp_path, monkeypatch):
        def fail(path, *_, **__):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(encoding, "_write", fail)
        code, out, err = restore(folder, "-o", tmp_path / "out")
        assert (code, out, tree(tmp_path / "out")) == (1, "", [])
        assert f"{folder / 'a.png'}: {tmp_path / 'out' / 'a.png'}: cannot be written" in err
        assert "No space left on device" in err

    @pytest.mark.parametrize(
        ("error", "said"), [(MemoryError(), "MemoryError"), (RuntimeError("no\nkernel"), "no kernel")]
    )
    def test_a_picture_that_the_network_cannot_take(self, error, said, restore, folder, tmp_path, monkeypatch):
        def fail(pixels, progress=None):
            if pixels.shape[0] == 6:
                raise error
            return pixels

        monkeypatch.setattr(Restorer, "load", lambda *_, **__: fail)
        code, _, err = restore(folder, "-o", tmp_path / "out")
        assert (code, tree(tmp_path / "out")) == (1, ["a.png", "deep/c.tif"])
        assert err.splitlines()[1] == f"{folder / 'b.jpg'}: {said}"

    def test_a_reader_that_has_gone_is_no_failure_of_a_picture(self, restore, folder, tmp_path, monkeypatch):
        def leave(text):
            raise BrokenPipeError(32, "Broken pipe")

        monkeypatch.setattr(command, "say", leave)
        code, _, err = restore(folder, "-o", tmp_path / "out")
        assert (code, tree(tmp_path / "out")) == (1, ["a.png"])
        assert "could not be restored" not in err

    def test_an_interruption(self, restore, folder, tmp_path, monkeypatch):
        def interrupt(pixels, progress=None):
            if pixels.shape[0] == 6:
                raise KeyboardInterrupt
            return pixels

        monkeypatch.setattr(Restorer, "load", lambda *_, **__: interrupt)
        code, out, err = restore(folder, "-o", tmp_path / "out", "--side-by-side")
        assert (code, tree(tmp_path / "out")) == (130, ["a.png", "a.png.compare.png"])
        assert out.split() == [str(tmp_path / "out" / "a.png")]
        assert err.splitlines()[-1] == (
            "manas: interrupted, 1 of 3 files done; --skip-existing goes on after these"
        )
        for given in (["--in-place"], ["-o", tmp_path / "out", "--overwrite"]):
            code, _, err = restore(folder, *given)
            assert (code, err.splitlines()[-1]) == (130, "manas: interrupted, 1 of 3 files done")


class TestOptions:
    def test_reach_the_restorer(self, restore, loaded, folder, tmp_path):
        given = ["--task", "desnow", "--ensemble", "--strength", "0.5", "--tile", "64"]
        given += ["--statistics", "exact", "--precision", "bf16"]
        assert restore(folder, "-o", tmp_path / "out", *given)[0] == 0
        assert loaded == {
            "task": "desnow",
            "ensemble": True,
            "strength": 0.5,
            "tile": 64,
            "statistics": "exact",
            "precision": "bf16",
            "device": "cpu",
            "space": None,
        }

    def test_defaults(self, restore, loaded, folder, tmp_path):
        restore(folder, "-o", tmp_path / "out", "--task", "blind")
        assert (loaded["task"], loaded["tile"], loaded["ensemble"], loaded["strength"]) == (
            None,
            "auto",
            False,
            1,
        )
        restore(folder, "-o", tmp_path / "again", "--tile", "none")
        assert loaded["tile"] is None

    def test_make_a_difference(self, restore, folder, tmp_path):
        """Through the real network: none of them is lost on the way."""
        given = {
            "plain": [],
            "task": ["--task", "desnow"],
            "none": ["--strength", "0"],
            "eight": ["--ensemble"],
        }
        for name, options in given.items():
            assert restore(folder / "a.png", "-o", tmp_path / f"{name}.png", *options)[0] == 0
        results = {name: read_image(tmp_path / f"{name}.png") for name in given}
        np.testing.assert_array_equal(results["none"], drawn(7, 5))
        for name in ("task", "none", "eight"):
            assert not np.array_equal(results[name], results["plain"])


class TestMistakesInTheCall:
    def test_are_one_line(self, fails, folder, model, tmp_path):
        out = tmp_path / "out"
        (tmp_path / "empty").mkdir()
        cases = [
            ([folder], ["either -o", "--in-place"]),
            ([folder, "-o", out, "--in-place"], ["either -o", "--in-place"]),
            ([folder, "-o", out, "--overwrite", "--skip-existing"], ["contradict"]),
            ([folder, "--in-place", "--overwrite"], ["for -o"]),
            ([folder, "--in-place", "--side-by-side"], ["nothing is put beside"]),
            ([folder, "--in-place", "--format", "png"], ["keep their format"]),
            ([tmp_path / "none.png", "-o", out], ["none.png", "give images"]),
            ([folder / "*.bmp", "-o", out], ["*.bmp", "no image"]),
            ([tmp_path / "empty", "-o", out], [str(tmp_path / "empty"), "no image"]),
            ([folder / "a.png", "-o", folder / "a.png"], ["overwrite", "another -o", "--in-place"]),
            ([folder, "-o", folder], ["overwrite", "another -o"]),
            ([folder, "-o", tmp_path / "out.png"], ["give a folder"]),
            ([folder, "-o", out, "--task", "derian"], ["'derian'", "did you mean 'derain'"]),
            ([folder, "-o", out, "--tile", "0"], ["tile"]),
            ([folder, "-o", out, "--tile", "big"], ["--tile 'big'", "none"]),
            ([folder, "-o", out, "--strength", "2"], ["strength=2"]),
            ([folder, "-o", out, "--device", "gpu"], ["device=gpu", "cpu"]),
            ([folder, "-o", out, "--space", "json:loads"], ["'json:loads'", "no SearchSpace"]),
        ]
        for given, parts in cases:
            fails("restore", "--model", model, *given, says=parts)
        assert not out.exists()

    def test_of_choices_name_them(self, restore, folder, tmp_path):
        for option in ("--format", "--statistics", "--precision"):
            code, _, err = restore(folder, "-o", tmp_path / "out", option, "gif")
            assert code == 2
            assert option in err


def test_pictures_of_every_kind_come_out_as_they_went_in(restore, loaded, tmp_path):
    grey = np.repeat(drawn(6, 8)[..., :1], 3, axis=2)
    kinds = {
        "grey.png": Picture(grey, grey=True),
        "clear.png": Picture(drawn(6, 8), grey[..., 0]),
        "deep.png": Picture(drawn(6, 8, np.uint16)),
        "grey.jpg": Picture(grey, grey=True),
        "clear.webp": Picture(drawn(6, 8), grey[..., 0]),
        "clear.tif": Picture(drawn(6, 8), grey[..., 0]),
        "plain.bmp": Picture(drawn(6, 8)),
    }
    for name, picture in kinds.items():
        encode(picture, tmp_path / "in" / name)
    assert restore(tmp_path / "in", "-o", tmp_path / "out")[::2] == (0, "")
    assert sorted(os.listdir(tmp_path / "out")) == sorted(kinds)
    for name, picture in kinds.items():
        restored = decode(tmp_path / "out" / name)
        assert restored.grey == picture.grey
        assert restored.pixels.dtype == picture.pixels.dtype
        if not name.endswith(".jpg"):
            np.testing.assert_array_equal(restored.pixels, invert(picture.pixels))
        if picture.alpha is not None:
            np.testing.assert_array_equal(restored.alpha, picture.alpha)
