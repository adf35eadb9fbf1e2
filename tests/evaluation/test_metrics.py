"""The named protocols against golden numbers, scikit-image and each other."""

import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from manas.errors import ManasError
from manas.evaluation.metrics import PROTOCOLS, luma, protocol_named, psnr, psnr_y
from manas.restoration.ssim import ssim

# psnr Y, ssim Y, psnr RGB, ssim RGB, ssim Y with zero padding
GOLDEN = {
    "chelsea": (30.2998, 0.747861, 28.9779, 0.722855, 0.756910),
    "astronaut": (30.3899, 0.746695, 29.0697, 0.689495, 0.751737),
    "coffee": (30.4218, 0.744164, 29.0854, 0.702236, 0.750550),
}


def streaked(clean):
    """The degradation of the golden table: 24 levels brighter where (x // 3 + y) mod 7 = 0."""
    row, column = np.mgrid[: clean.shape[0], : clean.shape[1]]
    lit = ((column // 3 + row) % 7 == 0)[..., None]
    return np.clip(clean.astype(int) + 24 * lit, 0, 255).astype(np.uint8)


def as_tensor(image):
    return torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name):
    clean = getattr(data, name)()
    degraded = streaked(clean)
    psnr_luma, ssim_luma, psnr_rgb, ssim_rgb, ssim_padded = GOLDEN[name]
    scores = PROTOCOLS["derain"].measure(degraded, clean)
    assert scores.psnr == pytest.approx(psnr_luma, abs=5.1e-5)
    assert scores.ssim == pytest.approx(ssim_luma, abs=1e-6)
    image, reference = as_tensor(degraded), as_tensor(clean)
    assert float(psnr(image, reference)) == pytest.approx(psnr_rgb, abs=5.1e-5)
    assert float(ssim(image, reference, mode="metric")) == pytest.approx(ssim_rgb, abs=1e-6)
    padded = ssim(luma(image) / 255, luma(reference) / 255, mode="loss")
    assert float(padded) == pytest.approx(ssim_padded, abs=1e-6)
    in_unit_range = image.float() / 255, reference.float() / 255
    assert float(psnr_y(*in_unit_range)) == pytest.approx(scores.psnr, abs=1e-10)


def test_derain_agrees_with_scikit_image():
    restored, clean = noise(33, 47), noise(33, 47, seed=1)
    planes = [(16 + image @ np.array([65.481, 128.553, 24.966]) / 255) for image in (restored, clean)]
    scores = protocol_named("derain").measure(restored, clean)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(*planes, data_range=255), abs=1e-6)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert scores.ssim == pytest.approx(structural_similarity(*planes, **settings), abs=1e-6)


def test_luma_spans_the_studio_range():
    black, white = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 255, dtype=torch.uint8)
    assert float(luma(black)) == 16
    assert float(luma(white)) == pytest.approx(235, abs=1e-10)
    assert luma(torch.rand(2, 4, 3, 5, 6)).shape == (2, 4, 1, 5, 6)


def test_studio_range_costs_what_the_literature_says():
    clean = noise(20, 20)
    restored = np.clip(clean.astype(int) + 10, 0, 255).astype(np.uint8)
    image, reference = as_tensor(restored), as_tensor(clean)
    full_range = psnr(*((luma(values) - 16) * 255 / 219 for values in (image, reference)))
    assert float(psnr(luma(image), luma(reference)) - full_range) == pytest.approx(20 * math.log10(255 / 219))


def test_identical_images_are_infinite_and_one():
    clean = noise(16, 16)
    scores = PROTOCOLS["derain"].measure(clean, clean)
    assert scores.psnr == math.inf
    assert scores.ssim == pytest.approx(1, abs=1e-12)


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
        assert float(scores[index]) == pytest.approx(PROTOCOLS["derain"].measure(*files).psnr, abs=1e-9)


def test_the_precision_of_training_does_not_reach_the_score():
    clean, restored = torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(psnr_y(restored, clean), psnr_y(restored, clean).double())
    half = restored.to(torch.bfloat16)
    assert torch.equal(psnr_y(half, clean), psnr_y(half.float(), clean))


def test_eight_bit_tensors_do_not_wrap():
    dark, bright = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), 255, dtype=torch.uint8)
    assert float(psnr(dark, bright)) == 0


def test_measures_read_only_and_reversed_arrays():
    clean, restored = noise(16, 16), noise(16, 16, seed=1)
    clean.flags.writeable = False
    mirrored = PROTOCOLS["derain"].measure(restored[:, ::-1], clean[:, ::-1])
    assert mirrored == pytest.approx(PROTOCOLS["derain"].measure(restored, clean), abs=1e-9)


@pytest.mark.parametrize(
    ("restored", "message"),
    [
        (noise(20, 31), "31 x 20 pixels and its reference 30 x 20"),
        (noise(20, 30) / 255, "must be uint8"),
        (noise(20, 30)[..., 0], "must be uint8"),
        (np.zeros((20, 30, 4), np.uint8), "must be uint8"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(restored, message):
    with pytest.raises(ManasError, match=message):
        PROTOCOLS["derain"].measure(restored, noise(20, 30))


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ManasError, match="at least 11 x 11"):
        PROTOCOLS["derain"].measure(noise(8, 30), noise(8, 30))


def test_an_unknown_protocol_names_the_allowed():
    with pytest.raises(ManasError, match="'drain': choose one of derain"):
        protocol_named("drain")


def test_protocols_know_their_name_and_say_what_they_are():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.description
