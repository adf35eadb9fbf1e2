"""Which sets a root holds, and what a set is asked for: levels, sides, exclusions; what published sets are."""

import os
from pathlib import Path

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, content, folders, halves, one_folder, outdoor_rain, picture
from PIL import Image

from manas.data.archives import (
    Archive,
    Fingerprint,
    Scene,
    StoredImage,
    find_archives,
    fingerprint,
    inspect_archive,
    read_archive,
)
from manas.data.images import write_image
from manas.errors import ManasError


def names(archive):
    return [scene.name for scene in archive.scenes]


class TestSeveralSets:
    @pytest.fixture
    def root(self, tmp_path):
        for place in ("train/Rain13K", "test/Test100", "test/Rain100L", "a/b/c/d/e/Snow100K-L"):
            MINIATURES["rain13k"]().write(tmp_path / place)
        (tmp_path / "__MACOSX" / "input").mkdir(parents=True)
        (tmp_path / "__MACOSX" / "gt").mkdir()
        return tmp_path

    def test_are_found(self, root):
        found = [path.relative_to(root).as_posix() for path in find_archives(root)]
        assert found == ["a/b/c/d/e/Snow100K-L", "test/Rain100L", "test/Test100", "train/Rain13K"]
        assert find_archives(root / "train" / "Rain13K") == [root / "train" / "Rain13K"]

    def test_are_not_read_as_one(self, root):
        with pytest.raises(ManasError, match=r"no set itself, but holds 4; give one of them: .*test.Test100, "):
            read_archive(root)

    def test_a_link_to_above_ends(self, root):
        os.symlink(root, root / "train" / "again")
        assert len(find_archives(root)) == 4
        degraded = root / "train" / "Rain13K" / "input"
        os.symlink(degraded, degraded / "self")
        assert len(read_archive(degraded.parent).scenes) == 3


class TestRefused:
    def refused(self, root, *parts, **options):
        with pytest.raises(ManasError) as error:
            read_archive(root, **options)
        for part in parts:
            assert str(part) in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("options", [{}, {"layout": "folders"}, {"layout": "did_mdn"}])
    def test_missing_folder(self, options, tmp_path):
        self.refused(tmp_path / "none", tmp_path / "none", "no such folder", "give a folder", **options)

    def test_file(self, tmp_path):
        write_image(tmp_path / "a.png", picture(1))
        self.refused(tmp_path / "a.png", "no such folder")

    def test_no_clean_folder(self, tmp_path):
        write_image(tmp_path / "rain" / "1.png", picture(1))
        self.refused(tmp_path, tmp_path, "no folder of clean images", "norain", "layout: halves")

    def test_photographs_are_no_halves(self, tmp_path):
        for n in range(5):
            pair = np.concatenate([picture(2 * n), picture(2 * n + 1)], 1)
            write_image(tmp_path / f"{n}.png", pair)
        self.refused(tmp_path, tmp_path, "no folder of clean images")

    def test_no_degraded_folder(self, tmp_path):
        for folder in ("target", "anything"):
            write_image(tmp_path / folder / "1.png", picture(1))
        self.refused(tmp_path, tmp_path, "no degraded images beside 'target'", "'input'")

    def test_two_clean_folders(self, tmp_path):
        for folder in ("gt", "target", "input"):
            write_image(tmp_path / folder / "1.png", picture(1))
        self.refused(tmp_path, "gt and target may each be", "{clean: FOLDER")

    def test_two_spellings_of_a_folder(self, tmp_path):
        for folder in ("gt", "rainy image", "rainy_image"):
            write_image(tmp_path / folder / "1.png", picture(1))
        self.refused(tmp_path, "'rainy image'", "'rainy_image'", "rename one")

    @pytest.mark.parametrize("empty", ["target", "input"])
    def test_folder_without_images(self, empty, tmp_path):
        for folder in {"target", "input"} - {empty}:
            write_image(tmp_path / folder / "1.png", picture(1))
        (tmp_path / empty).mkdir()
        (tmp_path / empty / "notes.txt").touch()
        self.refused(tmp_path, tmp_path / empty, "no image")

    def test_unknown_layout(self, tmp_path):
        self.refused(tmp_path, "'did-mdn'", "did you mean 'did_mdn'", layout="did-mdn")

    def test_a_layout_that_is_not_there(self, tmp_path):
        MINIATURES["rain12"]().write(tmp_path)
        self.refused(tmp_path, "no folder 'rain'", layout="rain200")
        self.refused(tmp_path, "no folder 'rain'", layout="rain200")

    def test_a_side_of_what_has_none(self, tmp_path):
        MINIATURES["rain12"]().write(tmp_path)
        self.refused(tmp_path, "files of two halves", "leave it out", side="left")

    def test_an_image_that_lacks_one_of_several_levels(self, tmp_path):
        root = MINIATURES["levels"]().write(tmp_path)
        (root / "heavy" / "02.tiff").unlink()
        self.refused(root, root / "Clean" / "002.PNG", f"no partner in {root / 'heavy'};", "share a name")

    def test_a_version_that_is_missing(self, tmp_path):
        root = outdoor_rain(1, 2).write(tmp_path)
        (root / "in" / "im_0002_s90_a05.png").unlink()
        self.refused(root, "im_0002.png: no partner in", "(level s90_a05)")


class TestLevels:
    def test_are_chosen_by_name(self, tmp_path):
        root = MINIATURES["levels"]().write(tmp_path)
        (root / "fog" / "1.bmp").unlink()  # of a level that is not asked for
        assert read_archive(root, levels=["heavy", "light"]).levels == ("light", "heavy")

    def test_an_unknown_one(self, tmp_path):
        root = MINIATURES["levels"]().write(tmp_path)
        with pytest.raises(ManasError, match="no degraded images of level 'hevy'; did you mean 'heavy'"):
            read_archive(root, levels=["hevy"])

    def test_the_clean_half_is_that_of_the_lightest_of_all(self, tmp_path):
        """Else two sources with different levels would not know that they share backgrounds."""
        root = MINIATURES["did_mdn"]().write(tmp_path)
        (scene, *_) = read_archive(root, levels=["heavy"]).scenes
        assert scene.clean == StoredImage(root / "Rain_Light" / "train2018new" / "1.jpg", "right")
        assert scene.degraded == {"heavy": StoredImage(root / "Rain_Heavy" / "train2018new" / "1.jpg", "left")}


class TestHalves:
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_the_vote_is_noted(self, side, tmp_path):
        archive = read_archive(MINIATURES[f"rain800 {side}"]().write(tmp_path))
        assert archive.notes == (f"the degraded half is the {side} one (4 of 4 files)",)

    def test_a_side_overrides_vote_and_layout(self, tmp_path):
        for name in ("rain800 left", "did_mdn"):
            archive = read_archive(MINIATURES[name]().write(tmp_path / name), side="right")
            assert not archive.notes
            assert {scene.clean.half for scene in archive.scenes} == {"left"}

    def test_an_undecided_vote_asks(self, tmp_path):
        for n in range(4):
            write_image(tmp_path / f"{n}.png", halves(n, 1, ("left", "right")[n % 2]))
        with pytest.raises(ManasError, match="of 4 files 2 speak for left, 2 for right.; give side: left"):
            read_archive(tmp_path)
        assert len(read_archive(tmp_path, side="left").scenes) == 4

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_a_file_speaks_only_where_light_and_edges_agree(self, side, tmp_path):
        """Else a bright sky on one side would outvote the rain on the other."""
        sky = [60] * 32 + [0] * 32
        for n in range(4):
            pair = halves(n, 1, side).astype(int) + np.reshape(
                sky if side == "right" else sky[::-1], (1, 64, 1)
            )
            write_image(tmp_path / f"{n}.png", pair.clip(0, 255).astype(np.uint8))
        with pytest.raises(ManasError, match="of 4 files 0 speak for left, 0 for right"):
            read_archive(tmp_path, layout="halves")

    def test_landscapes_are_no_halves(self, tmp_path):
        """Their halves have one sky and one ground, but nothing across."""
        rng = np.random.default_rng(0)
        for n in range(5):
            sky = np.linspace(220, 40, 32)[:, None, None] + rng.normal(0, 15, (32, 64, 3))
            write_image(tmp_path / f"{n}.png", sky.clip(0, 255).astype(np.uint8))
        with pytest.raises(ManasError, match="no folder of clean images"):
            read_archive(tmp_path)

    def test_levels_may_lie_at_different_depths(self, tmp_path):
        for folder in ("Rain_Light/a/b", "Rain_Heavy"):
            write_image(tmp_path / folder / "1.jpg", halves(1, 1))
        assert read_archive(tmp_path).levels == ("light", "heavy")

    def test_halves_of_two_sizes(self, tmp_path):
        for folder, height in (("Rain_Light", 32), ("Rain_Heavy", 24)):
            write_image(tmp_path / folder / "1.jpg", halves(1, 1)[:height])
        with pytest.raises(
            ManasError, match=r"Heavy.1\.jpg: 32x24, but .*Light.1\.jpg \(right half\) is 32x32"
        ):
            read_archive(tmp_path)

    def test_a_flat_folder_forced_as_did_mdn_is_degraded_left(self, tmp_path):
        archive = read_archive(MINIATURES["rain800 right"]().write(tmp_path), layout="rain1200")
        assert {scene.clean.half for scene in archive.scenes} == {"right"}

    def test_clean_halves_that_disagree(self, tmp_path):
        root = MINIATURES["did_mdn"]().write(tmp_path)
        write_image(root / "Rain_Heavy" / "train2018new" / "2.jpg", halves(7, 3))
        with pytest.raises(ManasError, match=r"1 disagreement: \S+Heavy\S+2.jpg: its clean half is .*Light"):
            read_archive(root)
        assert names(read_archive(root, allow=["disagreement"])) == ["1", "2", "10"]

    @pytest.mark.skipif("MANAS_TEST_DATA" not in os.environ, reason="MANAS_TEST_DATA is not set")
    @pytest.mark.parametrize("level", ["light", "heavy"])
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_of_rain100(self, level, side, tmp_path):
        scenes = read_archive(Path(os.environ["MANAS_TEST_DATA"]) / "rain100", levels=[level]).scenes
        for scene in scenes[:20]:
            pair = [scene.degraded[level].read(), scene.clean.read()]
            write_image(tmp_path / f"{scene.name}.jpg", np.concatenate(pair[:: 1 if side == "left" else -1], 1))
        assert read_archive(tmp_path).notes == (f"the degraded half is the {side} one (20 of 20 files)",)

    def test_pictures(self):
        left, right, whole = StoredImage("b", "left"), StoredImage("b", "right"), StoredImage("b")
        assert sorted([StoredImage("c"), right, left, whole]) == [whole, left, right, StoredImage("c")]
        assert (str(left), str(whole)) == ("b (left half)", "b")
        assert (left.sibling, right.sibling) == (right, left)
        image = np.arange(6).reshape(1, 6, 1)
        assert [each.of(image).ravel().tolist() for each in (left, right)] == [[0, 1, 2], [3, 4, 5]]
        assert len({left, right, whole, StoredImage("b", "left")}) == 3


class TestOutdoorRain:
    def test_test_backgrounds_are_left_out_of_a_larger_set(self, tmp_path):
        root = outdoor_rain(300, 301, 350, 351).write(tmp_path)
        archive = read_archive(root)
        assert names(archive) == ["im_0300", "im_0351"]
        assert archive.notes == ("left out 2 backgrounds, 301 to 350: they are the test set of Outdoor-Rain",)
        assert len(read_archive(root, exclusions=False).scenes) == 4

    def test_the_test_set_keeps_them(self, tmp_path):
        assert len(read_archive(outdoor_rain(301, 350).write(tmp_path)).scenes) == 2


def test_masks_that_some_scenes_lack_are_noted(tmp_path):
    root = MINIATURES["csd"]().write(tmp_path)
    (root / "Mask" / "2.tif").unlink()
    assert read_archive(root).notes == ("1 of 3 scenes have no mask",)


class TestMapping:
    def test_folders_anywhere(self, tmp_path):
        for place, (name, level) in enumerate({"a/gt": 0, "b/x": 1, "c": 2}.items()):
            for n in (1, 2):
                write_image(tmp_path / name / f"{n:0{place + 1}}.png", picture(n, level))
        root = {"clean": tmp_path / "a" / "gt", "heavy": str(tmp_path / "c"), "light": tmp_path / "b"}
        with pytest.raises(ManasError, match="no partner"):
            read_archive(root)
        archive = read_archive(root | {"light": tmp_path / "b" / "x"})
        assert (archive.layout, archive.root, archive.levels) == ("mapping", tmp_path, ("light", "heavy"))
        for n, scene in enumerate(archive.scenes, 1):
            shown = [content(each.read()) for each in (scene.clean, *scene.degraded.values())]
            assert shown == [(n, 0), (n, 1), (n, 2)]

    @pytest.mark.parametrize("root", [{}, {"clean": "a"}, {"light": "a", "heavy": "b"}])
    def test_without_clean_or_level(self, root):
        with pytest.raises(ManasError, match="give one called clean and one a level"):
            read_archive(root)

    def test_a_layout_does_not_fit(self):
        with pytest.raises(ManasError, match="layout is for a folder"):
            read_archive({"clean": "a", "light": "b"}, layout="folders")


class TestLists:
    def listed(self, root, text):
        (root / "pairs.txt").write_text(text, encoding="utf-8")
        return root / "pairs.txt"

    def test_several_versions_are_numbered(self, tmp_path):
        folders("", "c/{}.png", "x/{}.png", "y/{}.png").write(tmp_path)
        lines = [f"{kind}/{n}.png c/{n}.png" for n in (1, 2) for kind in ("x", "y")]
        archive = read_archive(self.listed(tmp_path, "\ufeff" + "\r\n".join(lines)))
        assert archive.levels == ("1", "2")
        assert [content(p.read()) for p in archive.scenes[1].degraded.values()] == [(2, 1), (2, 2)]

    def test_levels_of_a_list_are_those_of_some_scenes(self, tmp_path):
        folders("", "gt/{}.png", "rain/{}.png", "snow/{}.png").write(tmp_path)
        listed = self.listed(tmp_path, "rain/1.png gt/1.png\nsnow/2.png gt/2.png\nrain/10.png gt/10.png")
        assert len(read_archive(listed).scenes) == 3
        archive = read_archive(listed, levels=["rain"])
        assert [scene.name for scene in archive.scenes] == ["gt/1", "gt/10"]
        assert archive.levels == ("rain",)

    def test_a_line_twice(self, tmp_path):
        folders("", "gt/{}.png", "input/{}.png").write(tmp_path)
        (problem,) = inspect_archive(self.listed(tmp_path, "input/1.png\n/input/1.png")).problems
        assert (problem.kind, problem.path.name) == ("duplicate", "1.png")
        assert "line 2" in problem.message

    def test_a_missing_file(self, tmp_path):
        folders("", "gt/{}.png", "input/{}.png").write(tmp_path)
        (tmp_path / "gt" / "2.png").unlink()
        archive = inspect_archive(self.listed(tmp_path, "input/1.png\ninput/2.png\ninput/3.png"))
        assert [problem.path.parent.name for problem in archive.problems] == ["gt", "input"]
        assert names(archive) == ["gt/1"]

    @pytest.mark.parametrize("line", ["input/1.txt", "input/1.png gt/1.png x.png z", "1.png"])
    def test_a_line_that_is_no_pair(self, line, tmp_path):
        with pytest.raises(ManasError, match=r"pairs\.txt, line 2: .*(correct it|write the clean)"):
            read_archive(self.listed(tmp_path, f"# first\n{line}"))

    def test_no_text(self, tmp_path):
        (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(ManasError, match="give a text file"):
            read_archive(tmp_path / "pairs.txt")


def upright(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_sizes_are_of_the_upright_image(suffix, tmp_path):
    write_image(tmp_path / "gt" / f"1.{suffix}", picture(1, size=(24, 40)))
    write_image(tmp_path / "in" / f"1.{suffix}", picture(1, 1, size=(40, 24)))
    assert [problem.kind for problem in inspect_archive(tmp_path).problems] == ["size"]
    upright(tmp_path / "in" / f"1.{suffix}", 6)
    assert set(read_archive(tmp_path).sizes.values()) == {(40, 24)}


def archive_of(layout, backgrounds, versions, style="{}", size=(481, 321)):
    """An index of files that are not there."""
    scenes = []
    for n in range(1, backgrounds + 1):
        clean = StoredImage(Path(f"gt/{style.format(n)}.png"))
        scenes.append(
            Scene(str(n), clean, {str(j): StoredImage(Path(f"in/{n}_{j}.png")) for j in range(versions)})
        )
    files = [p.path for s in scenes for p in (s.clean, *s.degraded.values())]
    return Archive(layout, Path("root"), tuple(scenes), sizes=dict.fromkeys(files, size))


@pytest.mark.parametrize(
    ("archive", "known"),
    [
        (("rain100", 100, 1, "norain-{:03}"), "Rain100L or Rain100H, old test set (100 pairs)"),
        (("rain100", 100, 1, "norain-{}"), None),
        (("rain100", 100, 1, "norain-{:03}", (400, 300)), None),
        (("rain100", 200, 1, "norain-{}"), "RainTrainL, old training set of Rain100L (200 pairs)"),
        (("rain200", 200, 1), "Rain200L or Rain200H, new test set (200 pairs)"),
        (("rain1400", 100, 14), "Rain1400 (DDN), test set (100 x 14)"),
        (("rain1400", 100, 13), None),
        (("outdoor_rain", 550, 15), "Outdoor-Rain, training set without test backgrounds (8250)"),
        (("folders", 100, 1), "Rain100L or Rain100H, old test set, repacked (100 pairs)"),
        (("folders", 100, 1, "{}", (320, 480)), "Rain100L or Rain100H, old test set, repacked (100 pairs)"),
        (("folders", 100, 1, "{}", (400, 300)), "Test100, the test set of Rain800 (100 pairs)"),
        (("folders", 101, 1), None),
    ],
)
def test_published_sets_are_known(archive, known):
    assert fingerprint(archive_of(*archive)).known == known


def test_a_digest_is_of_names_and_sizes_wherever_they_lie(tmp_path):
    digests = []
    for place in ("a", "b/c"):
        root = MINIATURES["did_mdn"]().write(tmp_path / place)
        digests.append(fingerprint(read_archive(root)))
    assert digests[0] == digests[1] == Fingerprint(None, digests[0].digest)
    assert digests[0].digest != fingerprint(read_archive(root, side="right")).digest
    assert digests[0].digest != fingerprint(read_archive(root, levels=["light"])).digest
    file = root / "Rain_Heavy" / "train2018new" / "2.jpg"
    file.unlink()
    assert digests[0].digest != fingerprint(inspect_archive(root)).digest


def test_rain_train_h_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr("manas.data.archives.published.RAIN_TRAIN_H", 3)
    root = one_folder("norain-{}.png", "rain-{}.png").write(tmp_path)
    (note,) = read_archive(root).notes
    assert "546 of its 1800 backgrounds" in note
    assert "exclude" in note
