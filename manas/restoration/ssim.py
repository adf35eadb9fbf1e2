"""Structural similarity (Wang et al. 2004), one function for the loss and for the metric.

    SSIM = (2 mu_x mu_y + C1)(2 cov_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(var_x + var_y + C2))

The moments are blurs by an 11 x 11 Gaussian of sigma 1.5. The Gaussian is separable, and each of its two passes
is a product with a banded matrix, which on the CPU is several times faster than a depthwise convolution.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from manas.device import widest_float
from manas.errors import ManasError
from manas.restoration.precision import full_precision

RADIUS = 5
SIGMA = 1.5
# Pixels a strip: longer bands waste products on zeros, shorter ones cost launches, and a crop of this side or
# less takes one product.
STRIP = 128


class _Mode(NamedTuple):
    """The constants (0.01 L)^2 and (0.03 L)^2 for values in 0..L, and the pixels dropped at each border."""

    c1: float
    c2: float
    border: int


_MODES = {"loss": _Mode(1e-4, 9e-4, 0), "metric": _Mode(6.5025, 58.5225, RADIUS)}


def ssim(image: Tensor, reference: Tensor, *, mode: Literal["loss", "metric"]) -> Tensor:
    """Mean structural similarity of each sample, averaged over channels and pixels.

    image, reference: (..., C, H, W), leading dimensions broadcast; a reference that several images share is
    blurred once. Returns the broadcast leading shape.

    "loss": values in [0, 1], zero padding, float32 or wider (PReNet's training SSIM; never report it).
    "metric": values in 0..255, valid region, float64 (Wang's `ssim.m` without downsampling), for which
    both sides must have at least 11 pixels. ManasError where the shapes do not fit.
    """
    c1, c2, border = _MODES[mode]
    _check_shapes(image, reference, border)
    x, y = _widened(image, reference, mode)
    with full_precision(x.device):
        mean_x, mean_y = _blur(x), _blur(y)
        # Only the sum of the two variances is needed, so E[x^2] and E[y^2] are one blur.
        squares, product = _blur(torch.stack([x * x + y * y, x * y]))
        means, mean_squares = 2 * mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        numerator = (means + c1) * (2 * product - means + c2)
        denominator = (mean_squares + c1) * (squares - mean_squares + c2)
        similarity = numerator / denominator  # (..., C, H, W)
        height, width = similarity.shape[-2:]
        return similarity[..., border : height - border, border : width - border].mean(dim=(-3, -2, -1))


def _check_shapes(image: Tensor, reference: Tensor, border: int) -> None:
    if image.ndim < 3 or image.shape[-3:] != reference.shape[-3:]:
        raise ManasError(
            f"SSIM compares images of one shape (..., C, H, W), got {tuple(image.shape)} and "
            f"{tuple(reference.shape)}: give both the same channels, height and width"
        )
    if border and min(image.shape[-2:]) <= 2 * border:
        raise ManasError(
            f"SSIM needs images of at least {2 * border + 1} x {2 * border + 1} pixels, "
            f"got {image.shape[-2]} x {image.shape[-1]}: leave this image out or measure a larger one"
        )


def _widened(image: Tensor, reference: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(torch.promote_types(image.dtype, reference.dtype), torch.float32)
    if mode == "metric":
        dtype = widest_float(image.device)
    return image.to(dtype), reference.to(dtype)


def _blur(image: Tensor) -> Tensor:
    return _Blur.apply(image)


class _Blur(torch.autograd.Function):
    """The Gaussian blur with zero padding: (..., H, W) -> (..., H, W).

    The blur is symmetric and therefore its own gradient, which so runs in full precision, too: the backward
        pass
    of a training comes after the caller's block of full precision has ended.
    """

    @staticmethod
    def forward(image: Tensor) -> Tensor:
        with full_precision(image.device):
            return _blur_columns(_blur_rows(image))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Saves nothing, since the gradient of a linear function does not depend on its input."""

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _blur(gradient)


def _blur_rows(image: Tensor) -> Tensor:
    bands = _bands(image.shape[-1], image.dtype, image.device)
    strips = [image[..., inputs] @ band for inputs, band in bands]
    return strips[0] if len(strips) == 1 else torch.cat(strips, dim=-1)


def _blur_columns(image: Tensor) -> Tensor:
    bands = _bands(image.shape[-2], image.dtype, image.device)
    strips = [band.mT @ image[..., inputs, :] for inputs, band in bands]
    return strips[0] if len(strips) == 1 else torch.cat(strips, dim=-2)


def _bands(side: int, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """The strips of a side, each as its input pixels and its matrix, so that no matrix grows with the image."""
    for start in range(0, side, STRIP):
        stop = min(start + STRIP, side)
        first, last = max(start - RADIUS, 0), min(stop + RADIUS, side)
        yield slice(first, last), _band(stop - start, last - first, start - first, dtype, device)


@lru_cache(maxsize=64)
def _band(outputs: int, inputs: int, offset: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(inputs, outputs): column j holds the Gaussian centred on input j + offset, cut at the borders."""
    distance = torch.arange(inputs)[:, None] - torch.arange(outputs) - offset
    # In float64 and rounded at the end, so that the weights are the nearest to the Gaussian in every type.
    taps = torch.exp(-(torch.arange(-RADIUS, RADIUS + 1).double() ** 2) / (2 * SIGMA**2))
    weights = torch.exp(-(distance.double() ** 2) / (2 * SIGMA**2)) / taps.sum()
    return weights.where(distance.abs() <= RADIUS, 0.0).to(device, dtype)
