"""Sources: crops that belong together, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, content, folders, outdoor_rain, picture
from pydantic import ValidationError

from manas.data.archives import Archive, Scene, StoredImage, read_archive
from manas.data.dataset.augmentation import AUGMENTATIONS
from manas.data.dataset.cache import ImageCache
from manas.data.dataset.config import SourceConfig
from manas.data.dataset.sources import GeneratedSource, PairedSource
from manas.data.images import read_image, write_image
from manas.data.photographs import TRAINING, builtin_photographs
from manas.data.weather import degrade
from manas.errors import ManasError

STEPS = {"light": 7, "medium": 20, "heavy": 33}  # degraded = clean + so much, a different number a level


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two scenes of two shapes in which no two pixels are alike; a level is the clean image plus a number."""
    root = tmp_path_factory.mktemp("pairs")
    for name, (height, width) in {"1": (24, 30), "2": (40, 18)}.items():
        place = np.arange(height * width)
        clean = np.stack([place % 200, place // 200, np.full_like(place, 10 * int(name))], 1).astype(np.uint8)
        clean = clean.reshape(height, width, 3)
        write_image(root / "clean" / f"{name}.png", clean)
        for level, step in STEPS.items():
            write_image(root / level / f"{name}.png", clean + np.uint8(step))
    return root


CACHE = ImageCache(1 << 24)


def paired(root, versions=3, **options):
    return PairedSource(read_archive(root), versions, CACHE, **options)


def rng(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_clean_and_all_versions_share_crop_and_augmentation(augment, pairs):
    source = paired(pairs, augment=augment)
    for seed in range(20):
        crop = source.crop(seed % 2, 16, rng(seed), augment=True)
        assert crop.clean.shape == (16, 16, 3)
        assert crop.degraded.shape == (3, 16, 16, 3)
        assert crop.clean.dtype == crop.degraded.dtype == np.float32
        apart = (crop.degraded - crop.clean) * 255
        for level, difference in zip(STEPS, apart, strict=True):
            np.testing.assert_allclose(difference, STEPS[level], atol=1e-3)


def test_versions_are_drawn_without_repetition(pairs):
    source = paired(pairs, versions=2)
    seen = set()
    for seed in range(30):
        crop = source.crop(0, 16, rng(seed), augment=False)
        seen.add(tuple(np.rint((crop.degraded - crop.clean)[:, 0, 0, 0] * 255).astype(int)))
    assert seen == {(7, 20), (7, 33), (20, 33)}  # the lightest first


def symmetries(image):
    """The eight images of a square under rotation and reflection."""
    turned = [np.rot90(image, quarter) for quarter in range(4)]
    return [*turned, *(np.fliplr(each) for each in turned)]


def drawn_symmetries(source):
    """How the crops of the first rows of a background are drawn, each as its place in `symmetries`."""
    clean = source.scenes[1].clean.read()
    whole = {image.tobytes(): place for place, image in enumerate(symmetries(clean[:18, :18]))}
    assert len(whole) == 8
    found = set()
    for seed in range(400):
        crop = np.rint(source.crop(1, 18, rng(seed), augment=True).clean * 255).astype(np.uint8)
        candidates = [image.tobytes() for image in symmetries(crop)]
        top = next((t for t in range(23) if clean[t : t + 18].tobytes() in candidates), None)
        assert top is not None, "it is no crop of the photograph"
        if top == 0:
            found.add(whole[crop.tobytes()])
    return found


@pytest.mark.parametrize(
    ("options", "occur"),
    [
        ({}, {0, 4}),
        ({"augment": "mirror"}, {0, 4}),
        ({"augment": "eightfold"}, set(range(8))),
        ({"augment": "none"}, {0}),
    ],
    ids=str,
)
def test_the_augmentations_of_pairs_occur_and_no_other(options, occur, pairs):
    """Of a pair that is mirrored, none is ever on its side or upside down: its rain falls down."""
    assert drawn_symmetries(paired(pairs, **options)) == occur


def test_a_mirrored_half_is_half(pairs):
    source, mirrored = paired(pairs), 0
    for seed in range(400):
        crop = source.crop(0, 16, rng(seed), augment=True).clean
        step = np.rint(255 * (crop[0, 1, 0] - crop[0, 0, 0])) % 200  # the picture counts from left to right
        assert step in (1, 199)
        mirrored += step == 199
    assert 160 < mirrored < 240


def test_no_augmentation_is_that_of_validation(pairs):
    source = paired(pairs, augment="none")
    for seed in range(20):
        one, two = (source.crop(0, 16, rng(seed), augment=augment) for augment in (True, False))
        np.testing.assert_array_equal(one.clean, two.clean)
        np.testing.assert_array_equal(one.degraded, two.degraded)


def test_unaugmented_crops_reach_every_corner(pairs):
    source = paired(pairs)
    height, width, patch = 24, 30, 22
    corners = set()
    for seed in range(300):
        crop = source.crop(0, patch, rng(seed), augment=False).clean
        place = int(round(crop[0, 0, 0] * 255)) + 200 * int(round(crop[0, 0, 1] * 255))
        corners.add(divmod(place, width))
    assert corners == {(y, x) for y in range(height - patch + 1) for x in range(width - patch + 1)}


def test_a_crop_is_a_function_of_the_generator(pairs, clean_folder):
    generated = SourceConfig(task="derain", weather="rain", photographs=str(clean_folder)).open(3, CACHE)
    for source in (paired(pairs), generated):
        one, two, other = (source.crop(0, 16, rng(seed), augment=True) for seed in (5, 5, 6))
        np.testing.assert_array_equal(one.degraded, two.degraded)
        np.testing.assert_array_equal(one.clean, two.clean)
        assert not np.array_equal(one.degraded, other.degraded)


def test_pairs_of_two_sizes_are_named(pairs, tmp_path):
    for kind, height in (("clean", 20), ("light", 21)):
        write_image(tmp_path / kind / "a.png", np.zeros((height, 20, 3), np.uint8))
    with pytest.raises(ManasError, match=r"light.a\.png: 20x21, but its clean image .*clean.a\.png is 20x20"):
        opened_before_it_changed(tmp_path).crop(0, 16, rng(0), augment=True)


def opened_before_it_changed(root):
    """A source of one pair whose sizes nobody has looked at."""
    clean, light = (StoredImage(root / kind / "a.png") for kind in ("clean", "light"))
    return PairedSource(Archive("folders", root, (Scene("a", clean, {"light": light}),)), 1, CACHE)


def test_both_halves_of_a_file_are_decoded_once(tmp_path, monkeypatch):
    source = SourceConfig(task="derain", pairs=str(MINIATURES["did_mdn"]().write(tmp_path)))
    source = source.open(3, ImageCache(1 << 24))
    reads = []
    monkeypatch.setattr(
        "manas.data.dataset.cache.read_image", lambda path: reads.append(path) or read_image(path)
    )
    for seed in range(4):
        source.crop(0, 16, rng(seed), augment=True)
    assert sorted(path.parts[-3] for path in reads) == ["Rain_Heavy", "Rain_Light", "Rain_Medium"]


class TestPairsConfig:
    """What a source of pairs passes on to `read_archive`."""

    def scenes(self, root, **options):
        return SourceConfig(task="derain", pairs=str(root), **options).open(1, CACHE).scenes

    def test_options_of_the_archive(self, tmp_path):
        halved = MINIATURES["rain800 left"]().write(tmp_path / "halves")
        assert {s.clean.half for s in self.scenes(halved, side="right")} == {"left"}
        assert {s.clean.half for s in self.scenes(halved, layout="did_mdn")} == {"right"}
        levels = MINIATURES["levels"]().write(tmp_path / "levels")
        assert [list(s.degraded) for s in self.scenes(levels, levels=["heavy"])] == [["heavy"]] * 3
        (levels / "heavy" / "02.tiff").unlink()
        assert len(self.scenes(levels, levels=["heavy"], allow=["unmatched"])) == 2
        outdoor = outdoor_rain(300, 301).write(tmp_path / "outdoor")
        assert [len(self.scenes(outdoor, exclusions=on)) for on in (True, False)] == [1, 2]

    def test_folders_by_level(self, pairs):
        folders = {"clean": str(pairs / "clean"), "heavy": str(pairs / "heavy")}
        source = SourceConfig(task="derain", pairs=folders).open(1, CACHE)
        crop = source.crop(0, 16, rng(0), augment=True)
        np.testing.assert_allclose(255 * (crop.degraded - crop.clean), STEPS["heavy"], atol=1e-3)

    @pytest.mark.parametrize(
        ("option", "message"),
        [({"levels": ["hevy"]}, "level 'hevy'; did you mean 'heavy'"), ({"layout": "flat"}, "called 'flat'; ")],
    )
    def test_unknown_names(self, option, message, pairs):
        with pytest.raises(ManasError, match=message):
            self.scenes(pairs, **option)


def contents(pictures):
    """In place of signatures: the scene and the level that each picture shows."""
    return {picture: content(picture.read()) for picture in pictures}


class TestExclude:
    """Backgrounds that another set has are left out, whatever finds them."""

    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        """Pairs of the scenes 1, 2 and 10; two pictures match if they show one scene."""

        def matches(of, among):
            return [
                SimpleNamespace(first=one, second=two) for one in of for two in among if of[one] == among[two]
            ]

        monkeypatch.setattr("manas.data.checking.remembered.signatures", contents)
        monkeypatch.setattr("manas.data.checking.matching.matches", matches)
        return MINIATURES["rain12"]().write(tmp_path / "own")

    def left(self, root, *others):
        source = SourceConfig(task="derain", pairs=str(root), exclude=[str(other) for other in others])
        return [scene.name for scene in source.open(1, CACHE).scenes]

    def test_backgrounds_of_another_set(self, root, tmp_path):
        other = folders("", "gt/{}.png", "in/{}.png", numbers=(2, 3)).write(tmp_path / "other")
        assert self.left(root, other) == ["1", "10"]

    def test_photographs_and_several_sets(self, root, tmp_path):
        write_image(tmp_path / "photographs" / "x.png", picture(1))
        for name in ("one", "two"):
            folders("", "gt/{}.png", "in/{}.png", numbers=(2,)).write(tmp_path / "sets" / name)
        assert self.left(root, tmp_path / "photographs", tmp_path / "sets") == ["10"]

    def test_each_picture_is_signed_once(self, root, tmp_path, monkeypatch):
        signed = []
        monkeypatch.setattr(
            "manas.data.checking.remembered.signatures",
            lambda pictures: signed.extend(contents(pictures).values()) or contents(pictures),
        )
        for name, number in (("one", 2), ("two", 3)):
            write_image(tmp_path / name / "x.png", picture(number))
        assert self.left(root, tmp_path / "one", tmp_path / "two") == ["1", "10"]
        assert sorted(signed) == [(1, 0), (2, 0), (2, 0), (3, 0), (10, 0)]

    def test_the_test_backgrounds_of_a_set_count(self, root, tmp_path):
        other = outdoor_rain(310, 400).write(tmp_path / "other")
        assert self.left(root, other) == ["1", "2"]

    def test_a_set_with_a_problem_hides_no_background(self, root, tmp_path):
        other = folders("", "gt/{}.png", "in/{}.png", numbers=(2, 10)).write(tmp_path / "other")
        (other / "in" / "10.png").unlink()
        with pytest.raises(ManasError, match="10.png: no partner .*; mend .* or exclude its folder of clean"):
            self.left(root, other)
        assert self.left(root, other / "gt") == ["1"]

    def test_nothing_left(self, root):
        with pytest.raises(ManasError, match="all of its backgrounds are in .*; exclude another set"):
            self.left(root, root)

    def test_a_missing_folder(self, root, tmp_path):
        with pytest.raises(ManasError, match="none: no such folder"):
            self.left(root, tmp_path / "none")


def test_photographs_are_excluded_too(pairs, tmp_path):
    config = {"task": "x", "weather": "rain", "photographs": str(pairs / "clean")}
    write_image(tmp_path / "test" / "copy.png", read_image(pairs / "clean" / "1.png"))
    source = SourceConfig(**config, exclude=[str(tmp_path / "test")]).open(3, CACHE)
    assert [path.name for path in source.photographs] == ["2.png"]
    assert source.notes == (f"left out 1 backgrounds that are in {tmp_path / 'test'}",)
    with pytest.raises(ManasError, match="clean: all of its backgrounds are in"):
        SourceConfig(**config, exclude=[str(pairs)]).open(3, CACHE)


def test_a_background_is_excluded_by_what_it_shows(tmp_path):
    """With the signatures that are used: re-encoded, and under another name."""
    for name, path in builtin_photographs("training").items():
        image = read_image(path)[:256, :256]
        write_image(tmp_path / "own" / "gt" / f"{name}.png", image)
        write_image(tmp_path / "own" / "input" / f"{name}.png", image)
    astronaut = read_image(tmp_path / "own" / "gt" / "astronaut.png")
    write_image(tmp_path / "photographs" / "1.jpg", astronaut)
    config = SourceConfig(task="x", pairs=str(tmp_path / "own"), exclude=[str(tmp_path / "photographs")])
    scenes = config.open(1, CACHE).scenes
    assert {scene.name for scene in scenes} == set(TRAINING) - {"astronaut"}


@pytest.mark.parametrize(
    ("config", "available"),
    [({"weather": "rain", "levels": ["light", "heavy"]}, 2), ({"weather": "snow"}, 3), ({"pairs": True}, 3)],
)
def test_too_few_levels_name_the_setting(config, available, pairs):
    config = config | ({"pairs": str(pairs)} if "pairs" in config else {})
    source = SourceConfig(task="any", **config)
    assert source.open(available, CACHE)
    with pytest.raises(ManasError, match=f"data.versions is {available + 1}; set data.versions={available}"):
        source.open(available + 1, CACHE)


def test_too_few_levels_name_the_file_of_the_scene(tmp_path):
    """Not the number by which it is paired, which is 1 here."""
    folders("folders", "clean/{:03}.png", "light/{:03}.png", numbers=(1,)).write(tmp_path)
    with pytest.raises(ManasError, match=r"clean/001\.png has 1 degraded version\(s\)"):
        SourceConfig(task="any", pairs=str(tmp_path)).open(2, CACHE)


@pytest.fixture(scope="module")
def clean_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    ramp = np.linspace(40, 200, 48).astype(np.uint8)
    write_image(root / "ramp.png", np.broadcast_to(ramp[:, None, None], (48, 40, 3)).copy())
    write_image(root / "deep" / "flat.png", np.full((32, 32, 3), 90, np.uint8))
    return root


def open_generated(folder, versions=3, **config):
    return SourceConfig(task="derain", photographs=str(folder), **{"weather": "rain"} | config).open(
        versions, CACHE
    )


def test_generated_versions_are_weather_on_the_clean_crop(clean_folder):
    source = open_generated(clean_folder)
    crop = source.crop(0, 24, rng(1), augment=True)
    assert crop.clean.shape == (24, 24, 3)
    assert crop.degraded.shape == (3, 24, 24, 3)
    assert crop.degraded.dtype == np.float32
    assert crop.degraded.min() >= 0
    assert crop.degraded.max() <= 1
    apart = np.abs(crop.degraded - crop.clean).mean((1, 2, 3))
    assert 0 < apart[0] < apart[1] < apart[2]  # light, medium, heavy


@pytest.mark.parametrize("nested", [True, False])
def test_nested_rain_only_adds(nested, clean_folder):
    source = open_generated(clean_folder, levels=["light", "medium"], versions=2, nested=nested)
    crops = [source.crop(0, 32, rng(seed), augment=False).degraded for seed in range(20)]
    less = min((medium - light).min() for light, medium in crops)
    assert less >= -0.1 if nested else less < -0.2


def test_backgrounds_are_augmented_before_it_rains(clean_folder, monkeypatch):
    """Rain keeps falling down: what is turned is the clean crop that the generator is given."""
    given = []

    def watched(clean, *arguments, **options):
        given.append(clean.copy())
        return degrade(clean, *arguments, **options)

    monkeypatch.setattr("manas.data.dataset.sources.degrade", watched)
    source = open_generated(clean_folder)
    assert source.photographs[1].name == "ramp.png"
    directions = set()
    for seed in range(40):
        crop = source.crop(1, 24, rng(seed), augment=True)
        np.testing.assert_array_equal(crop.clean, given[-1])
        down, across = (np.sign(crop.clean.mean((axis, 2))[[0, -1]] @ [-1, 1]) for axis in (1, 0))
        directions.add((int(down), int(across)))
    assert directions == {(1, 0), (-1, 0), (0, 1), (0, -1)}


@pytest.mark.parametrize("augment", [None, "mirror", "none"])
def test_photographs_are_augmented_as_their_source_says(augment, clean_folder):
    """The ramp gets brighter downwards: only what is flipped or turned as by default gets not."""
    source = open_generated(clean_folder, augment=augment)
    ramps = [source.crop(1, 24, rng(seed), augment=True).clean.mean((1, 2)) for seed in range(30)]
    assert all((np.diff(ramp) > 0).all() for ramp in ramps) == (augment is not None)


def test_generated_weather_is_drawn_as_it_always_was(clean_folder, monkeypatch):
    """By the same draws in the same order: where, of three how it is turned, which levels, and the seed."""
    given = []

    def watched(clean, weather, levels, **options):
        given.append((clean.copy(), list(levels), options["seed"]))
        return degrade(clean, weather, levels, **options)

    monkeypatch.setattr("manas.data.dataset.sources.degrade", watched)
    source = open_generated(clean_folder, versions=2)
    image = read_image(source.photographs[1]).astype(np.float32) / np.float32(255)
    for seed in range(20):
        source.crop(1, 24, rng(seed), augment=True)
        draws = rng(seed)
        top, left = draws.integers(48 - 24 + 1), draws.integers(40 - 24 + 1)
        transposed, upside_down, mirrored = draws.random(3) < 0.5
        expected = image[top : top + 24, left : left + 24]
        expected = expected.transpose(1, 0, 2) if transposed else expected
        expected = np.flipud(expected) if upside_down else expected
        expected = np.fliplr(expected) if mirrored else expected
        levels = [list(STEPS)[place] for place in sorted(draws.permutation(3)[:2])]
        clean, *others = given[-1]
        np.testing.assert_array_equal(clean, expected)
        assert others == [levels, int(draws.integers(1 << 63))]


def test_builtin_photographs_are_those_for_training():
    source = SourceConfig(task="derain", weather="rain").open(1, CACHE)
    assert isinstance(source, GeneratedSource)
    assert tuple(path.stem for path in source.photographs) == TRAINING


class TestSourceConfig:
    @pytest.mark.parametrize("kinds", [{}, {"weather": "rain", "pairs": "folder"}])
    def test_exactly_one_kind(self, kinds):
        with pytest.raises(ValidationError, match="the source for 'derain' needs either 'weather' or 'pairs'"):
            SourceConfig(task="derain", **kinds)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"weather": "hail"},
            {"weather": "rain", "levels": []},
            {"weather": "rain", "levels": ["huge"]},
            {"weather": "rain", "layout": "did_mdn"},
            {"weather": "rain", "exclusions": False},
            {"weather": None, "pairs": "a", "photographs": "b"},
            {"weather": None, "pairs": "a", "nested": False},
            {"weather": None, "pairs": "a", "levels": []},
            {"weather": None, "pairs": "a", "allow": ["everything"]},
            {"weather": None, "pairs": "a", "side": "top"},
            {"augment": "rotate"},
            {"augment": True},
            {"x": 1},
        ],
    )
    def test_wrong_values(self, wrong):
        with pytest.raises(ValidationError):
            SourceConfig(**{"task": "derain", "weather": "rain"} | wrong)

    @pytest.mark.parametrize("augment", [{}, *({"augment": name} for name in AUGMENTATIONS)], ids=str)
    def test_what_is_written_whole_reads_back(self, augment):
        for config in ({"weather": "rain", "capture": {"jpeg": [80, 90]}}, {"pairs": "a", "side": "left"}):
            source = SourceConfig(task="derain", **config, **augment)
            assert SourceConfig(**source.model_dump(mode="json")) == source

    def test_the_default_augmentation_is_that_of_the_kind_and_is_written(self):
        for kind, default in (({"weather": "snow"}, "eightfold"), ({"pairs": "a"}, "mirror")):
            for given, resolved in (({}, default), ({"augment": None}, default), ({"augment": "none"}, "none")):
                source = SourceConfig(task="any", **kind, **given)
                assert source.augment == source.model_dump(mode="json")["augment"] == resolved

    def test_what_is_opened_augments_as_it_is_configured(self, pairs, clean_folder):
        for kind in ({"pairs": str(pairs)}, {"weather": "rain", "photographs": str(clean_folder)}):
            for augment, function in AUGMENTATIONS.items():
                source = SourceConfig(task="any", **kind, augment=augment)
                assert source.open(1, CACHE).augmentation is function

    def test_foreign_fields_and_unknown_levels_are_named(self):
        with pytest.raises(ValidationError, match="layout, side is for pairs, not for generated weather"):
            SourceConfig(task="derain", weather="rain", layout="did_mdn", side="left")
        with pytest.raises(ValidationError, match="nested is for generated weather, not for pairs"):
            SourceConfig(task="derain", pairs="a", nested=False)
        with pytest.raises(ValidationError, match="'hevy'; did you mean 'heavy'"):
            SourceConfig(task="derain", weather="rain", levels=["light", "hevy"])

    def test_levels_are_named_once(self):
        with pytest.raises(ValidationError):
            SourceConfig(task="derain", weather="rain", levels=["light", "light"])


class TestShrink:
    """A ramp of 256 pixels, of which the range of a crop tells how much of the photograph it shows."""

    @pytest.fixture
    def source(self, tmp_path):
        ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (200, 256, 3))
        write_image(tmp_path / "ramp.png", np.ascontiguousarray(ramp))
        return lambda **options: SourceConfig(
            task="derain", weather="rain", photographs=str(tmp_path), augment="none", **options
        ).open(3, CACHE)

    def shown(self, source, patch=32, draws=60):
        """The columns of the photograph that each crop shows."""
        crops = [source.crop(0, patch, rng(seed), augment=True) for seed in range(draws)]
        assert all(crop.clean.shape == (patch, patch, 3) for crop in crops)
        assert all(crop.degraded.shape == (3, patch, patch, 3) for crop in crops)
        return np.rint([np.ptp(crop.clean[0, :, 0]) * 255 + 1 for crop in crops])

    def test_crops_show_up_to_so_much_more(self, source):
        shown = self.shown(source(shrink=4))
        assert shown.min() < 40
        assert 110 < shown.max() <= 128
        middle = np.median(shown)  # by the logarithm
        assert 50 < middle < 80

    def test_no_crop_is_larger_than_the_photograph(self, source):
        assert self.shown(source(shrink=16), patch=128).max() <= 200

    def test_without_it_the_pixels_are_those_of_the_photograph(self, source):
        assert set(self.shown(source())) == {32}

    def test_it_is_for_photographs_alone(self, tmp_path):
        with pytest.raises(ValidationError, match="shrink is for generated weather, not for pairs"):
            SourceConfig(task="derain", pairs=str(tmp_path), shrink=2)
