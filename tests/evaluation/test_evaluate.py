"""Evaluation: means by hand, by one named protocol, on photographs that no training sees."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from data.layouts import MINIATURES, content

from manas.data.cache import ImageCache
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.source_config import SourceConfig
from manas.data.sources import identity
from manas.errors import ManasError
from manas.evaluation.evaluate import Evaluation, ImageScores, evaluate, table
from manas.evaluation.metrics import Scores, protocol_named
from manas.evaluation.scenes import DegradedScene, generated_scenes, scenes_for, scenes_of_pairs
from manas.reporting.pictures import before_after


def scored(group, level, name, before, after):
    return ImageScores(group, level, name, Scores(*before), Scores(*after))


SCORES = Evaluation(
    "derain",
    (
        scored("rain", "light", "a", (20.0, 0.5), (30.0, 0.7)),
        scored("rain", "light", "b", (24.0, 0.7), (math.inf, 1.0)),
        scored("rain", "heavy", "a", (10.0, 0.3), (12.0, 0.5)),
        scored("snow", "light", "a", (15.0, 0.4), (14.0, 0.3)),
    ),
)


def test_means_are_of_per_image_values():
    assert SCORES.summary("rain", "heavy") == {
        "images": 1,
        "degraded_psnr": 10.0,
        "restored_psnr": 12.0,
        "degraded_ssim": 0.3,
        "restored_ssim": 0.5,
    }
    rain = SCORES.summary("rain")
    assert rain["images"] == 3
    assert rain["degraded_psnr"] == pytest.approx(18)
    assert rain["degraded_ssim"] == pytest.approx(0.5)
    assert rain["restored_ssim"] == pytest.approx(2.2 / 3)


def test_identical_images_are_counted_and_left_out_of_the_psnr():
    assert SCORES.summary("rain")["identical"] == 1
    assert SCORES.summary("rain")["restored_psnr"] == pytest.approx(21)
    assert "identical" not in SCORES.summary("snow")
    alone = Evaluation("derain", SCORES.images[1:2]).summary("rain")
    assert (alone["identical"], alone["restored_psnr"]) == (1, math.inf)


def test_groups_and_levels_in_their_order():
    assert SCORES.groups == ["rain", "snow"]
    assert SCORES.levels == [("rain", "light"), ("rain", "heavy"), ("snow", "light")]


def test_table_has_a_row_a_level_and_one_a_group_of_several():
    headings, rows = table(SCORES)
    assert len(headings) == 6
    assert [row[0] for row in rows] == ["rain, light", "rain, heavy", "rain", "snow, light"]
    assert rows[1] == ("rain, heavy", "1", "10.00 dB", "12.00 dB", "0.3000", "0.5000")
    assert rows[2][1:4] == ("3", "18.00 dB", "21.00 dB")


def test_csv_has_a_line_an_image():
    lines = list(csv.DictReader(io.StringIO(SCORES.to_csv())))
    assert len(lines) == 4
    assert lines[0] == {
        "protocol": "derain",
        "group": "rain",
        "level": "light",
        "name": "a",
        "degraded_psnr": "20.0000",
        "restored_psnr": "30.0000",
        "degraded_ssim": "0.5000",
        "restored_ssim": "0.7000",
    }
    assert float(lines[1]["restored_psnr"]) == math.inf


@pytest.fixture
def clean(tmp_path):
    """A folder of two photographs."""
    rng = np.random.default_rng(0)
    for name, shape in (("a", (20, 24)), ("b", (24, 20))):
        write_image(tmp_path / "clean" / f"{name}.png", rng.integers(60, 200, (*shape, 3), dtype=np.uint8))
    return tmp_path / "clean"


class TestEvaluate:
    def test_scores_before_and_after(self, clean):
        scenes = list(scenes_for(None, ["rain"], str(clean)))
        darker = lambda image: (image // 2).astype(np.uint8)  # noqa: E731
        evaluation = evaluate(darker, scenes)
        measure = protocol_named("derain").measure
        assert evaluation.protocol == "derain"
        assert len(evaluation.images) == len(scenes) == 2 * 3
        for scene, scores in zip(scenes, evaluation.images, strict=True):
            assert (scores.group, scores.level, scores.name) == (scene.group, scene.level, scene.name)
            assert scores.degraded == measure(scene.degraded, scene.clean)
            assert scores.restored == measure(scene.degraded // 2, scene.clean)

    def test_rows_for_the_picture(self, clean, tmp_path):
        rows = []
        evaluate(lambda image: image, scenes_for(None, ["snow"], str(clean)), rows=rows)
        assert [row.caption for row in rows][:2] == ["light snow, a", "medium snow, a"]
        assert "dB" in rows[0].notes[0]
        assert before_after(rows, tmp_path / "grid.png").is_file()

    def test_an_unknown_protocol_before_any_work(self):
        def no_scenes():
            raise AssertionError("a scene was asked for")
            yield

        with pytest.raises(ManasError, match="no evaluation protocol is called 'derian': choose one of derain"):
            evaluate(lambda image: image, no_scenes(), protocol="derian")

    def test_nothing_to_evaluate(self):
        with pytest.raises(ManasError, match="nothing to evaluate"):
            evaluate(lambda image: image, [])

    def test_a_result_of_another_size(self, clean):
        with pytest.raises(ManasError, match="compare images of one size"):
            evaluate(lambda image: image[1:], scenes_for(None, ["rain"], str(clean)))


def equal(one, other):
    return one[:3] == other[:3] and all(map(np.array_equal, one[3:], other[3:]))


class TestGeneratedScenes:
    def scenes(self, folder, **options):
        return list(generated_scenes(photographs_in(folder), "rain", **options))

    def test_they_are_a_function_of_seed_and_name(self, clean):
        one, again = self.scenes(clean), self.scenes(clean)
        assert len(one) == 6
        assert all(map(equal, one, again))
        other = self.scenes(clean, seed=1)
        assert not any(map(equal, one, other))
        (clean / "a.png").unlink()
        alone = self.scenes(clean)
        assert all(map(equal, alone, one[3:]))  # whichever other photographs there are

    def test_levels_grow_heavier(self, clean):
        measure = protocol_named("derain").measure
        scenes = self.scenes(clean)
        assert [scene.level for scene in scenes[:3]] == ["light", "medium", "heavy"]
        scores = [measure(scene.degraded, scene.clean).psnr for scene in scenes[:3]]
        assert scores[0] > scores[1] > scores[2]

    def test_they_are_whole_images_of_bytes(self, clean):
        for scene in self.scenes(clean):
            assert isinstance(scene, DegradedScene)
            assert scene.degraded.dtype == scene.clean.dtype == np.uint8
            assert scene.degraded.shape == scene.clean.shape

    def test_held_out_photographs_are_never_trained_on(self):
        held_out = {identity(path) for path in builtin_photographs("held_out").values()}
        training = set(SourceConfig(task="derain", weather="rain").open(1, ImageCache(1)).identities)
        assert held_out
        assert not training & held_out
        scenes = scenes_for(weathers=["rain"])
        assert next(scenes).name in builtin_photographs("held_out")


class TestPairs:
    def test_every_pair_by_level(self, clean, tmp_path):
        for level, more in (("light", 5), ("heavy", 20)):
            for path in clean.iterdir():
                write_image(tmp_path / level / path.name, read_image(path) + np.uint8(more))
        scenes = list(scenes_of_pairs(tmp_path))
        assert [(s.name, s.level) for s in scenes] == [
            ("a", "light"),
            ("a", "heavy"),
            ("b", "light"),
            ("b", "heavy"),
        ]
        assert {s.group for s in scenes} == {tmp_path.name}
        for scene in scenes:
            more = {"light": 5, "heavy": 20}[scene.level]
            np.testing.assert_array_equal(scene.degraded, scene.clean + np.uint8(more))
        assert all(map(equal, scenes, scenes_for(tmp_path)))

    def test_halves_of_a_file_are_decoded_once(self, tmp_path, monkeypatch):
        reads = []
        monkeypatch.setattr("manas.data.cache.read_image", lambda path: reads.append(path) or read_image(path))
        root = MINIATURES["did_mdn"]().write(tmp_path / "set")
        scenes = list(scenes_of_pairs(root))
        assert len(reads) == len(set(reads)) == len(scenes) == 9
        for place, scene in enumerate(scenes):
            assert scene.group == "set"
            assert content(scene.clean) == (int(scene.name), 0)
            assert content(scene.degraded) == (int(scene.name), place % 3 + 1)

    def test_sizes_that_differ(self, clean, tmp_path):
        for path in clean.iterdir():
            write_image(tmp_path / "light" / path.name, np.zeros((5, 5, 3), np.uint8))
        with pytest.raises(ManasError, match=r"2 size: \S+a\.png: 5x5, but its clean image \S+ is 24x20"):
            list(scenes_of_pairs(tmp_path))


def test_a_folder_given_as_the_current_one_has_a_name(clean, tmp_path, monkeypatch):
    write_image(tmp_path / "light" / "a.png", np.zeros((20, 24, 3), np.uint8))
    write_image(tmp_path / "light" / "b.png", np.zeros((24, 20, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    assert next(scenes_of_pairs(Path("."))).group == tmp_path.name
