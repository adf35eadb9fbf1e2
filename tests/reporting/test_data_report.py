"""The report of a check, from what was found to lines of text: complete, and safe for a terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from manas.data.archives import Archive, Fingerprint, Problem, Scene, StoredImage
from manas.data.checking.check import Check, InputScores, Leaks
from manas.data.checking.matching import Match
from manas.reporting.data_report import data_report, findings, known_as, leak_report, sizes

ROOT = Path("sets/one")


def scene(name, level="rainy", half=None):
    degraded = {level: StoredImage(ROOT / level / f"{name}.png", half)}
    clean = degraded[level].sibling if half else StoredImage(ROOT / "gt" / f"{name}.png")
    return Scene(name, clean, degraded)


def inputs(images, identical, psnr, ssim):
    return InputScores(images, {"psnr": identical, "ssim": 0}, {"psnr": psnr, "ssim": ssim})


def check(*, root=ROOT, names="ab", problems=(), notes=(), known=None, scores=None, twice=(), **options):
    scenes = tuple(scene(name, **options) for name in names)
    files = {picture.path for each in scenes for picture in (each.clean, *each.degraded.values())}
    return Check(
        archive=Archive("folders", root, scenes, problems, notes, dict.fromkeys(files, (64, 32))),
        fingerprint=Fingerprint(known, "0123456789ab"),
        in_pixels=(),
        scores=scores or {},
        scored=len(scenes),
        signatures={},
        twice=twice,
    )


def printed(parts):
    """The lines, as on a terminal that is wide enough."""
    console = Console(file=io.StringIO(), width=500)
    for part in parts:
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def reported(*arguments, **options):
    return printed(data_report(check(**options), "derain", *arguments))


def test_everything_about_a_sound_set():
    lines = reported(notes=("one thing", "another"), scores={"rainy": inputs(2, 0, 26.897, 0.83841)})
    assert lines[:2] == ["", "sets/one"]
    assert lines[2].startswith("  layout       folders: clean/ with a folder a level")
    assert lines[3:] == [
        "  set          not one that is known by its layout, numbers and sizes",
        "  fingerprint  0123456789ab",
        "  backgrounds  2",
        "  levels       1: rainy",
        "  sizes        64x32 (2)",
        "  findings     none",
        "  note  one thing",
        "  note  another",
        "",
        "input against target, protocol derain, 2 of 2 scenes",
        "  level  images  PSNR dB  SSIM",
        "  rainy  2       26.90    0.8384",
    ]


def test_nothing_is_scored():
    assert not any("PSNR" in line for line in reported())


def test_identical_inputs_are_told():
    (line,) = [line for line in reported(scores={"rainy": inputs(5, 2, 20, 0.5)}) if "identical" in line]
    assert " ".join(line.split()) == "rainy 5 20.00 0.5000 2 identical to the target, left out of the PSNR"


def test_sizes_are_those_of_the_pictures_not_of_the_files():
    assert sizes(check(half="left")) == "32x32 (2)"


TWINS = "Rain100L or Rain100H, old test set (100 pairs)"
NEW_TWINS = "Rain200L or Rain200H, new training set (1800 pairs)"


@pytest.mark.parametrize(
    ("known", "psnr", "said"),
    [
        (TWINS, 26.9, "Rain100L, old test set (100 pairs), by the 26.9 dB of its inputs"),
        (TWINS, 13.55, "Rain100H, old test set (100 pairs), by the 13.6 dB of its inputs"),
        (NEW_TWINS, 26.7, "Rain200L, new training set (1800 pairs), by the 26.7 dB of its inputs"),
        (NEW_TWINS, 13.1, "Rain200H, new training set (1800 pairs), by the 13.1 dB of its inputs"),
        (TWINS, float("inf"), TWINS),
        (TWINS, None, TWINS),
        ("Rain12 (12 pairs)", 13.0, "Rain12 (12 pairs)"),
    ],
)
def test_the_inputs_tell_light_from_heavy(known, psnr, said):
    scores = None if psnr is None else {"rainy": inputs(100, 0, psnr, 0.8)}
    assert known_as(check(known=known, scores=scores)) == said


def broken(count, kind="unreadable", name="{}.png"):
    return tuple(Problem(kind, ROOT / name.format(n), "cannot read it") for n in range(count))


def test_long_lists_are_capped_unless_all_is_asked_for():
    problems = broken(12) + broken(2, "size")
    lines = reported(problems=problems)
    assert "  findings     12 unreadable, 2 size" in lines
    start = lines.index("12 unreadable") + 1
    assert lines[start : start + 11] == [
        *(f"    sets/one/{n}.png: cannot read it" for n in range(10)),
        "    and 2 more",
    ]
    whole = reported(None, problems=problems)
    start = whole.index("12 unreadable") + 1
    assert whole[start : start + 12] == [f"    sets/one/{n}.png: cannot read it" for n in range(12)]
    assert whole[start + 13] == lines[-3] == "2 size"
    assert not any("more" in line for line in whole)


def test_a_list_of_just_ten_is_not_capped():
    lines = reported(problems=broken(10))
    assert lines[-1] == "    sets/one/9.png: cannot read it"


def test_pairs_of_scenes():
    twice = tuple(Match("a", "b", 1 - n / 100, "near") for n in range(12))
    lines = reported(twice=twice)
    assert findings(check(twice=twice)) == "12 pairs of scenes with one background"
    start = lines.index("pairs of scenes that have one background: 12")
    assert lines[start + 2].split() == ["gt/a.png", "gt/b.png", "near", "1.000"]
    assert lines[-2].split() == ["gt/a.png", "gt/b.png", "near", "0.910"]
    assert lines[-1] == "  and 2 more"
    assert len([line for line in reported(None, twice=twice) if "gt/a.png" in line]) == 12


def test_leaks_count_backgrounds_not_pairs():
    matches = (Match("a", "c", 1.0, "identical"), Match("a", "d", 0.9, "crop"))
    shared = Leaks(check(), check(root=Path("sets"), names="cd"), matches)
    lines = printed(leak_report([shared]))
    assert lines[1] == "backgrounds in two sets: 1 of sets/one, 2 of sets"
    assert lines[3].split() == ["gt/a.png", "one/gt/c.png", "identical", "1.000"]
    assert lines[4].split() == ["gt/a.png", "one/gt/d.png", "crop", "0.900"]
    assert lines[5].endswith("exclude: [sets]")
    assert printed(leak_report([])) == ["", "no background is in two of the sets"]


def test_nothing_moves_the_cursor_of_a_terminal():
    evil = "x\x1b[31m\n\udcff"
    lines = reported(
        root=Path(evil),
        names=(evil, "b"),
        level=evil,
        notes=(evil,),
        problems=broken(1, name=evil),
        scores={evil: inputs(1, 0, 20, 0.5)},
        twice=(Match(evil, "b", 1.0, "identical"),),
    )
    shared = Leaks(check(root=Path(evil), names=(evil,)), check(), (Match(evil, "b", 1.0, "near"),))
    text = "\n".join(lines + printed(leak_report([shared])))
    assert text.replace("\n", "").isprintable()
    assert text.count(r"x\u001b[31m\n\udcff") == 8
