"""The measures of restored photographs: PSNR, the luma it is taken on, and the variants of SSIM.

Published deraining numbers are taken on the Y of MATLAB's `rgb2ycbcr` (16..235) with a peak of 255. The luma
of OpenCV or Pillow (0..255) gives 20 log10(255/219) = 1.32 dB less for the same images.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from manas.device import widest_float
from manas.restoration.precision import full_precision
from manas.restoration.ssim import ssim

PEAK = 255.0


def luma(image: Tensor) -> Tensor:
    """Y of MATLAB's `rgb2ycbcr`: (..., 3, H, W) in 0..255 -> (..., 1, H, W) in 16..235, widest float."""
    red, green, blue = image.to(widest_float(image.device)).split(1, dim=-3)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def rounded_luma(image: Tensor) -> Tensor:
    """`luma` as 8 bit would hold it, halves rounded up as MATLAB does."""
    return torch.floor(luma(image) + 0.5)


def full_range_luma(image: Tensor) -> Tensor:
    """Luma of OpenCV, Pillow and YIQ: (..., 3, H, W) in 0..255 -> (..., 1, H, W) in 0..255, widest float."""
    red, green, blue = image.to(widest_float(image.device)).split(1, dim=-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def misread_luma(image: Tensor) -> Tensor:
    """Luma as TransWeather took it: the planes read as if pixels lay side by side, and RGB as BGR."""
    # The mistake: (3, H, W) values under the shape (H, W, 3).
    pixels = image.reshape(*image.shape[:-3], *image.shape[-2:], 3)
    return full_range_luma(pixels.movedim(-1, -3).flip(-3))


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each sample: (..., C, H, W) in 0..255 -> (...).

    The peak stays 255 for Y too, although Y spans 219 levels: that is the convention. Identical samples are
    infinite.
    """
    dtype = widest_float(image.device)
    error = (image.to(dtype) - reference.to(dtype)).square().mean(dim=(-3, -2, -1))
    return 10 * torch.log10(PEAK**2 / error)


def psnr_y(restored: Tensor, clean: Tensor) -> Tensor:
    """PSNR of Y in dB for validation, on the device of the batch: (..., 3, H, W) in [0, 1] -> (...).

    Both images are clamped and rounded to 8 bit first, so that the value is that of the files they would be.
    """
    with torch.no_grad(), full_precision(restored.device):
        return psnr(luma(_eight_bit(restored)), luma(_eight_bit(clean)))


def _eight_bit(image: Tensor) -> Tensor:
    return torch.floor(image.to(widest_float(image.device)).clamp(0, 1) * PEAK + 0.5)


def metric_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """SSIM of Wang 2004, valid region: (..., C, H, W) in 0..255 -> (...)."""
    return ssim(image, reference, mode="metric")


def downsampled_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """`metric_ssim` after the downsampling that Wang's later `ssim.m` begins with, (N, C, H, W) -> (N,)."""
    factor = max(1, math.floor(min(image.shape[-2:]) / 256 + 0.5))  # MATLAB rounds halves up, Python to even
    return metric_ssim(_downsampled(image, factor), _downsampled(reference, factor))


def _downsampled(image: Tensor, factor: int) -> Tensor:
    """Box average with symmetric padding and MATLAB's centre, then every factor-th pixel: (N, C, H, W)."""
    rows, columns = (_mirrored(side, factor).to(image.device) for side in image.shape[-2:])
    return avg_pool2d(image[..., rows, :][..., columns], factor)


def _mirrored(side: int, factor: int) -> Tensor:
    """Indices of a side with what a window needs beyond its ends; the first and last pixel occur twice."""
    # MATLAB's even windows lie to the right of their centre: pixel i and the next for a factor of two.
    index = torch.arange(-((factor - 1) // 2), side + factor // 2)
    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= side, 2 * side - 1 - index, index)


def uniform_ssim(image: Tensor, reference: Tensor, data_range: float = PEAK) -> Tensor:
    """SSIM as scikit-image has it by default: 7 x 7 means, sample covariance, valid; (N, C, H, W) -> (N,)."""
    moments = (image, reference, image**2, reference**2, image * reference)
    x, y, xx, yy, xy = (avg_pool2d(moment, 7, stride=1) for moment in moments)
    sample = 49 / 48
    variances, covariance = sample * (xx - x * x + yy - y * y), sample * (xy - x * y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variances + c2))
    return similarity.mean(dim=(-3, -2, -1))
