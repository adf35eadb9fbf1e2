"""manas synthesize and manas data check: every option, what they print, and their exit codes."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, content, folders, picture
from PIL import Image

import manas
from manas.data.archives import fingerprints, inspect_archive
from manas.data.images import read_image, write_image
from manas.errors import ManasError


def facts(out):
    """The first report's facts by name."""
    found = re.findall(r"^  (\w+) +(.*)$", out.split("\n\n")[0], re.MULTILINE)
    return dict(found)


def named(out):
    """The files that are said to have a problem."""
    return {Path(line.split(": ")[0].strip()) for line in out.splitlines() if re.match(r" {4}\S+: ", line)}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestCheck:
    """manas data check"""

    @pytest.fixture
    def check(self, run):
        """A function that expects a report, and returns exit code and what is printed."""

        def check(*arguments):
            code, out, err = run("data", "check", *arguments)
            assert err == ""
            assert code in (0, 1)
            return code, out

        return check

    def test_a_sound_set(self, check, tmp_path):
        root = MINIATURES["did_mdn"]().write(tmp_path)
        code, out = check(root)
        assert code == 0
        assert out.splitlines()[1] == str(root)
        said = facts(out)
        assert said["layout"].startswith("did_mdn: Rain_Heavy/")
        assert said["levels"] == "3: light, medium, heavy"
        assert (said["backgrounds"], said["sizes"], said["findings"]) == ("3", "32x32 (3)", "none")
        assert len(said["fingerprint"]) == 12
        assert "protocol derain, 3 of 3 scenes" in out
        assert re.search(r"^  heavy +3 +\d+\.\d\d +0\.\d{4}", out, re.MULTILINE)

    @pytest.mark.parametrize("columns", ["20", "80", "200"])
    def test_nothing_is_cut_on_a_narrow_terminal(self, columns, check, tmp_path, monkeypatch):
        root = MINIATURES["outdoor_rain"]().write(tmp_path / "long name" / ("n" * 100))
        write_image(root / "gt" / "im_0009.png", picture(1))
        monkeypatch.setenv("COLUMNS", columns)
        code, out = check(root)
        assert code == 1
        assert facts(out)["levels"].startswith("15: s80_a04, s80_a05,")
        assert facts(out)["levels"].endswith("s100_a05, s100_a06")
        assert len([line for line in out.splitlines() if str(root) in line]) == 2
        assert "…" not in out

    @pytest.mark.parametrize(
        ("name", "row", "says"),
        [
            ("rain100 padded", "Rain100L or Rain100H, old test set (100 pairs)", "Rain100{}, old test set"),
            ("rain200", "Rain200L or Rain200H, new test set (200 pairs)", "Rain200{}, new test set"),
            ("rain100 training", "RainTrainL, old training set", "RainTrainL, old training set"),
            ("rain12", "Rain12 (12 pairs)", "Rain12 (12 pairs)"),
        ],
    )
    def test_old_and_new_by_names_light_and_heavy_by_scores(
        self, name, row, says, check, tmp_path, monkeypatch
    ):
        known = next(each for each in fingerprints.KNOWN if each.name.startswith(row))
        small = known._replace(backgrounds=3, sizes=known.sizes and frozenset({(32, 32)}))
        monkeypatch.setattr(fingerprints, "KNOWN", (small,))
        root = MINIATURES[name]().write(tmp_path)
        for letter, brighter in (("L", 12), ("H", 100)):
            for scene in inspect_archive(root).scenes:
                (degraded,) = scene.degraded.values()
                write_image(degraded.path, scene.clean.read() + np.uint8(brighter))
            code, out = check(root)
            assert code == 0
            assert facts(out)["set"].startswith(says.format(letter))
        for other in ("rain100 repacked", "rain1400"):
            other = MINIATURES[other]().write(tmp_path / other)
            assert facts(check(other)[1])["set"].startswith("not one that is known")

    def test_options(self, check, tmp_path):
        root = MINIATURES["rain800 right"]().write(tmp_path)
        assert "the degraded half is the right one" in check(root)[1]
        out = check(root, "--layout", "did_mdn", "--side", "right", "--protocol", "derain", "--scored", "0")[1]
        assert facts(out)["layout"].startswith("did_mdn")
        assert "PSNR" not in out
        assert "the degraded half" not in out
        scores = [check(root, "--side", side)[1].splitlines()[-1].split() for side in ("left", "right")]
        assert scores[0][:3] == scores[1][:3]  # PSNR is symmetric
        assert scores[0] != check(root, "--layout", "rain800")[1]

    def test_a_list_of_pairs(self, check, tmp_path):
        code, out = check(MINIATURES["list of two columns"]().write(tmp_path))
        assert code == 0
        assert facts(out)["layout"] == "list"
        assert facts(out)["backgrounds"] == "3"

    def test_backgrounds_twice_in_a_set(self, check, tmp_path):
        root = folders("", "gt/{}.png", "in/{}.png", numbers=(1, 2, 3, 4)).write(tmp_path)
        write_image(root / "gt" / "3.png", picture(1))
        code, out = check(root)
        assert code == 1
        assert facts(out)["findings"] == "1 pair of scenes with one background"
        assert ["gt/1.png", "gt/3.png", "identical", "1.000"] in [line.split() for line in out.splitlines()]

    def test_a_folder_of_several_sets_and_what_they_share(self, check, tmp_path):
        for name, numbers in (("a/train", (1, 2, 3)), ("a/test", (3, 4)), ("b", (5, 6))):
            folders("", "gt/{}.png", "in/{}.png", numbers=numbers).write(tmp_path / name)
        code, out = check(tmp_path)
        assert code == 1
        assert out.count("fingerprint") == 3
        assert out.count("findings     none") == 3
        lines = out.splitlines()
        place = lines.index(f"backgrounds in two sets: 1 of {tmp_path}/a/test, 1 of {tmp_path}/a/train")
        assert lines[place + 2].split() == ["gt/3.png", "gt/3.png", "identical", "1.000"]
        assert out.count("backgrounds in two sets") == 1
        code, out = check(tmp_path / "a" / "train", tmp_path / "b")
        assert code == 0
        assert out.endswith("\nno background is in two of the sets\n")
        assert "two of the sets" not in check(tmp_path / "b")[1]

    def test_a_set_given_twice_is_one_set(self, check, tmp_path, monkeypatch):
        MINIATURES["rain12"]().write(tmp_path / "set")
        (tmp_path / "link").symlink_to(tmp_path / "set")
        monkeypatch.chdir(tmp_path)
        code, out = check("set", "../" + tmp_path.name, tmp_path / "set", "link", "set/../set")
        assert code == 0
        assert out.count("fingerprint") == 1

    @pytest.mark.parametrize("options", [[], ["--all"]])
    def test_how_many_files_are_named(self, options, check, tmp_path):
        root = folders("", "gt/{}.png", "in/{}.png", numbers=tuple(range(1, 16))).write(tmp_path)
        for n in range(2, 16):
            (root / "in" / f"{n}.png").write_bytes(b"")
        code, out = check(root, *options)
        assert code == 1
        assert facts(out)["findings"] == "14 unreadable"
        assert len(named(out)) == (14 if options else 10)
        assert ("and 4 more" in out) == (not options)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["missing"], ["missing: no such folder", "give a folder"]),
            (["."], [".: no degraded images beside 'gt'", "add a folder"]),
            (["empty"], ["no folder of clean images", "layout: halves"]),
            (["file.png"], ["file.png: no such folder"]),
            (["gt"], ["no folder of clean images"]),
            (["good", "missing"], ["missing: no such folder"]),
            (["good", "--layout", "rain1000"], ["no layout is called 'rain1000'; did you mean 'rain1"]),
            (["good", "--side", "left"], ["side is for files of two halves", "leave it out"]),
            (["good", "--protocol", "psnr"], ["no evaluation protocol is called 'psnr'", "derain"]),
            (["bad.txt"], ["bad.txt, line 1", "correct it"]),
        ],
    )
    def test_what_is_no_data_set_is_one_line(self, arguments, says, fails, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_image(Path("gt") / "1.png", picture(1))
        Path("empty").mkdir()
        write_image(Path("file.png"), picture(1))
        Path("bad.txt").write_text("no image")
        if "good" in arguments:
            MINIATURES["rain12"]().write(Path("good"))
        fails("data", "check", *arguments, says=says)

    def test_a_wrong_option_is_said(self, run):
        for arguments in (["x", "--scored", "-1"], ["x", "--side", "top"], []):
            code, out, err = run("data", "check", *arguments)
            assert (code, out) == (2, "")
            assert "Usage: " in err

    @pytest.mark.skipif("MANAS_TEST_DATA" not in os.environ, reason="MANAS_TEST_DATA is not set")
    def test_real_pairs(self, check, fails, tmp_path):
        data = Path(os.environ["MANAS_TEST_DATA"])
        if not (data / "rain100").is_dir():
            pytest.skip("no rain100 in MANAS_TEST_DATA")
        names = [f"{path.stem}.png" for path in sorted((data / "rain100" / "clean").iterdir())[:6]]
        for kind in ("clean", "light", "heavy"):
            for name in names:
                (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
                (tmp_path / "set" / kind / name).symlink_to(data / "rain100" / kind / name)
        for name in names[:2]:
            image = Image.fromarray(read_image(data / "rain100" / "clean" / name))
            cut = image.crop((20, 20, image.width - 40, image.height - 40))
            for kind in ("gt", "in"):
                write_image(tmp_path / "cut" / kind / f"x{name[:-4]}.jpg", np.asarray(cut))
        code, out = check(tmp_path / "set", tmp_path / "cut")
        assert code == 1
        assert facts(out)["findings"] == "none"
        assert f"2 of {tmp_path}/set, 2 of {tmp_path}/cut" in out
        assert out.count(" crop ") == 2


def removed(path):
    path.unlink()


def renamed(path):
    path.rename(path.with_name(f"other_{path.name}"))


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cropped(path):
    write_image(path, read_image(path)[:-8])


def narrowed(path):
    write_image(path, read_image(path)[:, :-1])


OF_PAIRS = {removed: "unmatched", renamed: "unmatched", truncated: "unreadable", cropped: "size"}
OF_HALVES = {truncated: "unreadable", narrowed: "odd_width"}
PAIRED = (
    "did_mdn",
    "rain100 test",
    "in and gt",
    "rain200",
    "rain100 repacked",
    "rain1400",
    "outdoor_rain",
    "snow100k test",
    "csd",
    "rain12",
    "levels",
    "list of rain100",
)
FAULTS = [(name, fault) for name in PAIRED for fault in OF_PAIRS]
FAULTS += [(name, fault) for name in ("did_mdn", "rain800 left", "rain800 right") for fault in OF_HALVES]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=lambda each: getattr(each, "__name__", each))
def test_one_broken_file_is_named(name, fault, run, tmp_path):
    root = MINIATURES[name]().write(tmp_path)
    *_, broken = (picture.path for picture in inspect_archive(root).scenes[1].degraded.values())
    fault(broken)
    code, out, err = run("data", "check", root, "--scored", 1)
    assert (code, err) == (1, "")
    kind = {**OF_PAIRS, **OF_HALVES}[fault]
    assert kind in facts(out)["findings"]
    names = {path.name for path in named(out)}
    if fault is renamed and not name.startswith("list"):
        assert f"other_{broken.name}" in names
    elif fault is removed and not name.startswith("list"):  # its clean picture is alone, or has not that level
        assert len(names) == 1
        assert "2" in names.pop()
    else:
        assert names == {broken.name}


class TestMutants:
    """Malformed files of five formats, 12 each, in one degraded folder."""

    SUFFIXES = ("png", "jpg", "tif", "webp", "bmp")

    @pytest.fixture
    def root(self, tmp_path):
        rng = np.random.default_rng(7)
        for suffix in self.SUFFIXES:
            for number in range(12):
                name = f"{suffix}{number}"
                n = int(rng.integers(1000))
                write_image(tmp_path / "gt" / f"{name}.png", picture(n))
                path = write_image(tmp_path / "in" / f"{name}.{suffix}", picture(n, 1))
                path.write_bytes(mutant(path.read_bytes(), number, rng))
        write_image(tmp_path / "gt" / "good.png", picture(2000))
        write_image(tmp_path / "in" / "good.png", picture(2000, 1))
        return tmp_path

    def test_all_that_do_not_decode_are_named(self, root, run):
        undecodable = set()
        for path in (root / "in").iterdir():
            try:
                fits = read_image(path).shape == (32, 32, 3)
            except ManasError:
                fits = False
            undecodable |= set() if fits else {path}
        assert 20 < len(undecodable) < 50
        code, out, err = run("data", "check", root, "--all")
        assert (code, err) == (1, "")
        assert named(out) == undecodable


def mutant(data, number, rng):
    """Cut off somewhere, with another byte in the header, or with some other bytes anywhere."""
    if number % 3 == 0:
        return data[: int(rng.integers(len(data)))]
    changed = bytearray(data)
    places = rng.integers(64, size=1) if number % 3 == 1 else rng.integers(len(data), size=4)
    for place in places:
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, size in (("a", (24, 40)), ("inner/b", (40, 24))):
        write_image(root / f"{name}.png", rng.integers(40, 200, (*size, 3), dtype=np.uint8))
    return root


class TestSynthesize:
    """manas synthesize"""

    @pytest.fixture
    def synthesize(self, run, photographs, tmp_path):
        """A function that expects success, and returns the folder that is printed."""

        def synthesize(*arguments, out="out"):
            code, said, err = run("synthesize", photographs, tmp_path / out, *arguments)
            assert (code, err) == (0, "")
            assert said == f"{tmp_path / out}\n"
            return Path(said.strip())

        return synthesize

    def test_by_default_rain_of_three_levels(self, synthesize, run):
        out = synthesize()
        assert {path.name for path in out.iterdir()} == {"clean", "light", "medium", "heavy", "manifest.json"}
        assert len(list(out.rglob("*.png"))) == 2 * 4
        code, said, _ = run("data", "check", out)
        assert code == 0
        assert facts(said)["levels"] == "3: light, medium, heavy"
        assert facts(said)["sizes"] == "40x24 (1), 24x40 (1)"

    @pytest.mark.parametrize(
        ("arguments", "options"),
        [
            ([], {}),
            (["--weather", "snow"], {"weather": "snow"}),
            (["--levels", "heavy,light"], {"levels": ("heavy", "light")}),
            (["--levels", " light , medium "], {"levels": ("light", "medium")}),
            (["--family", "crossing"], {"family": "crossing"}),
            (["--independent"], {"nested": False}),
            (["--seed", "7"], {"seed": 7}),
            (["--jpeg", "85..98"], {"capture": {"jpeg": (85, 98)}}),
            (["--jpeg", "90"], {"capture": {"jpeg": (90, 90)}}),
            (["--noise", "0..2"], {"capture": {"noise": (0, 2)}}),
            (["--noise", "1.5", "--jpeg", "50..60"], {"capture": {"noise": (1.5, 1.5), "jpeg": (50, 60)}}),
            (["--long-side", "24"], {"long_side": 24}),
            (["--layout", "did_mdn"], {"layout": "did_mdn"}),
            (["--masks"], {"masks": True}),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_an_option_is_that_of_the_function(self, arguments, options, synthesize, photographs, tmp_path):
        expected = contents(manas.synthesize(photographs, tmp_path / "expected", **options))
        assert contents(synthesize(*arguments)) == expected
        plain = contents(manas.synthesize(photographs, tmp_path / "plain"))
        assert (expected == plain) == (not options)

    def test_the_manifest_is_enough_to_write_it_again(self, synthesize, photographs, tmp_path):
        arguments = "--weather snow --levels medium --seed 3 --jpeg 60..70 --noise 1..2 --masks --long-side 32"
        out = synthesize(*arguments.split())
        options = json.loads((out / "manifest.json").read_text())["options"]
        assert contents(manas.synthesize(photographs, tmp_path / "again", **options)) == contents(out)

    def test_overwrite(self, synthesize, fails, photographs, tmp_path):
        before = contents(synthesize())
        fails(
            "synthesize", photographs, tmp_path / "out", "--seed", 1, says=["holds a synthesised", "overwrite"]
        )
        assert contents(tmp_path / "out") == before
        assert contents(synthesize("--seed", 1, "--overwrite")) != before

    @pytest.mark.parametrize("manifest", ['{"format": "1"}', '{"name": "app"}', "[]", "no json", None])
    def test_a_foreign_folder_is_not_replaced(self, manifest, fails, photographs, tmp_path):
        folder = tmp_path / "precious"
        folder.mkdir()
        (folder / ("manifest.json" if manifest else "diary.txt")).write_text(manifest or "precious")
        before = contents(folder)
        fails("synthesize", photographs, folder, "--overwrite", says=["precious: exists", "give a new folder"])
        assert contents(folder) == before
        assert list(tmp_path.iterdir()) == [folder]

    def test_photographs_and_data_set_lie_apart(self, fails, photographs, tmp_path):
        source = shutil.copytree(photographs, tmp_path / "photos")
        before = contents(source)
        for out in (source / "out", source / "inner" / ".." / "out"):
            fails("synthesize", source, out, says=["out: lies within", "photos", "give a folder beside it"])
        assert contents(source) == before
        out = manas.synthesize(source, tmp_path / "set")
        shutil.move(source, out / "photos")
        for photos in (out / "photos", out):
            fails("synthesize", photos, out, "--overwrite", says=["set: lies within", "or around it"])
        assert contents(out / "photos") == before

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--weather", "hail"], ["weather", "'rain', 'snow' or 'noise'", "'hail'"]),
            (["--levels", "light,hevy"], ["levels.1", "'light', 'medium' or 'heavy'", "'hevy'"]),
            (["--levels", "light,light"], ["named twice"]),
            (["--levels", ""], ["levels.0"]),
            (["--family", "sideways"], ["family is 'sideways'", "falling"]),
            (["--weather", "snow", "--family", "crossing"], ["family is 'crossing'; snow has"]),
            (["--seed", "-1"], ["seed", "greater than or equal to 0"]),
            (["--jpeg", ""], ["--jpeg ''", "such as 85..98"]),
            (["--jpeg", "85-98"], ["--jpeg '85-98'", "such as 85..98"]),
            (["--jpeg", "98..85"], ["jpeg", "two numbers in order, from 1 to 100"]),
            (["--jpeg", "0..101"], ["jpeg", "from 1 to 100"]),
            (["--jpeg", "85.5..98"], ["capture.jpeg", "integer", "85.5"]),
            (["--noise", "-1"], ["--noise '-1'"]),
            (["--noise", "0..300"], ["noise", "from 0 to 255"]),
            (["--noise", "nan"], ["--noise 'nan'"]),
            (["--long-side", "15"], ["long_side", "greater than or equal to 16"]),
            (["--layout", "rain1400"], ["layout", "'levels' or 'did_mdn'"]),
            (["--layout", "did_mdn", "--masks"], ["did_mdn is for rain without masks"]),
            (["--layout", "did_mdn", "--weather", "snow"], ["did_mdn is for rain"]),
        ],
        ids=lambda value: " ".join(value),
    )
    def test_a_wrong_option_is_one_line_and_writes_nothing(self, arguments, says, fails, photographs, tmp_path):
        fails("synthesize", photographs, tmp_path / "new" / "out", *arguments, says=says)
        assert not list(tmp_path.iterdir())

    def test_photographs_that_are_not_there(self, fails, tmp_path):
        (tmp_path / "empty").mkdir()
        for name, says in (("empty", "no image"), ("missing", "no such folder")):
            fails("synthesize", tmp_path / name, tmp_path / "out", says=[name, says])
        (tmp_path / "empty" / "a.png").write_bytes(b"")
        fails("synthesize", tmp_path / "empty", tmp_path / "out", says=["cannot read", "a.png"])
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_an_end_half_way_leaves_what_was_there(
        self, stop, overwrite, run, photographs, tmp_path, monkeypatch
    ):
        out = tmp_path / "out"
        before = contents(manas.synthesize(photographs, out)) if overwrite else {}
        written = []

        def write(path, image):
            written.append(path)
            if len(written) == 6:
                raise stop
            return write_image(path, image)

        monkeypatch.setattr("manas.data.synthesis.write_image", write)
        code, _, _ = run("synthesize", photographs, out, *(["--overwrite"] if overwrite else []))
        assert code == (130 if stop is KeyboardInterrupt else 2)
        assert len(written) == 6
        assert (contents(out) if out.exists() else {}) == before
        assert list(tmp_path.iterdir()) == [out] * overwrite

    def test_an_upright_photograph(self, run, tmp_path):
        """A camera's photograph lies on its side in the file; its rain falls down all the same."""
        exif = Image.Exif()
        exif[0x0112] = 6
        (tmp_path / "photos").mkdir()
        lying = Image.fromarray(picture(3)).transpose(Image.Transpose.ROTATE_90)
        lying.save(tmp_path / "photos" / "a.png", exif=exif)
        assert run("synthesize", tmp_path / "photos", tmp_path / "out")[0] == 0
        assert content(read_image(tmp_path / "out" / "clean" / "a.png")) == (3, 0)
