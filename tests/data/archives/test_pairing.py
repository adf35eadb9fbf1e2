"""Pairing by names: which spellings of one name meet, and which names are left alone."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manas.data.archives.folder import Folder
from manas.data.archives.index import level_order, natural_order
from manas.data.archives.names import pairing_key, role_of
from manas.data.archives.pairing import pair
from manas.data.archives.readers import read_folders

CLEAN_STYLES = (
    "{}",
    "norain-{}",
    "no-rain-{}",
    "norain_{}",
    "NoRain{}",
    "{}_gt",
    "{}-GT",
    "{}_clean",
    "{}_norain",
)
DEGRADED_STYLES = (
    "{}",
    "rain-{}",
    "Rain_{}",
    "rain{}",
    "{}x2",
    "norain-{}x2",
    "{}_in",
    "{}_Rain",
    "{}_s80_a04",
)


@given(
    number=st.integers(0, 10**6),
    padding=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    clean=st.sampled_from(CLEAN_STYLES),
    degraded=st.sampled_from(DEGRADED_STYLES),
)
def test_spellings_of_a_number_meet(number, padding, clean, degraded):
    keys = [
        pairing_key(style.format(f"{number:0{width}}"))
        for style, width in zip((clean, degraded), padding, strict=True)
    ]
    assert keys == [str(number)] * 2


@given(
    numbers=st.sets(st.integers(0, 2000), min_size=1, max_size=5),
    widths=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    folders=st.tuples(
        st.sampled_from(("gt", "GT", "Ground Truth")), st.sampled_from(("in", "Rainy Image", "LQ"))
    ),
    styles=st.tuples(st.sampled_from(CLEAN_STYLES), st.sampled_from(DEGRADED_STYLES)),
    suffixes=st.tuples(*[st.sampled_from((".png", ".JPG", ".jpeg", ".tif", ".Tiff", ".webp"))] * 2),
)
def test_folders_pair_in_any_spelling(numbers, widths, folders, styles, suffixes):
    with TemporaryDirectory() as root:
        for folder, style, width, suffix in zip(folders, styles, widths, suffixes, strict=True):
            for number in numbers:
                path = Path(root, folder, "Below", style.format(f"{number:0{width}}") + suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        scenes, problems = pair(read_folders(Folder(Path(root)), None).parts)
    assert not problems
    assert [scene.name for scene in scenes] == [f"below/{number}" for number in sorted(numbers)]
    for number, scene in zip(sorted(numbers), scenes, strict=True):
        (degraded,) = scene.degraded.values()
        for file, width in zip((scene.clean, degraded), widths, strict=True):
            assert f"{number:0{width}}" in file.path.stem


WORDS = st.text("abdejkqvwzäø._ ", min_size=3).filter(lambda word: word == word.strip())


@given(
    word=WORDS,
    clean=st.sampled_from(CLEAN_STYLES[1:4]),
    degraded=st.sampled_from(("rain-{}", "Rain_{}", "{}_in")),
)
def test_spellings_of_a_word_meet(word, clean, degraded):
    assert pairing_key(clean.format(word)) == pairing_key(degraded.format(word.upper()))


@given(st.lists(st.integers(0, 10**4), unique=True), st.sampled_from(DEGRADED_STYLES))
def test_different_numbers_never_meet(numbers, style):
    assert len({pairing_key(style.format(number)) for number in numbers}) == len(numbers)


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("0", "0"),
        ("000", "0"),
        ("im_0301_s100_a06", "im_0301"),
        ("Street", "street"),
        ("rain-", "rain-"),
        ("_gt", "_gt"),
        ("²", "²"),
    ],
)
def test_keys(stem, key):
    assert pairing_key(stem) == key


@pytest.mark.parametrize(
    "stem", ["rainbow", "x2y", "1x3", "matrix2", "s80_a04", "1_2", "rain", "norainy", "train-1", "begin", "1in"]
)
def test_other_names_are_kept(stem):
    assert pairing_key(stem) == stem


@pytest.mark.parametrize(
    ("stem", "role"),
    [
        ("norain-1", "clean"),
        ("No-Rain_1", "clean"),
        ("001_GT", "clean"),
        ("1-norain", "clean"),
        ("rain-001", "degraded"),
        ("RAIN1", "degraded"),
        ("001_in", "degraded"),
        ("rainstreak-1", None),
        ("rainregion-1", None),
        ("train-1", None),
        ("rainbow", None),
        ("1", None),
    ],
)
def test_roles(stem, role):
    assert role_of(stem) == role


def test_orders():
    assert sorted(["b", "a10", "a9", "10", "9", "ab"], key=natural_order) == ["9", "10", "a9", "a10", "ab", "b"]
    levels = ["s100_a04", "heavy", "10", "light", "2", "fog", "medium", "s80_a04"]
    ordered = ["light", "medium", "heavy", "2", "10", "fog", "s80_a04", "s100_a04"]
    assert sorted(levels, key=level_order) == ordered
