"""Perceptual signatures: what two sets share is found however it was saved, and nothing else is."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from manas.data.checking.matching import matches
from manas.data.checking.signature import Signature, signature
from manas.data.images import read_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.errors import ManasError

NAMES = ("astronaut", "motorcycle_left", "camera", "brick", "grass", "gravel", "chelsea", "coffee")


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    """Of 480 pixels on the long side."""
    paths = {**builtin_photographs("training"), **builtin_photographs("held_out")}
    pictures = {name: Image.fromarray(read_image(paths[name])) for name in NAMES}
    return {name: ImageOps.contain(picture, (480, 480)) for name, picture in pictures.items()}


@pytest.fixture(scope="module")
def known(photographs) -> dict[str, Signature]:
    return {name: sign(picture) for name, picture in photographs.items()}


def sign(picture: Image.Image) -> Signature:
    return signature(np.asarray(picture))


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def toned(picture: Image.Image, gain: float, gamma: float) -> Image.Image:
    return picture.point([min(255, round(255 * gain * (value / 255) ** gamma)) for value in range(256)] * 3)


def middle(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))


def pairs(of, among, kind: str) -> set:
    """The keys of the matches, all of which are of one kind."""
    found = matches(of, among)
    assert {match.kind for match in found} <= {kind}
    assert all(0 < match.score <= 1 for match in found)
    return {(match.first, match.second) for match in found}


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_signature_is_small_and_survives_pickling(known):
    for each in known.values():
        data = pickle.dumps(each)
        assert len(data) < 15000
        again = pickle.loads(data)
        assert pairs({0: each}, {1: again}, "identical") == {(0, 1)}
        assert each.points.shape == (len(each.descriptors), 3)
        assert len(each.points) <= 160


def test_points_follow_the_picture(photographs):
    """A crop's points are those of the picture, shifted."""
    picture = photographs["chelsea"].crop((0, 0, 96, 96))
    inner = picture.crop((10, 6, 96, 96))
    whole, part = sign(picture), sign(inner)
    apart = np.linalg.norm(whole.points[:, None, :2] - part.points[:, :2] - (10, 6), axis=2)
    assert np.mean(apart.min(0) < 0.3) > 0.6


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: jpeg(picture, 50),
        lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
        lambda picture: picture.resize((picture.width * 3 // 2, picture.height * 3 // 2)),
        lambda picture: picture.resize((512, 512)),
        lambda picture: picture.crop((1, 0, picture.width, picture.height - 1)),
        lambda picture: toned(picture, 1, 1.2),
        lambda picture: toned(picture, 0.85, 1),
        lambda picture: jpeg(ImageOps.mirror(picture), 80),
    ],
    ids=["jpeg", "half", "enlarged", "square", "row", "gamma", "darker", "mirror"],
)
def test_changed_pictures_are_near(photographs, known, change):
    changed = {name: sign(change(picture)) for name, picture in photographs.items()}
    assert pairs(changed, known, "near") == {(name, name) for name in NAMES}


@settings(max_examples=15)
@given(
    name=st.sampled_from(NAMES),
    size=st.integers(200, 260),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    quality=st.integers(75, 95),
    mirrored=st.booleans(),
)
def test_random_crops_are_never_taken_for_another_picture(
    photographs, known, name, size, place, quality, mirrored
):
    picture = photographs[name]
    left, top = (round(share * (side - size)) for share, side in zip(place, picture.size, strict=True))
    crop = jpeg(picture.crop((left, top, left + size, top + size)), quality)
    crop = ImageOps.mirror(crop) if mirrored else crop
    assert pairs({"crop": sign(crop)}, known, "crop") <= {("crop", name)}


@pytest.mark.parametrize(("size", "least"), [(256, 0.95), (192, 0.9), (128, 0.75)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_most_crops_are_found(photographs, known, size, least, mirrored):
    rng = np.random.default_rng(size)
    crops = {}
    for name, picture in photographs.items():
        for number in range(5):
            left, top = (int(rng.integers(0, side - size + 1)) for side in picture.size)
            crop = jpeg(picture.crop((left, top, left + size, top + size)), 75)
            crops[name, number] = sign(ImageOps.mirror(crop) if mirrored else crop)
    found = pairs(crops, known, "crop")
    assert all(key[0] == name for key, name in found)
    assert len(found) >= least * len(crops)


def test_scaled_middle_is_a_crop(photographs, known):
    halves = {name: sign(jpeg(middle(each).resize(each.size), 80)) for name, each in photographs.items()}
    found = pairs(halves, known, "crop")
    assert all(first == second for first, second in found)
    assert len(found) >= len(NAMES) - 1


def test_crops_that_overlap_match_and_those_that_do_not_do_not(photographs):
    picture = photographs["chelsea"]
    crops = {x: sign(picture.crop((x, 40, x + 160, 200))) for x in (0, 60, 300)}
    assert pairs(crops, crops, "crop") == {(0, 60)}


def test_larger_and_smaller_set_change_places(photographs, known):
    crops = {"cat": sign(ImageOps.mirror(photographs["chelsea"].crop((60, 40, 320, 300))))}
    assert pairs(crops, known, "crop") == {("cat", "chelsea")}
    assert pairs(known, crops, "crop") == {("chelsea", "cat")}


def test_one_set_against_itself(known):
    assert matches(known, known) == []
    twice = known | {"again": known["coffee"], "third": known["coffee"]}
    found = matches(twice, twice)
    assert [(match.first, match.second) for match in found] == [
        ("coffee", "again"),
        ("coffee", "third"),
        ("again", "third"),
    ]
    assert {(match.score, match.kind) for match in found} == {(1.0, "identical")}
    assert len(matches(twice, dict(twice))) == len(NAMES) + 2 + 6


def test_best_comes_first(photographs, known):
    changed = {
        "crop": sign(jpeg(photographs["coffee"].crop((100, 50, 300, 250)), 75)),
        "same": sign(photographs["camera"]),
        "near": sign(jpeg(photographs["astronaut"], 60)),
    }
    found = matches(changed, known)
    assert [(match.first, match.kind) for match in found] == [
        ("same", "identical"),
        ("near", "near"),
        ("crop", "crop"),
    ]
    assert found[0].score == 1 > found[1].score > found[2].score


def test_nothing_matches_flat_pictures_noise_or_edges():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :192] / 128
    pictures = {
        "flat": grey(np.full((128, 192), 90.0)),
        "brighter": grey(np.full((128, 192), 91.0)),
        "sky": grey(120 + 80 * y),
        "other sky": grey(90 + 120 * y + 10 * x),
        "corner": grey(200 - 60 * np.hypot(y - 1, x)),
        "noise": grey(rng.normal(128, 40, (128, 192))),
        "other noise": grey(rng.normal(128, 40, (128, 192))),
        "horizon": grey(np.where(y > 0.5, 60.0, 190.0)),
        "other horizon": grey(np.where(y > 0.4, 80.0, 170.0) + 10 * y),
        "slope": grey(np.where(y + 0.5 * x > 0.7, 60.0, 190.0)),
        "other slope": grey(np.where(y + 0.6 * x > 0.9, 70.0, 200.0)),
        "slope in noise": grey(np.where(y + 0.5 * x > 0.8, 60.0, 190.0) + rng.normal(0, 4, y.shape)),
    }
    signatures = {name: signature(picture) for name, picture in pictures.items()}
    assert matches(signatures, signatures) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (5, 400, 3), (12, 12, 3), (17, 16, 3), (700, 3, 3)])
def test_any_size_is_signed_and_matched(shape, known):
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    alone = {"tiny": signature(picture)}
    assert matches(alone, known) == []
    assert pairs(alone, {"copy": signature(picture.copy())}, "identical") == {("tiny", "copy")}


def test_empty_sets_share_nothing(known):
    assert matches({}, known) == matches(known, {}) == matches({}, {}) == []


def test_equal_pixels_of_another_shape_are_not_identical():
    picture = np.full((4, 6, 3), 7, np.uint8)
    assert matches({0: signature(picture)}, {1: signature(picture.reshape(6, 4, 3))}) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(ManasError, match=r"uint8 of shape \(H, W, 3\)"):
        signature(image)


@pytest.mark.skipif("MANAS_TEST_DATA" not in os.environ, reason="MANAS_TEST_DATA is not set")
def test_different_photographs_share_nothing():
    folder = Path(os.environ["MANAS_TEST_DATA"]) / "rain100" / "clean"
    if not folder.is_dir():
        pytest.skip("no rain100/clean in MANAS_TEST_DATA")
    signatures = {name: signature(read_image(path)) for name, path in photographs_in(folder).items()}
    assert matches(signatures, signatures) == []
