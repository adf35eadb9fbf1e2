"""Named protocols: what a PSNR and an SSIM of restored photographs mean.

Published deraining numbers are taken on the Y of MATLAB's `rgb2ycbcr` (16..235) with a peak of 255. The luma
of OpenCV or Pillow (0..255) gives 20 log10(255/219) = 1.32 dB less for the same images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from manas.device import widest_float
from manas.errors import ManasError
from manas.restoration.precision import full_precision
from manas.restoration.ssim import ssim

PEAK = 255.0


class Scores(NamedTuple):
    """What one restored image scores: PSNR in dB (infinite for identical images) and SSIM."""

    psnr: float
    ssim: float


def luma(image: Tensor) -> Tensor:
    """Y of MATLAB's `rgb2ycbcr`: (..., 3, H, W) in 0..255 -> (..., 1, H, W) in 16..235, widest float."""
    red, green, blue = image.to(widest_float(image.device)).split(1, dim=-3)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


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


@dataclass(frozen=True)
class Protocol:
    """A way to score: the planes that are compared, and the similarity taken on them.

    `planes` maps an image (3, H, W), 0..255 in float64, to what is compared, (C, h, w); a size rule or a
    rounding belongs there. `similarity` maps two such planes to their SSIM, a scalar.
    """

    name: str
    description: str
    planes: Callable[[Tensor], Tensor]
    similarity: Callable[[Tensor, Tensor], Tensor] = _metric_ssim

    def measure(self, restored: np.ndarray, reference: np.ndarray) -> Scores:
        """Scores of two images (H, W, 3), uint8; ManasError unless they are that and of one size."""
        _check_pair(restored, reference)
        image, target = self.planes(_as_tensor(restored)), self.planes(_as_tensor(reference))
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


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="derain",
            description="Y of MATLAB's rgb2ycbcr, float, of 8-bit images; PSNR with peak 255; SSIM of Wang "
            "2004, 11 x 11 Gaussian of sigma 1.5, valid region, no downsampling; native size, all pixels",
            planes=luma,
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; ManasError naming the allowed ones where there is none."""
    if name not in PROTOCOLS:
        raise ManasError(
            f"no evaluation protocol is called {name!r}: choose one of {', '.join(sorted(PROTOCOLS))}"
        )
    return PROTOCOLS[name]
