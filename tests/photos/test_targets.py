"""Files in, files out: where every image goes, and that nothing is overwritten unasked."""

import numpy as np
import pytest

from manas.data.images import write_image
from manas.errors import ManasError
from manas.photos.targets import targets_of
from manas.photos.views import beside


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
        "in/a/d/e.tif": "out/a/d/e.tif",
        "in/b.jpg": "out/b.jpg",
    }


def test_files_and_folders_together(tmp_path):
    touch(tmp_path, "in/a.png", "other/b.JPG")
    given = [tmp_path / "other" / "b.JPG", tmp_path / "in"]
    assert relative(tmp_path, targets_of(given, tmp_path / "out")) == {
        "other/b.JPG": "out/b.JPG",
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


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("keep", ["a.jpg", "a.png", "b.TIFF", "c.png"]),
        ("png", None),
        ("jpg", None),
    ],
)
def test_formats(format, names, tmp_path):
    touch(tmp_path, "in/a.jpg", "in/a.png", "in/b.TIFF", "c.gif")
    given = [tmp_path / "in", tmp_path / "c.gif"]
    if names is None:
        with pytest.raises(ManasError, match="another input goes to"):
            targets_of(given, tmp_path / "out", format=format)
        (tmp_path / "in" / "a.png").unlink()
        names = [f"{stem}.{format}" for stem in "abc"]
    targets = targets_of(given, tmp_path / "out", format=format)
    assert [target.name for target in targets.values()] == names


class TestPatterns:
    @pytest.fixture(autouse=True)
    def _tree(self, tmp_path, monkeypatch):
        touch(tmp_path, "in/b.jpg", "in/a/c.png", "in/a/d/e.tif", "in/.f/g.png", "in/notes.txt")
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("pattern", "targets"),
        [
            ("in/*", ["b.jpg"]),
            ("in/**", ["a/c.png", "a/d/e.tif", "b.jpg"]),
            ("in/**/*.png", ["a/c.png"]),
            ("in/a/*/*", ["d/e.tif"]),
            ("i?/[ab].jpg", ["in/b.jpg"]),
        ],
    )
    @pytest.mark.parametrize("absolute", [False, True])
    def test_the_tree_below_what_is_fixed_is_kept(self, pattern, targets, absolute, tmp_path):
        found = targets_of([str(tmp_path / pattern) if absolute else pattern], tmp_path / "out")
        assert [t.relative_to(tmp_path / "out").as_posix() for t in found.values()] == targets

    def test_one_that_finds_nothing(self, tmp_path):
        for pattern in ("in/*.bmp", "in/*.txt", "none/*"):
            with pytest.raises(ManasError, match="no image"):
                targets_of([pattern], tmp_path / "out")

    def test_videos_are_named_or_matched_and_never_found_in_folders(self, tmp_path):
        touch(tmp_path, "in/clip.MP4", "clips/clip.mkv")
        out = tmp_path / "out"
        assert out / "clip.MP4" not in targets_of(["in"], out).values()
        assert [target.name for target in targets_of(["in/*"], out).values()] == ["b.jpg", "clip.MP4"]
        assert [target.name for target in targets_of(["in/clip.MP4"], out).values()] == ["clip.MP4"]
        with pytest.raises(ManasError, match="clips: no image .*patterns only"):
            targets_of(["clips"], out)

    def test_a_file_whose_name_looks_like_one(self, tmp_path):
        touch(tmp_path, "in/[ab].png")
        assert [path.name for path in targets_of(["in/[ab].png"], tmp_path / "out")] == ["[ab].png"]


def test_in_place(tmp_path):
    touch(tmp_path, "in/a.png", "in/deep/b.jpg")
    targets = targets_of([tmp_path / "in"], None)
    assert list(targets) == list(targets.values())
    assert relative(tmp_path, targets) == {"in/a.png": "in/a.png", "in/deep/b.jpg": "in/deep/b.jpg"}


def test_in_place_links_stay_links(tmp_path):
    touch(tmp_path, "in/a.png", "far/b.png")
    try:
        (tmp_path / "in" / "b.png").symlink_to(tmp_path / "far" / "b.png")
    except OSError:
        pytest.skip("no symbolic links here")
    targets = relative(tmp_path, targets_of([tmp_path / "in"], None))
    assert targets == {"in/a.png": "in/a.png", "in/b.png": "far/b.png"}


def test_results_among_the_sources_are_no_sources(tmp_path):
    touch(tmp_path, "in/a.png", "in/restored/a.png", "in/restored/deep/b.png")
    targets = targets_of([tmp_path / "in"], tmp_path / "in" / "restored", overwrite=True)
    assert relative(tmp_path, targets) == {"in/a.png": "in/restored/a.png"}


def test_sources_below_the_folder_of_results_are_sources(tmp_path):
    touch(tmp_path, "all/in/a.png")
    targets = targets_of([tmp_path / "all" / "in"], tmp_path / "all")
    assert relative(tmp_path, targets) == {"all/in/a.png": "all/a.png"}


def test_what_is_there_already(tmp_path):
    touch(tmp_path, "in/a.png", "in/b.png", "out/a.png")
    given = [tmp_path / "in"], tmp_path / "out"
    with pytest.raises(ManasError, match="out/a.png exists already; .*--skip-existing"):
        targets_of(*given)
    assert len(targets_of(*given, overwrite=True)) == 2
    assert relative(tmp_path, targets_of(*given, skip_existing=True)) == {"in/b.png": "out/b.png"}


def test_skipped_is_what_has_its_views_too(tmp_path):
    touch(tmp_path, "in/a.png", "in/b.png", "out/a.png", "out/a.png.compare.png", "out/b.png")
    given = [tmp_path / "in"], tmp_path / "out"
    assert targets_of(*given, skip_existing=True) == {}
    for views, names in ((["compare"], ["b.png"]), (["compare", "difference"], ["a.png", "b.png"])):
        targets = targets_of(*given, views=views, skip_existing=True)
        assert [target.name for target in targets.values()] == names


def test_views_of_pictures_of_one_stem_lie_side_by_side(tmp_path):
    touch(tmp_path, "in/a.jpg", "in/a.png")
    targets = targets_of([tmp_path / "in"], tmp_path / "out", views=["compare"])
    names = [view.name for target in targets.values() for view in beside(target, ["compare"]).values()]
    assert names == ["a.jpg.compare.png", "a.png.compare.png"]


def test_views_of_an_earlier_run_are_no_sources(tmp_path):
    for name in ("a.png", "a.png.compare.png", "a.png.difference.png", "b.compare.png"):
        write_image(tmp_path / "in" / name, np.zeros((2, 2, 3), np.uint8))
    assert [path.name for path in targets_of([tmp_path / "in"], tmp_path / "out")] == ["a.png", "b.compare.png"]


def test_views_are_not_overwritten_either(tmp_path):
    touch(tmp_path, "in/a.png", "out/a.png.compare.png")
    given = [tmp_path / "in"], tmp_path / "out"
    assert targets_of(*given)
    with pytest.raises(ManasError, match="a.png.compare.png exists already"):
        targets_of(*given, views=["compare"])
    touch(tmp_path, "in/a.png.compare.png")
    named = [tmp_path / "in" / name for name in ("a.png", "a.png.compare.png")]
    with pytest.raises(ManasError, match="another input goes to .*a.png.compare.png"):
        targets_of(named, tmp_path / "out", views=["compare"], overwrite=True)


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
        touch(tmp_path, "in/a.png", "out/a.png")
        self.check([tmp_path / "in", tmp_path / "out" / "a.png"], tmp_path / "out", "would overwrite")

    def test_two_inputs_with_one_output(self, tmp_path):
        touch(tmp_path, "one/a.png", "two/a.png", "three/a.gif")
        self.check([tmp_path / "one", tmp_path / "two"], tmp_path / "out", "another input goes to .*a.png too")
        files = [tmp_path / "one" / "a.png", tmp_path / "three" / "a.gif"]
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

    def test_pictures_into_videos(self, tmp_path):
        touch(tmp_path, "a.png", "a.mp4")
        self.check([tmp_path / "a.png"], tmp_path / "b.mp4", "videos into videos")
        self.check([tmp_path / "a.mp4"], tmp_path / "b.png", "videos into videos")

    def test_views_of_videos(self, tmp_path):
        touch(tmp_path, "a.png", "clip.mp4")
        given = [tmp_path / "a.png", tmp_path / "clip.mp4"], tmp_path / "out"
        assert len(targets_of(*given)) == 2
        with pytest.raises(ManasError, match="clip.mp4: --side-by-side and --difference are of pictures"):
            targets_of(*given, views=["difference"])

    def test_what_contradicts(self, tmp_path):
        touch(tmp_path, "a.png")
        for out, options, match in (
            (None, {"format": "jpg"}, "keep their format"),
            (None, {"views": ["compare"]}, "nothing is put beside"),
            (tmp_path / "b.png", {"format": "jpg"}, "says the format already"),
            (tmp_path / "out", {"format": "gif"}, "choose one of keep"),
        ):
            with pytest.raises(ManasError, match=match):
                targets_of([tmp_path / "a.png"], out, **options)
