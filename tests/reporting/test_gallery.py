"""What a gallery shows: the right scenes, in their order, with their scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manas.data.images import read_image
from manas.errors import ManasError
from manas.evaluation.evaluate import Judged
from manas.evaluation.measures import PSNR, SSIM
from manas.evaluation.results import Evaluation
from manas.evaluation.scenes import DegradedScene
from manas.evaluation.scores import ImageScores
from manas.reporting.gallery import First, Worst, draw_gallery, row_of


def judged(name, *psnrs, degraded=True):
    plain = lambda level: np.full((20, 130, 3), level, np.uint8)  # noqa: E731
    scene = DegradedScene("rain", "light", name, plain(10) if degraded else None, plain(250))
    restored = tuple(plain(50 + 50 * place) for place in range(len(psnrs)))
    before = {"psnr": 5, "ssim": 0.1} if degraded else None
    return Judged(scene, (PSNR, SSIM), before, restored, tuple({"psnr": p, "ssim": 0.5} for p in psnrs))


def evaluation_of(scenes, place=0, model="model"):
    images = tuple(ImageScores(*each.scene[:3], each.before, each.after[place]) for each in scenes)
    return Evaluation("derain", images, "a set", model)


@given(st.lists(st.integers(0, 9) | st.just(float("inf")), min_size=1, max_size=30), st.integers(1, 8))
def test_the_worst_are_those_of_the_evaluation(psnrs, count):
    scenes = [judged(f"{place}", psnr) for place, psnr in enumerate(psnrs)]
    worst = Worst(count)
    for scene in scenes:
        worst(scene)
        assert len(worst.kept) <= count
    expected = [image.name for image in evaluation_of(scenes).worst(count)]
    assert [kept.scene.name for kept in worst.kept] == expected


def test_the_first_are_kept():
    first = First(2)
    scenes = [judged(name, 20) for name in "abc"]
    for scene in scenes:
        first(scene)
    assert first.kept == scenes[:2]


def test_a_row_has_all_pictures_with_their_scores():
    row = row_of(judged("a", 20, 30.126))
    assert row.caption == "rain, light, a"
    assert [picture[0, 0, 0] for picture in row.pictures] == [10, 50, 100, 250]
    assert row.notes == ("5.00 dB, SSIM 0.100", "20.00 dB, SSIM 0.500", "30.13 dB, SSIM 0.500", "")
    alone = row_of(judged("a", 20, degraded=False))
    assert [picture[0, 0, 0] for picture in alone.pictures] == [50, 250]
    assert alone.notes == ("20.00 dB, SSIM 0.500", "")


@pytest.mark.parametrize(
    ("models", "degraded", "levels"),
    [(1, True, [10, 50, 250]), (2, True, [10, 50, 100, 250]), (1, False, [50, 250])],
)
def test_a_gallery_is_drawn(models, degraded, levels, tmp_path, monkeypatch):
    drawn = {}
    from manas.reporting import gallery

    def before_after(rows, path, **options):
        drawn.update(options)
        return original(rows, path, **options)

    original = gallery.before_after
    monkeypatch.setattr(gallery, "before_after", before_after)
    scenes = [judged(name, *psnrs[:models], degraded=degraded) for name, *psnrs in (("a", 30, 1), ("b", 20, 2))]
    worst = Worst(1)
    for scene in scenes:
        worst(scene)
    evaluations = [evaluation_of(scenes, place, f"model {place}") for place in range(models)]
    page = read_image(draw_gallery(worst, evaluations, tmp_path / "gallery.png"))
    shown = [level for level in levels if (page == level).all(-1).sum() >= 20 * 130]
    assert shown == levels
    assert len(drawn["headings"]) == len(levels)
    by = " by PSNR of model 0" if models > 1 else ""
    assert drawn["title"] == f"a set, protocol derain: the 1 worst of 2 images{by}"


def test_a_gallery_of_none_is_refused():
    with pytest.raises(ManasError, match="give 1 at least"):
        Worst(0)
