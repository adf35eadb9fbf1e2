"""The tracker: JSON lines and TensorBoard, cut back where a run goes on."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from manas.reporting.tracking import Tracker


def tracked(folder, steps, *, start=0):
    tracker = Tracker(folder, step=start)
    for step in steps:
        tracker.scalars(step, {"loss": float(step), "rate": 0.5})
    tracker.flush()
    tracker.close()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_numbers_by_name(tmp_path):
    tracked(tmp_path, [1, 2])
    assert lines(tmp_path) == [{"step": s, "loss": float(s), "rate": 0.5} for s in (1, 2)]


def test_a_line_is_on_disk_at_once(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.scalars(1, {"loss": 2.0})
    assert lines(tmp_path) == [{"step": 1, "loss": 2.0}]
    tracker.close()


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path):
    tracked(tmp_path, [2, 4, 6, 8])
    before = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    tracked(tmp_path, [], start=4)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(before[:2])
    tracked(tmp_path, [6], start=4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("torn", ['{"step": 4, "lo', '{"step', "{", "null", "[]", '{"loss": 1}'])
def test_a_line_that_was_torn_off_is_cut_off(torn, tmp_path):
    tracked(tmp_path, [2, 4])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(torn)
    tracked(tmp_path, [6], start=4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]


def test_a_new_run_begins_with_nothing(tmp_path):
    tracked(tmp_path, [0, 1])
    tracked(tmp_path, [3], start=0)
    assert [line["step"] for line in lines(tmp_path)] == [3]


def test_tensorboard_shows_no_step_twice(tmp_path):
    tracked(tmp_path, [2, 4, 6])
    tracked(tmp_path, [6, 8], start=4)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8]


def test_texts_and_images(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.text(1, "genotype", "{}")
    tracker.image(1, "validation", np.zeros((4, 12, 3), np.uint8))
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    image = events.Images("validation")[0]
    assert (image.step, image.width, image.height) == (1, 12, 4)
    assert "genotype/text_summary" in events.Tags()["tensors"]


def test_other_ranks_write_nothing(tmp_path):
    tracker = Tracker(tmp_path, enabled=False)
    tracker.scalars(1, {"loss": 1.0})
    tracker.text(1, "genotype", "{}")
    tracker.image(1, "validation", np.zeros((4, 4, 3), np.uint8))
    tracker.flush()
    tracker.close()
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_can_be_read_back(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.scalars(1, {"loss": float("nan"), "rate": float("inf")})
    tracker.close()
    tracked(tmp_path, [2], start=1)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
