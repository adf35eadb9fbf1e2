"""Every published layout in small: recognised, paired, loaded; and what is broken is named."""

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, content, picture

from manas.data.archives import inspect_archive, read_archive
from manas.data.dataset.cache import ImageCache
from manas.data.dataset.config import SourceConfig
from manas.data.images import read_image, write_image
from manas.errors import ManasError


def shown(picture):
    return content(picture.read())


def scene_numbers(archive):
    return [int("".join(filter(str.isdigit, scene.name))) for scene in archive.scenes]


@pytest.mark.parametrize("name", MINIATURES)
class TestEveryLayout:
    def test_is_recognised_and_paired(self, name, tmp_path):
        miniature = MINIATURES[name]()
        archive = read_archive(miniature.write(tmp_path))
        assert archive.layout == miniature.layout
        assert archive.levels == miniature.levels
        assert scene_numbers(archive) == list(miniature.scenes)
        for number, scene in zip(miniature.scenes, archive.scenes, strict=True):
            assert shown(scene.clean) == (number % 50, 0)
            assert list(scene.degraded) == list(miniature.levels)
            for place, degraded in enumerate(scene.degraded.values(), 1):
                assert shown(degraded) == (number % 50, place)
            assert [shown(mask) for mask in scene.masks.values()] in ([], [(number % 50, 2)])

    def test_is_forced_by_name(self, name, tmp_path):
        miniature = MINIATURES[name]()
        root = miniature.write(tmp_path)
        assert read_archive(root, layout=miniature.layout) == read_archive(root)

    def test_is_loaded(self, name, tmp_path):
        miniature = MINIATURES[name]()
        source = SourceConfig(task="derain", pairs=str(miniature.write(tmp_path)))
        opened = source.open(len(miniature.levels), ImageCache(1 << 24))
        for index, number in enumerate(miniature.scenes):
            crop = opened.crop(index, 32, np.random.default_rng(0), augment=False)
            assert content(255 * crop.clean) == (number % 50, 0)
            assert [content(255 * each) for each in crop.degraded] == [
                (number % 50, place) for place in range(1, len(miniature.levels) + 1)
            ]


def removed(path):
    path.unlink()


def renamed(path):
    path.rename(path.with_name(f"other_{path.name}"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def emptied(path):
    path.write_bytes(b"")


def cropped(path):
    write_image(path, read_image(path)[:-8])


def no_image(path):
    path.write_text("no image")


def load(root):
    """All of it, as a training would."""
    levels = read_archive(root).levels
    source = SourceConfig(task="derain", pairs=str(root)).open(len(levels), ImageCache(0))
    for index in range(len(source.pictures)):
        source.crop(index, 16, np.random.default_rng(index), augment=False)


PAIRED = [name for name, miniature in MINIATURES.items() if miniature().layout != "halves"]
SAYS = {
    removed: "no partner|no such file",
    renamed: "no partner|no such file|neither|does not end",
    truncated: "cannot read",
    emptied: "it is empty",
    cropped: "pairs must have one size",
    no_image: "cannot read it as an image",
}


@pytest.mark.parametrize("fault", SAYS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", PAIRED)
def test_a_broken_file_is_named(name, fault, tmp_path):
    root = MINIATURES[name]().write(tmp_path)
    scene = read_archive(root).scenes[1]
    *_, broken = scene.degraded.values()
    fault(broken.path)
    with pytest.raises(ManasError, match=SAYS[fault]) as error:
        load(root)
    gone = scene.clean.path if fault is removed and not root.suffix else broken.path
    assert gone.name in str(error.value)


@pytest.mark.parametrize("fault", [truncated, emptied, no_image], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", ["rain800 left", "rain800 right"])
def test_a_broken_file_of_halves_is_named(name, fault, tmp_path):
    root = MINIATURES[name]().write(tmp_path)
    fault(tmp_path / "2.jpg")
    with pytest.raises(ManasError, match=rf"2\.jpg.*{SAYS[fault]}"):
        load(root)


def test_the_file_of_a_half_that_cannot_be_read_is_named_once(tmp_path):
    root = MINIATURES["did_mdn"]().write(tmp_path)
    source = SourceConfig(task="derain", pairs=str(root)).open(3, ImageCache(0))
    truncated(tmp_path / "Rain_Heavy" / "train2018new" / "2.jpg")
    with pytest.raises(ManasError, match=r"^\S+2\.jpg: cannot read"):
        source.crop(1, 16, np.random.default_rng(0), augment=False)


def test_halves_of_odd_width(tmp_path):
    root = MINIATURES["rain800 left"]().write(tmp_path)
    write_image(tmp_path / "2.jpg", read_image(tmp_path / "2.jpg")[:, :-1])
    with pytest.raises(ManasError, match=r"1 odd_width: \S+2\.jpg: 63x32 is odd in width"):
        read_archive(root)
    assert scene_numbers(read_archive(root, allow=["odd_width"])) == [1, 3, 10]


def test_problems_are_counted_capped_and_allowed(tmp_path):
    root = MINIATURES["levels"]().write(tmp_path)
    for n in range(20, 25):
        write_image(root / "light" / f"{n}.png", picture(n, 1))
    emptied(root / "heavy" / "02.tiff")
    with pytest.raises(ManasError) as error:
        read_archive(root)
    said = str(error.value)
    assert said.startswith(f"{root}: 5 unmatched, 1 unreadable: ")
    assert [f"{n}.png" in said for n in range(20, 25)] == [True] * 3 + [False] * 2
    assert "and 2 more" in said
    assert "allow [unmatched, unreadable]" in said
    assert "\n" not in said
    with pytest.raises(ManasError, match="1 unreadable: "):
        read_archive(root, allow=["unmatched"])
    archive = read_archive(root, allow=["unmatched", "unreadable"])
    assert [len(scene.degraded) for scene in archive.scenes] == [4, 3, 4]
    assert archive.notes == ("allowed: 5 unmatched, 1 unreadable",)
    with pytest.raises(ManasError, match="002.PNG has 3 .* but data.versions is 4; set data.versions=3"):
        SourceConfig(task="x", pairs=str(root), allow=["unmatched", "unreadable"]).open(4, ImageCache(0))


def test_an_unsound_clean_picture_takes_its_scene_along(tmp_path):
    root = MINIATURES["levels"]().write(tmp_path)
    emptied(root / "Clean" / "002.PNG")
    assert scene_numbers(read_archive(root, allow=["unreadable"])) == [1, 10]


def test_duplicates_keep_the_first(tmp_path):
    root = MINIATURES["rain12"]().write(tmp_path)
    write_image(root / "target" / "002.png", picture(30))
    archive = inspect_archive(root)
    (problem,) = archive.problems
    assert (problem.kind, problem.path.name) == ("duplicate", "2.png")
    assert "002.png" in problem.message
    assert "keep one" in problem.message
    assert shown(archive.scenes[1].clean) == (30, 0)


def test_what_nothing_is_left_of_is_refused(tmp_path):
    root = MINIATURES["rain12"]().write(tmp_path)
    for path in (root / "target").iterdir():
        emptied(path)
    with pytest.raises(ManasError, match="no pair is left"):
        read_archive(root, allow=["unreadable"])


def test_an_unknown_kind_to_allow(tmp_path):
    root = MINIATURES["rain12"]().write(tmp_path)
    with pytest.raises(ManasError, match="no problem is of kind 'unmatchd'; did you mean 'unmatched'"):
        read_archive(root, allow=["unmatchd"])
