"""Evaluation: means by hand, by one named protocol, on photographs that no training sees."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data.archives.layouts import MINIATURES, content

from manas.data.archives import StoredImage
from manas.data.dataset.cache import ImageCache
from manas.data.dataset.config import SourceConfig
from manas.data.dataset.identities import identities
from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.errors import ManasError
from manas.evaluation.evaluate import candidate, evaluate, evaluate_all, scoring_device
from manas.evaluation.protocols import Protocol, protocol_named
from manas.evaluation.scenes import DegradedScene, generated_scenes, scenes_for, scenes_of_pairs
from manas.inference.restorer import Restorer


@pytest.fixture
def clean(tmp_path):
    """A folder of two photographs."""
    rng = np.random.default_rng(0)
    for name, shape in (("a", (20, 24)), ("b", (24, 20))):
        write_image(tmp_path / "clean" / f"{name}.png", rng.integers(60, 200, (*shape, 3), dtype=np.uint8))
    return tmp_path / "clean"


def darker(image):
    return image // 2


class TestEvaluate:
    def test_scores_before_and_after(self, clean):
        scenes = list(scenes_for(None, ["rain"], str(clean)))
        evaluation = evaluate(darker, scenes)
        measure = protocol_named("derain").measure
        assert evaluation.protocol == "derain"
        assert len(evaluation.images) == len(scenes) == 2 * 3
        for scene, scores in zip(scenes, evaluation.images, strict=True):
            assert (scores.group, scores.level, scores.name) == (scene.group, scene.level, scene.name)
            assert scores.degraded == measure(scene.degraded, scene.clean)
            assert scores.restored == measure(scene.degraded // 2, scene.clean)

    def test_what_is_evaluated_is_said(self, clean):
        evaluation = evaluate(darker, scenes_for(None, ["rain", "snow"], str(clean)))
        assert evaluation.data == "generated rain and snow on 2 photographs of clean"
        assert evaluation.model == ""
        assert evaluate(darker, list(scenes_for(None, ["rain"], str(clean)))).data == ""

    def test_every_scene_is_watched(self, clean):
        seen = []
        scenes = list(scenes_for(None, ["snow"], str(clean)))
        evaluation = evaluate(darker, scenes, watch=seen.append)
        assert [judged.scene for judged in seen] == scenes
        for judged, scores in zip(seen, evaluation.images, strict=True):
            assert (judged.before, judged.after) == (scores.degraded, (scores.restored,))
            np.testing.assert_array_equal(judged.restored[0], judged.scene.degraded // 2)

    def test_several_models_see_each_scene_once(self, clean):
        asked = []
        scenes = scenes_for(None, ["rain"], str(clean))
        candidates = {
            "same": candidate(lambda image: image),
            "darker": candidate(lambda image: asked.append(1) or darker(image)),
        }
        evaluations = evaluate_all(candidates, scenes, protocol="rgb")
        assert len(asked) == len(scenes) == 6
        assert [each.model for each in evaluations] == ["same", "darker"]
        assert evaluations[0].images == evaluate(lambda image: image, scenes, protocol="rgb").images
        assert evaluations[1].images == evaluate(darker, scenes, protocol="rgb").images
        assert all(image.degraded == image.restored for image in evaluations[0].images)

    def test_scores_are_taken_where_the_model_is(self, clean, monkeypatch):
        devices = []
        measure = Protocol.measure_batch
        watched = lambda self, *pair: devices.extend(each.device for each in pair) or measure(self, *pair)  # noqa: E731
        monkeypatch.setattr(Protocol, "measure_batch", watched)
        evaluate(darker, scenes_for(None, ["rain"], str(clean)))
        assert set(devices) == {torch.device("cpu")}
        places = {name: torch.device(name) for name in ("cpu", "cuda", "mps")}
        found = {name: scoring_device(SimpleNamespace(device=place)) for name, place in places.items()}
        assert found == places | {"mps": places["cpu"]}  # which has no float64

    def test_a_model_file_is_scored_as_whole_images_in_float32(self, clean, monkeypatch):
        given = []
        monkeypatch.setattr(Restorer, "load", lambda path, **options: given.append((path, options)) or darker)
        evaluation = evaluate("model.safetensors", scenes_for(None, ["rain"], str(clean)))
        assert given == [("model.safetensors", {"precision": "float32", "statistics": "exact"})]
        assert evaluation.model == "model.safetensors"

    def test_of_a_run_directory_the_model_file_is_named(self, clean, tmp_path, monkeypatch):
        """A model card asks whether scores are of its file."""
        monkeypatch.setattr(Restorer, "load", lambda path, **options: darker)
        evaluation = evaluate(tmp_path, scenes_for(None, ["rain"], str(clean)))
        assert evaluation.model == str(tmp_path / "model.safetensors")

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
        with pytest.raises(ManasError, match=r"^rain, light, a: the restored.*compare images of one size"):
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
        scores = [measure(scene.degraded, scene.clean)["psnr"] for scene in scenes[:3]]
        assert scores[0] > scores[1] > scores[2]

    def test_they_are_whole_images_of_bytes(self, clean):
        for scene in self.scenes(clean):
            assert isinstance(scene, DegradedScene)
            assert scene.degraded.dtype == scene.clean.dtype == np.uint8
            assert scene.degraded.shape == scene.clean.shape

    def test_held_out_photographs_are_never_trained_on(self):
        held_out = [StoredImage(path) for path in builtin_photographs("held_out").values()]
        training = SourceConfig(task="derain", weather="rain").open(1, ImageCache(1)).pictures
        of_training, of_held_out = map(set, identities([training, held_out]))
        assert of_held_out
        assert not of_training & of_held_out
        scenes = scenes_for(weathers=["rain"])
        assert next(iter(scenes)).name in builtin_photographs("held_out")


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

    def test_their_number_is_known_before_one_is_read(self, clean, tmp_path, monkeypatch):
        write_image(tmp_path / "light" / "a.png", np.zeros((20, 24, 3), np.uint8))
        write_image(tmp_path / "light" / "b.png", np.zeros((24, 20, 3), np.uint8))
        monkeypatch.setattr("manas.data.dataset.cache.read_image", lambda path: pytest.fail("is read"))
        scenes = scenes_of_pairs(tmp_path)
        assert (len(scenes), scenes.title) == (2, tmp_path.name)
        generated = scenes_for(None, ["rain"], clean)
        assert (len(generated), len(list(generated)), len(list(generated))) == (6, 6, 6)

    def test_halves_of_a_file_are_decoded_once(self, tmp_path, monkeypatch):
        reads = []
        monkeypatch.setattr(
            "manas.data.dataset.cache.read_image", lambda path: reads.append(path) or read_image(path)
        )
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
    assert next(iter(scenes_of_pairs(Path(".")))).group == tmp_path.name
