"""The structural similarity against a plain convolution, against scikit-image, and where it could break."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from manas.errors import ManasError
from manas.restoration import ssim as ssim_module
from manas.restoration.precision import full_precision
from manas.restoration.ssim import ssim


def random_image(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_ssim(image, reference):
    """PReNet's training SSIM as a depthwise convolution: (N, C, H, W) -> (N,)."""
    channels = image.shape[1]
    taps = torch.exp(-(torch.arange(-5.0, 6.0, dtype=image.dtype) ** 2) / 4.5)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    window = window.expand(channels, 1, 11, 11)

    def blur(values):
        return F.conv2d(values, window, padding=5, groups=channels)

    mean_x, mean_y = blur(image), blur(reference)
    var_x, var_y = blur(image**2) - mean_x**2, blur(reference**2) - mean_y**2
    covariance = blur(image * reference) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    similarity = similarity / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))
    return similarity.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (11, 10), (64, 64), (127, 130), (20, 300)])
def test_loss_equals_a_plain_convolution_with_its_gradient(size):
    image, reference = random_image(2, 3, *size), random_image(2, 3, *size, seed=1)
    ours, plain = image.clone().requires_grad_(), image.clone().requires_grad_()
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    measured, expected = ssim(ours, reference, mode="loss"), plain_ssim(plain, reference)
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-10)
    (measured @ weights).backward()
    (expected @ weights).backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (65, 141), (300, 12)])
def test_metric_equals_scikit_image(size):
    image, reference = 255 * random_image(*size), 255 * random_image(*size, seed=1)
    expected = structural_similarity(
        image.numpy(),
        reference.numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    measured = ssim(image[None], reference[None], mode="metric")
    assert measured.dtype == torch.float64
    assert measured.shape == ()
    assert float(measured) == pytest.approx(expected, abs=1e-6)


def test_strips_equal_one_product(monkeypatch):
    image, reference = random_image(1, 3, 1100), random_image(1, 3, 1100, seed=1)
    in_strips = ssim(image, reference, mode="loss"), ssim(image.mT, reference.mT, mode="loss")
    monkeypatch.setattr(ssim_module, "STRIP", 2000)
    whole = ssim(image, reference, mode="loss")
    for value in in_strips:
        torch.testing.assert_close(value, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", [1, 4, 5, 11])
def test_strips_shorter_than_the_window_are_right(length, monkeypatch):
    image = random_image(2, 23, 17)
    whole = ssim_module._blur(image)
    monkeypatch.setattr(ssim_module, "STRIP", length)
    torch.testing.assert_close(ssim_module._blur(image), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["loss", "metric"])
def test_broadcasting_equals_looping(mode):
    image, reference = random_image(2, 4, 3, 16, 19), random_image(2, 1, 3, 16, 19, seed=1)
    together = ssim(image, reference, mode=mode)
    assert together.shape == (2, 4)
    for background in range(2):
        for level in range(4):
            alone = ssim(image[background, level], reference[background, 0], mode=mode)
            torch.testing.assert_close(together[background, level], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(ssim(reference, image, mode=mode), together, rtol=0, atol=1e-12)


def test_a_shared_reference_is_blurred_once(monkeypatch):
    blurred = []
    blur = ssim_module._blur
    monkeypatch.setattr(ssim_module, "_blur", lambda image: blurred.append(image.numel()) or blur(image))
    ssim(torch.rand(2, 4, 3, 16, 16), torch.rand(2, 1, 3, 16, 16), mode="loss")
    one = 2 * 3 * 16 * 16
    assert sorted(blurred) == [one, 4 * one, 2 * 4 * one]


RIGHT_HALF = (torch.arange(16) > 7).float()
EXTREMES = {
    "grey": torch.full((16,), 0.5),
    "black": torch.zeros(16),
    "white": torch.ones(16),
    "edge": RIGHT_HALF,
    "opposite edge": 1 - RIGHT_HALF,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("image", EXTREMES)
@pytest.mark.parametrize("reference", EXTREMES)
def test_loss_and_gradient_are_finite_at_the_extremes(image, reference, dtype):
    image = EXTREMES[image].expand(1, 3, 16, 16).to(dtype, copy=True).requires_grad_()
    value = ssim(image, EXTREMES[reference].expand(1, 3, 16, 16).to(dtype), mode="loss")
    assert value.dtype == torch.float32
    (1 - value).sum().backward()
    assert image.grad.isfinite().all()
    assert torch.isfinite(value).all()


def test_identical_images_score_one_where_the_gradient_vanishes():
    image = random_image(1, 3, 20, 20).requires_grad_()
    value = ssim(image, image.detach().clone(), mode="loss")
    value.sum().backward()
    assert float(value.detach()) == pytest.approx(1, abs=1e-12)
    assert image.grad.abs().max() < 1e-12
    other = image.detach() * 0.9
    (gradient,) = torch.autograd.grad(ssim(other.requires_grad_(), image.detach(), mode="loss").sum(), other)
    assert gradient.abs().max() > 1e-6


def test_first_and_second_derivatives_are_right(monkeypatch):
    monkeypatch.setattr(ssim_module, "STRIP", 4)
    image, reference = random_image(1, 6, 5).requires_grad_(), random_image(1, 6, 5, seed=1).requires_grad_()
    value = lambda *images: ssim(*images, mode="loss")  # noqa: E731
    assert torch.autograd.gradcheck(value, (image, reference))
    assert torch.autograd.gradgradcheck(value, (image, reference))


def test_autocast_does_not_reach_the_loss():
    image, reference = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    outside = ssim(image, reference, mode="loss")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ssim(image, reference, mode="loss")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


def test_bands_made_in_inference_mode_serve_training():
    ssim_module._band.cache_clear()
    with torch.inference_mode():
        ssim(torch.rand(3, 9, 9), torch.rand(3, 9, 9), mode="loss")
    image = torch.rand(3, 9, 9, requires_grad=True)
    ssim(image, torch.rand(3, 9, 9), mode="loss").backward()
    assert image.grad is not None


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_full_precision_puts_the_switches_back(precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        found = torch.backends.cuda.matmul.allow_tf32
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cuda.matmul.allow_tf32 == found
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="the newer switches came with torch 2.9"
)
def test_full_precision_knows_the_newer_switches():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with full_precision(torch.device("cpu")):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_the_backward_pass_is_precise_too(monkeypatch):
    seen = []
    rows = ssim_module._blur_rows

    def watched(image):
        seen.append(torch.get_float32_matmul_precision())
        return rows(image)

    monkeypatch.setattr(ssim_module, "_blur_rows", watched)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        image = torch.rand(3, 9, 9, requires_grad=True)
        ssim(image, torch.rand(3, 9, 9), mode="loss").backward()
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) > 3
    assert set(seen) == {"highest"}


def test_small_images_are_refused_by_the_metric_alone():
    small = torch.rand(1, 10, 40)
    with pytest.raises(ManasError, match="at least 11 x 11 pixels, got 10 x 40"):
        ssim(small, small, mode="metric")
    assert float(ssim(small, small, mode="loss")) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("other", [(3, 12, 13), (1, 12, 12), (12, 12)])
def test_different_shapes_are_refused(other):
    with pytest.raises(ManasError, match=r"one shape .*\(3, 12, 12\)"):
        ssim(torch.rand(3, 12, 12), torch.rand(*other), mode="loss")


def test_the_metric_is_exact_for_eight_bit_input():
    generator = np.random.default_rng(0)
    image = torch.from_numpy(generator.integers(0, 256, (1, 32, 32), dtype=np.uint8))
    assert float(ssim(image, image, mode="metric")) == pytest.approx(1, abs=1e-12)
