"""Pictures that are restored already find their originals, and what does not is named."""

import numpy as np
import pytest

from manas.data.images import write_image
from manas.errors import ManasError
from manas.evaluation.evaluate import candidate, evaluate_all
from manas.evaluation.protocols import protocol_named
from manas.evaluation.restored import originals_of, pairs_by_name, reader_of


def picture(seed):
    return np.random.default_rng(seed).integers(20, 220, (24, 40, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Restored pictures under the names of their inputs, and originals under theirs."""
    restored, originals = tmp_path / "out", tmp_path / "clean"
    for seed, (ours, theirs) in enumerate(
        [("rain-001.png", "norain-1.bmp"), ("rain-002.png", "norain-2.bmp"), ("deep/a.png", "deep/a.png")]
    ):
        write_image(originals / theirs, picture(seed))
        write_image(restored / ours, picture(seed) + np.uint8(10))
    return restored, originals


def test_pairs_are_found_as_in_data_sets(folders):
    restored, originals = folders
    assert pairs_by_name(restored, originals) == {
        "1": (restored / "rain-001.png", originals / "norain-1.bmp"),
        "2": (restored / "rain-002.png", originals / "norain-2.bmp"),
        "deep/a": (restored / "deep" / "a.png", originals / "deep" / "a.png"),
    }


def test_views_beside_results_are_no_results(folders):
    restored, originals = folders
    pairs = pairs_by_name(restored, originals)
    for name in ("rain-001.png.compare.png", "deep/a.png.difference.png"):
        write_image(restored / name, picture(0))
    assert pairs_by_name(restored, originals) == pairs
    write_image(restored / "other.compare.png", picture(0))
    with pytest.raises(ManasError, match=r"other\.compare\.png has no partner"):
        pairs_by_name(restored, originals)


def test_they_are_scored(folders):
    restored, originals = folders
    scenes = originals_of(originals, restored)
    assert (len(scenes), scenes.title) == (3, "clean")
    evaluation = evaluate_all({"ours": reader_of(restored, originals)}, scenes, protocol="rgb")[0]
    expected = {
        name: protocol_named("rgb").measure(picture(seed) + np.uint8(10), picture(seed))
        for seed, name in enumerate(("1", "2", "deep/a"))
    }
    assert {image.name: image.restored for image in evaluation.images} == expected
    assert {(image.group, image.level, image.degraded) for image in evaluation.images} == {("clean", "", None)}
    assert evaluation.table().rows[0][0] == "clean"


def test_a_model_cannot_restore_what_is_not_there(folders):
    restored, originals = folders
    with pytest.raises(ManasError, match="1: there is no degraded image of it"):
        evaluate_all({"model": candidate(lambda image: image)}, originals_of(originals, restored))


def test_missing_ones_are_named(folders):
    restored, originals = folders
    write_image(restored / "extra.png", picture(0))
    write_image(restored / "more.png", picture(0))
    with pytest.raises(ManasError, match=r"out/extra\.png has no partner in \S+clean \(2 images in all\)"):
        pairs_by_name(restored, originals)
    (originals / "deep" / "b.png").symlink_to(originals / "deep" / "a.png")
    with pytest.raises(ManasError, match=r"clean/deep/b\.png has no partner in \S+out \(1 image in all\)"):
        pairs_by_name(restored, originals)


def test_duplicates_are_named(folders):
    restored, originals = folders
    write_image(restored / "1.png", picture(0))
    with pytest.raises(ManasError, match=r"out: 1\.png and rain-001\.png are both 1; remove one"):
        pairs_by_name(restored, originals)
    (restored / "1.png").unlink()
    write_image(originals / "norain-2.png", picture(1))
    with pytest.raises(ManasError, match=r"clean: norain-2\.bmp and norain-2\.png share the key norain-2"):
        pairs_by_name(restored, originals)


def test_another_size_is_named(folders):
    restored, originals = folders
    write_image(restored / "rain-002.png", picture(1)[:20])
    with pytest.raises(ManasError, match="^clean, 2: the restored image is 40 x 20 pixels"):
        evaluate_all({"ours": reader_of(restored, originals)}, originals_of(originals, restored))
