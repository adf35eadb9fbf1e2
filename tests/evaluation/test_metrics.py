"""The measures that protocols are made of: PSNR, luma and the score of a batch during training."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from manas.evaluation.metrics import full_range_luma, luma, psnr, psnr_y
from manas.evaluation.protocols import PROTOCOLS


def as_tensor(image):
    return torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_luma_spans_the_studio_range():
    black, white = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255, dtype=torch.uint8)
    assert float(luma(black)) == 16
    assert float(luma(white)) == pytest.approx(235, abs=1e-10)
    assert luma(torch.rand(2, 4, 3, 5, 6)).shape == (2, 4, 1, 5, 6)


def test_studio_range_costs_what_the_literature_says():
    clean = noise(20, 20)
    restored = np.clip(clean.astype(int) + 10, 0, 255).astype(np.uint8)
    image, reference = as_tensor(restored), as_tensor(clean)
    full_range = psnr(full_range_luma(image), full_range_luma(reference))
    gained = float(psnr(luma(image), luma(reference)) - full_range)
    assert gained == pytest.approx(20 * math.log10(255 / 219), abs=1e-4)


def test_full_range_luma_is_that_of_pillow():
    picture = noise(9, 7)
    expected = np.asarray(Image.fromarray(picture).convert("L"), dtype=float)
    np.testing.assert_allclose(full_range_luma(as_tensor(picture))[0], expected, atol=0.51)


def test_the_batch_is_scored_sample_by_sample_as_eight_bit_files():
    clean, restored = torch.rand(2, 3, 3, 12, 14), torch.rand(2, 3, 3, 12, 14) * 1.4 - 0.2
    scores = psnr_y(restored.requires_grad_(), clean)
    assert scores.shape == (2, 3)
    assert scores.dtype == torch.float64
    assert not scores.requires_grad
    for index in np.ndindex(2, 3):
        files = [
            (image[index].detach().clamp(0, 1) * 255 + 0.5).floor().byte().permute(1, 2, 0).numpy()
            for image in (restored, clean)
        ]
        assert float(scores[index]) == pytest.approx(PROTOCOLS["derain"].measure(*files)["psnr"], abs=1e-9)


def test_the_precision_of_training_does_not_reach_the_score():
    clean, restored = torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(psnr_y(restored, clean), psnr_y(restored, clean).double())
    half = restored.to(torch.bfloat16)
    assert torch.equal(psnr_y(half, clean), psnr_y(half.float(), clean))


def test_eight_bit_tensors_do_not_wrap():
    dark, bright = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), 255, dtype=torch.uint8)
    assert float(psnr(dark, bright)) == 0
