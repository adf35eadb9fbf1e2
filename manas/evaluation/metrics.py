"""Named protocols: what a PSNR and an SSIM of restored photographs mean.

Published deraining numbers are taken on the Y of MATLAB's `rgb2ycbcr` (16..235) with a peak of 255. The luma
of OpenCV or Pillow (0..255) gives 20 log10(255/219) = 1.32 dB less for the same images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from manas.device import widest_float
from manas.errors import ManasError
from manas.restoration.precision import full_precision
from manas.restoration.ssim import ssim

PEAK = 255.0
WINDOW = 11  # pixels; the side of the Gaussian of Wang's SSIM
BLOCK = 16  # pixels; the size multiple of all-in-one networks
LONGEST = 1024  # pixels; the longest side that WeatherDiffusion scores


class Scores(NamedTuple):
    """What one restored image scores: PSNR in dB (infinite for identical images) and SSIM."""

    psnr: float
    ssim: float


def luma(image: Tensor) -> Tensor:
    """Y of MATLAB's `rgb2ycbcr`: (..., 3, H, W) in 0..255 -> (..., 1, H, W) in 16..235, widest float."""
    red, green, blue = image.to(widest_float(image.device)).split(1, dim=-3)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def full_range_luma(image: Tensor) -> Tensor:
    """Luma of OpenCV, Pillow and YIQ: (..., 3, H, W) in 0..255 -> (..., 1, H, W) in 0..255, widest float."""
    red, green, blue = image.to(widest_float(image.device)).split(1, dim=-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _rounded_luma(image: Tensor) -> Tensor:
    return torch.floor(luma(image) + 0.5)


def _misread_luma(image: Tensor) -> Tensor:
    """Luma as TransWeather took it: the planes read as if pixels lay side by side, and RGB as BGR."""
    pixels = image.reshape(*image.shape[-2:], 3)  # the mistake: (3, H, W) values under the shape (H, W, 3)
    return full_range_luma(pixels.permute(2, 0, 1).flip(0))


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


def _metric_ssim(image: Tensor, reference: Tensor) -> Tensor:
    return ssim(image, reference, mode="metric")


def _downsampled_ssim(image: Tensor, reference: Tensor) -> Tensor:
    """The metric SSIM after the downsampling that Wang's later `ssim.m` begins with, (C, H, W) -> scalar."""
    factor = max(1, math.floor(min(image.shape[-2:]) / 256 + 0.5))  # MATLAB rounds halves up, Python to even
    return _metric_ssim(_downsampled(image, factor), _downsampled(reference, factor))


def _downsampled(image: Tensor, factor: int) -> Tensor:
    """Box average with symmetric padding and MATLAB's centre, then every factor-th pixel: (C, H, W)."""
    rows, columns = (_mirrored(side, factor).to(image.device) for side in image.shape[-2:])
    return avg_pool2d(image[..., rows, :][..., columns], factor)


def _mirrored(side: int, factor: int) -> Tensor:
    """Indices of a side with what a window needs beyond its ends; the first and last pixel occur twice."""
    # MATLAB's even windows lie to the right of their centre: pixel i and the next for a factor of two.
    index = torch.arange(-((factor - 1) // 2), side + factor // 2)
    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= side, 2 * side - 1 - index, index)


def _uniform_ssim(image: Tensor, reference: Tensor, data_range: float = PEAK) -> Tensor:
    """SSIM as scikit-image has it by default: 7 x 7 means, sample covariance, valid; (C, H, W) -> scalar."""
    moments = torch.stack([image, reference, image**2, reference**2, image * reference])
    x, y, xx, yy, xy = avg_pool2d(moments, 7, stride=1)
    sample = 49 / 48
    variances, covariance = sample * (xx - x * x + yy - y * y), sample * (xy - x * y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variances + c2))
    return similarity.mean()


def _unchanged(image: Any) -> Any:
    return image


def _in_blocks(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, (H, W, 3), in multiples of 16."""
    _check_size(picture, BLOCK, f"crops to multiples of {BLOCK}")
    height, width = picture.shape[:2]
    top, left = height % BLOCK // 2, width % BLOCK // 2
    return picture[top : top + height // BLOCK * BLOCK, left : left + width // BLOCK * BLOCK]


def _resized(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with its long side at most 1024, then both up to multiples of 16; Lanczos, once."""
    height, width = picture.shape[:2]
    longest = max(height, width, LONGEST)
    sides = (-(-side * LONGEST // longest) for side in (width, height))
    size = [-(-side // BLOCK) * BLOCK for side in sides]
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class BorderCrop:
    """Leaves out `scale` pixels at each border, as super-resolution does: (H, W, 3) -> (H', W', 3)."""

    scale: int = 4

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        _check_size(picture, WINDOW + 2 * self.scale, f"crops {self.scale} pixels at each border")
        height, width = picture.shape[:2]
        return picture[self.scale : height - self.scale, self.scale : width - self.scale]


def _check_size(picture: np.ndarray, side: int, rule: str) -> None:
    height, width = picture.shape[:2]
    if min(height, width) < side:
        raise ManasError(
            f"the protocol {rule} and needs images of at least {side} x {side} pixels, got {width} x {height}: "
            "leave this image out or choose another protocol"
        )


@dataclass(frozen=True)
class Protocol:
    """A way to score: the planes that are compared, and the similarity taken on them.

    `size` maps a picture (H, W, 3), uint8, to the pixels that count. `planes` maps these, (3, h, w), 0..255
    in float64, to what is compared, (C, h, w); a rounding belongs there. `similarity` maps two such planes to
    their SSIM, a scalar.
    """

    name: str
    description: str
    planes: Callable[[Tensor], Tensor]
    similarity: Callable[[Tensor, Tensor], Tensor] = _metric_ssim
    size: Callable[[np.ndarray], np.ndarray] = _unchanged

    def measure(self, restored: np.ndarray, reference: np.ndarray) -> Scores:
        """Scores of two images (H, W, 3), uint8; ManasError unless they are that, alike and large enough."""
        _check_pair(restored, reference)
        pictures = self.size(restored), self.size(reference)
        image, target = (self.planes(_as_tensor(picture)) for picture in pictures)
        return Scores(float(psnr(image, target)), float(self.similarity(image, target)))


def _check_pair(restored: np.ndarray, reference: np.ndarray) -> None:
    for name, image in (("restored", restored), ("reference", reference)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ManasError(
                f"the {name} image must be uint8 of shape (H, W, 3), got {image.dtype} {image.shape}: "
                "read both with read_image"
            )
    if restored.shape != reference.shape:
        raise ManasError(
            f"the restored image is {restored.shape[1]} x {restored.shape[0]} pixels and its reference "
            f"{reference.shape[1]} x {reference.shape[0]}: compare images of one size, resize neither"
        )


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)  # (3, H, W)


_ROWS = (
    Protocol(
        name="derain",
        description="Y of MATLAB's rgb2ycbcr, float, of 8-bit images; PSNR with peak 255; SSIM of Wang "
        "2004, 11 x 11 Gaussian of sigma 1.5, valid region, no downsampling; native size, all pixels",
        planes=luma,
    ),
    Protocol(
        name="derain-matlab-u8",
        description="derain with Y rounded to 8 bit (MPRNet, Restormer)",
        planes=_rounded_luma,
    ),
    Protocol(
        name="derain-prenet",
        description="derain with SSIM after downsampling by round(shorter side / 256) (PReNet, DRN)",
        planes=luma,
        similarity=_downsampled_ssim,
    ),
    Protocol(
        name="rgb",
        description="RGB of 8-bit images; PSNR over all channels, SSIM of derain, mean of channels (NAFNet)",
        planes=_unchanged,
    ),
    Protocol(
        name="rgb-skimage",
        description="RGB, the middle in multiples of 16; SSIM of scikit-image, 7 x 7 (AirNet, PromptIR)",
        planes=_unchanged,
        similarity=_uniform_ssim,
        size=_in_blocks,
    ),
    Protocol(
        name="allweather",
        description="derain of both resized by Lanczos: at most 1024, then multiples of 16 (WeatherDiffusion)",
        planes=luma,
        size=_resized,
    ),
    Protocol(
        name="transweather-legacy",
        description="only to explain old numbers: allweather's size, misread planes, SSIM of twice the range",
        planes=_misread_luma,
        similarity=partial(_uniform_ssim, data_range=2 * PEAK),
        size=_resized,
    ),
    Protocol(
        name="sr",
        description="derain without a border as wide as the scale, 4 pixels (BasicSR)",
        planes=luma,
        size=BorderCrop(),
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in _ROWS}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; ManasError naming the allowed ones where there is none."""
    if name not in PROTOCOLS:
        raise ManasError(f"no evaluation protocol is called {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
