"""What `check` finds: scores, broken files, backgrounds twice in a set or in two; each is a planted fault."""

import struct
import threading
import warnings
import zlib
from statistics import mean

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, folders, picture
from PIL import Image

from manas.data.archives import inspect_archive
from manas.data.checking import check as checking
from manas.data.checking.check import check, leaks
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs
from manas.evaluation.protocols import protocol_named

measure = protocol_named("derain").measure


def checked(root, **options):
    return check(inspect_archive(root), measure, **options)


def found(result):
    return {(problem.kind, problem.path.name) for problem in result.problems}


@pytest.fixture
def rain12(tmp_path):
    return MINIATURES["rain12"]().write(tmp_path / "rain12")


@pytest.mark.parametrize("name", MINIATURES)
def test_a_sound_set_is_sound(name, tmp_path):
    miniature = MINIATURES[name]()
    result = checked(miniature.write(tmp_path))
    assert result.sound
    assert result.problems == ()
    assert len(result.signatures) == len(miniature.scenes)
    assert tuple(result.scores) == miniature.levels
    assert {scores.images for scores in result.scores.values()} == {len(miniature.scenes)}


class TestScores:
    def test_are_means_of_each_level(self, tmp_path):
        result = checked(MINIATURES["did_mdn"]().write(tmp_path))
        for place, level in enumerate(("light", "medium", "heavy"), 1):
            files = (read_image(tmp_path / f"Rain_{level.title()}/train2018new/{n}.jpg") for n in (1, 2, 10))
            own = [measure(pair[:, :32], pair[:, 32:]) for pair in files]
            clean = [read_image(tmp_path / f"Rain_Light/train2018new/{n}.jpg")[:, 32:] for n in (1, 2, 10)]
            assert all(np.array_equal(pair, picture(n)) for pair, n in zip(clean, (1, 2, 10), strict=True))
            assert result.scores[level].means["psnr"] == pytest.approx(mean(each["psnr"] for each in own)), (
                place
            )
            assert result.scores[level].means["ssim"] == pytest.approx(mean(each["ssim"] for each in own))

    @pytest.mark.parametrize(
        ("most", "places"), [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, None)]
    )
    def test_are_of_scenes_at_even_distances(self, most, places, tmp_path):
        root = folders("", "gt/{}.png", "in/{}.png", numbers=tuple(range(10))).write(tmp_path)
        measured = []

        def note(degraded, clean):
            measured.append(int(clean[0, 0, 0]) // 5)
            return {"psnr": 20.0, "ssim": 0.5}

        result = check(inspect_archive(root), note, scored=most)
        expected = list(range(10)) if places is None else places
        assert sorted(measured) == expected
        assert result.scored == len(expected)
        assert result.sound

    def test_identical_images_are_counted_and_left_out(self, rain12):
        write_image(rain12 / "input" / "2.png", picture(2))
        (scores,) = checked(rain12).scores.values()
        others = [measure(picture(n, 1), picture(n)) for n in (1, 10)]
        assert (scores.images, scores.identical) == (3, {"psnr": 1, "ssim": 0})
        assert scores.means["psnr"] == pytest.approx(mean(each["psnr"] for each in others))
        assert scores.means["ssim"] == pytest.approx((1 + sum(each["ssim"] for each in others)) / 3)
        for n in (1, 10):
            write_image(rain12 / "input" / f"{n}.png", picture(n))
        (scores,) = checked(rain12).scores.values()
        assert scores.identical["psnr"] == 3
        assert scores.means == {"psnr": float("inf"), "ssim": 1}

    def test_a_picture_that_is_too_small_is_named(self, tmp_path):
        for kind, level in (("clean", 0), ("light", 1)):
            write_image(tmp_path / kind / "1.png", picture(1, level, (10, 32)))
            write_image(tmp_path / kind / "2.png", picture(2, level, (11, 32)))
        result = checked(tmp_path)
        assert found(result) == {("size", "1.png")}
        assert "at least 11 x 11 pixels, got 10 x 32" in result.problems[0].message
        assert result.problems[0].path.parent.name == "light"
        assert result.scores["light"].images == 1


def test_progress_is_of_scenes(rain12):
    calls = []
    checked(rain12, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]


class TestFilesThatDecodingBreaks:
    @pytest.mark.parametrize("folder", ["gt", "synthetic", "mask"])
    def test_each_is_named_once_and_the_rest_is_read(self, folder, tmp_path):
        root = MINIATURES["snow100k test"]().write(tmp_path)
        broken = root / folder / "2.jpg"
        broken.write_bytes(broken.read_bytes()[:-20])
        result = checked(root)
        (problem,) = result.problems
        assert (problem.kind, problem.path) == ("unreadable", broken)
        assert str(problem).count(str(broken)) == 1
        assert "cannot read it as an image (image file is truncated" in problem.message
        assert len(result.signatures) == (2 if folder == "gt" else 3)
        assert result.scores["synthetic"].images == (3 if folder == "mask" else 2)
        assert not result.sound

    def test_a_file_of_halves_is_named_once(self, tmp_path):
        root = MINIATURES["did_mdn"]().write(tmp_path)
        broken = root / "Rain_Light" / "train2018new" / "2.jpg"
        broken.write_bytes(broken.read_bytes()[:-200])
        assert [problem.path for problem in checked(root).problems] == [broken]

    def test_a_clean_picture_of_many_is_named_once(self, tmp_path):
        root = MINIATURES["rain1400"]().write(tmp_path)
        broken = root / "ground_truth" / "901.jpg"
        broken.write_bytes(broken.read_bytes()[:-20])
        assert [problem.path for problem in checked(root).problems] == [broken]

    def test_a_size_that_the_header_does_not_tell(self, tmp_path):
        """A camera may write the orientation behind the pixels, where only those find it who decode them."""
        for kind, level in (("clean", 0), ("light", 1)):
            for n in (1, 2):
                write_image(tmp_path / kind / f"{n}.png", picture(n, level, (24, 32)))
        turn_behind_the_pixels(tmp_path / "light" / "2.png")
        assert read_image(tmp_path / "light" / "2.png").shape == (32, 24, 3)
        assert inspect_archive(tmp_path).problems == ()
        for scored in (0, 2):
            result = checked(tmp_path, scored=scored)
            (problem,) = result.problems
            assert (problem.kind, problem.path) == ("size", tmp_path / "light" / "2.png")
            assert problem.message.startswith(f"24x32, but its clean image {tmp_path}/clean/2.png is 32x24")


def turn_behind_the_pixels(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = b"eXIf" + content
    data, end = path.read_bytes()[:-12], path.read_bytes()[-12:]
    path.write_bytes(
        data + struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end
    )


def test_every_file_is_decoded_once(tmp_path, monkeypatch):
    decoded = []

    def read(path):
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(checking, "read_image", read)
    for name in ("did_mdn", "rain800 left", "snow100k training"):
        root = MINIATURES[name]().write(tmp_path / name)
        decoded.clear()
        checked(root)
        assert sorted(decoded) == sorted(root.rglob("[0-9]*.jpg"))


def test_warnings_of_one_thread_are_not_those_of_another(rain12, monkeypatch):
    """Readers silence warnings for a while, but filters belong to the process."""
    silent, over = threading.Event(), threading.Event()

    def read(path):
        name = f"{path.parent.name}/{path.stem}"
        assert name != "target/2" or silent.wait(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "target/1":
                silent.set()
                threading.Event().wait(0.05)
            if name == "target/2":
                assert over.wait(10)
                warnings.warn("odd metadata", stacklevel=1)
        if name == "target/1":
            over.set()
        return read_image(path)

    monkeypatch.setattr(checking.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(checking, "read_image", read)
    before = list(warnings.filters)
    assert checked(rain12).sound
    assert warnings.filters == before


@pytest.fixture(scope="module")
def photographs():
    """Of 240 x 160 pixels."""
    paths = {**builtin_photographs("training"), **builtin_photographs("held_out")}
    names = ("chelsea", "coffee", "astronaut", "rocket")
    return {name: Image.open(paths[name]).convert("RGB").resize((240, 160)) for name in names}


def save(folder, name, image, suffix="png"):
    """A clean picture, and a rain of its own on it."""
    rainy = np.asarray(image).copy()
    rainy[:, sum(map(ord, name)) % 16 :: 16] = 255
    (folder / "clean").mkdir(parents=True, exist_ok=True)
    image.save(folder / "clean" / f"{name}.{suffix}", **({"quality": 75} if suffix == "jpg" else {}))
    write_image(folder / "heavy" / f"{name}.png", rainy)


def middle(image):
    return image.crop((30, 10, 190, 150))


class TestBackgroundsTwice:
    def test_scenes_with_other_rain(self, tmp_path):
        """As the full Rain100L has nine."""
        miniature = folders("folders", "clean/{}.png", "light/{}.png", numbers=tuple(range(1, 13)))
        root = miniature.write(tmp_path)
        for n in range(1, 10):
            write_image(root / "clean" / f"{100 + n}.png", picture(n))
            write_image(root / "light" / f"{100 + n}.png", picture(n, 4))
        result = checked(root)
        assert {(match.first, match.second) for match in result.twice} == {
            (str(n), str(100 + n)) for n in range(1, 10)
        }
        assert {match.kind for match in result.twice} == {"identical"}
        assert result.problems == ()
        assert not result.sound

    def test_encoded_again_and_cut_out(self, photographs, tmp_path):
        for name, image in photographs.items():
            save(tmp_path, name, image)
        save(tmp_path, "again", photographs["coffee"], "jpg")
        save(tmp_path, "part", middle(photographs["chelsea"]))
        twice = {(*sorted((match.first, match.second)), match.kind) for match in checked(tmp_path).twice}
        assert twice == {("again", "coffee", "near"), ("chelsea", "part", "crop")}

    def test_in_two_of_three_sets(self, photographs, tmp_path):
        for name in ("chelsea", "coffee"):
            save(tmp_path / "train", name, photographs[name])
        save(tmp_path / "test", "1", middle(photographs["chelsea"]), "jpg")
        save(tmp_path / "test", "2", photographs["coffee"].resize((180, 120)))
        save(tmp_path / "test", "3", photographs["rocket"])
        save(tmp_path / "other", "4", photographs["astronaut"])
        checks = [checked(tmp_path / name) for name in ("train", "other", "test")]
        assert all(each.sound for each in checks)
        (shared,) = leaks(checks)
        assert (shared.one, shared.other) == (checks[0], checks[2])
        kinds = {(match.first, match.second, match.kind) for match in shared.matches}
        assert kinds == {("chelsea", "1", "crop"), ("coffee", "2", "near")}
        assert leaks(checks[:2]) == leaks(checks[:1]) == leaks([]) == []


def test_a_set_of_which_nothing_is_left(rain12):
    for path in (rain12 / "target").iterdir():
        path.write_bytes(b"")
    result = checked(rain12)
    assert {("unreadable", f"{n}.png") for n in (1, 2, 10)} <= found(result)
    assert (result.archive.scenes, result.scores, result.twice) == ((), {}, ())
