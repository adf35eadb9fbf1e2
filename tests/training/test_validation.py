"""Scores of validation, and what the degraded crops score as they are."""

import pytest
import torch
from torch import nn

from manas.data.dataset.crops import Batch
from manas.evaluation.metrics import psnr_y
from manas.training.distributed import Process
from manas.training.validation import beside_input, untouched, validate

ALONE = Process(0, 1, torch.device("cpu"))
TASKS = ("derain", "desnow")


class Halves(nn.Module):
    """Brings an image half the way to grey."""

    def forward(self, x):
        return (x + 0.5) / 2


@pytest.fixture
def batches():
    torch.manual_seed(0)
    clean = torch.rand(4, 2, 3, 8, 8)
    return [
        Batch(degraded=torch.rand(2, 3, 3, 8, 8), clean=each[:2], task=torch.tensor([0, 1]))
        for each in clean.transpose(0, 1).reshape(2, 4, 3, 8, 8)
    ]


def by_hand(batches, network, task=None):
    scores = [
        float(psnr_y(network(version), clean))
        for batch in batches
        for versions, clean, number in zip(batch.degraded, batch.clean, batch.task, strict=True)
        for version in versions
        if task is None or number == task
    ]
    return sum(scores) / len(scores)


def test_every_version_counts_alike(batches):
    scores = validate(Halves(), batches, TASKS, ALONE)
    assert scores["psnr"] == pytest.approx(by_hand(batches, Halves()), abs=1e-4)
    for number, task in enumerate(TASKS):
        assert scores[f"psnr/{task}"] == pytest.approx(by_hand(batches, Halves(), number), abs=1e-4)


def test_the_input_is_scored_as_what_comes_out(batches):
    scores = untouched(batches, TASKS, ALONE)
    assert scores == {
        "input": pytest.approx(by_hand(batches, nn.Identity()), abs=1e-4),
        "input/derain": pytest.approx(by_hand(batches, nn.Identity(), 0), abs=1e-4),
        "input/desnow": pytest.approx(by_hand(batches, nn.Identity(), 1), abs=1e-4),
    }


def test_a_score_in_words():
    assert beside_input(29.417, 28.8) == "29.42 dB, +0.62 on the input"
    assert beside_input(20.0, 28.8) == "20.00 dB, -8.80 on the input"
