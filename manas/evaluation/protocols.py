"""Named protocols: what a PSNR and an SSIM of restored photographs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from manas.device import widest_float
from manas.errors import ManasError
from manas.evaluation.metrics import (
    PEAK,
    downsampled_ssim,
    luma,
    metric_ssim,
    misread_luma,
    psnr,
    rounded_luma,
    uniform_ssim,
)

WINDOW = 11  # pixels; the side of the Gaussian of Wang's SSIM
BLOCK = 16  # pixels; the size multiple of all-in-one networks
LONGEST = 1024  # pixels; the longest side that WeatherDiffusion scores


class Scores(NamedTuple):
    """What one restored image scores: PSNR in dB (infinite for identical images) and SSIM."""

    psnr: float
    ssim: float


def _unchanged(image: Tensor) -> Tensor:
    return image


def _in_blocks(pictures: Tensor) -> Tensor:
    """The middle of pictures in multiples of 16."""
    _check_size(pictures, BLOCK, f"crops to multiples of {BLOCK}")
    height, width = pictures.shape[-2:]
    top, left = height % BLOCK // 2, width % BLOCK // 2
    return pictures[..., top : top + height // BLOCK * BLOCK, left : left + width // BLOCK * BLOCK]


def _resized(pictures: Tensor) -> Tensor:
    """Their long side at most 1024, then both up to multiples of 16; Lanczos, once, by Pillow on the CPU."""
    height, width = pictures.shape[-2:]
    longest = max(height, width, LONGEST)
    sides = (-(-side * LONGEST // longest) for side in (width, height))
    size = [-(-side // BLOCK) * BLOCK for side in sides]
    arrays = pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    resized = [np.asarray(Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)) for array in arrays]
    return torch.stack([_as_tensor(array) for array in resized]).to(pictures.device)


@dataclass(frozen=True)
class BorderCrop:
    """Leaves out `scale` pixels at each border, as super-resolution does: (..., H, W) -> (..., H', W')."""

    scale: int = 4

    def __call__(self, pictures: Tensor) -> Tensor:
        _check_size(pictures, WINDOW + 2 * self.scale, f"crops {self.scale} pixels at each border")
        height, width = pictures.shape[-2:]
        return pictures[..., self.scale : height - self.scale, self.scale : width - self.scale]


def _check_size(pictures: Tensor, side: int, rule: str) -> None:
    height, width = pictures.shape[-2:]
    if min(height, width) < side:
        raise ManasError(
            f"the protocol {rule} and needs images of at least {side} x {side} pixels, got {width} x {height}: "
            "leave this image out or choose another protocol"
        )


@dataclass(frozen=True)
class Protocol:
    """A way to score: the planes that are compared, and the similarity taken on them.

    `size` maps pictures (N, 3, H, W), uint8, to the pixels that count. `planes` maps these, 0..255 in float64,
    to what is compared, (N, C, h, w); a rounding belongs there. `similarity` maps two such batches of planes to
    their SSIM, (N,).
    """

    name: str
    description: str
    planes: Callable[[Tensor], Tensor]
    similarity: Callable[[Tensor, Tensor], Tensor] = metric_ssim
    size: Callable[[Tensor], Tensor] = _unchanged

    def measure(self, restored: np.ndarray, reference: np.ndarray) -> Scores:
        """Scores of two images (H, W, 3), uint8; ManasError unless they are that, alike and large enough."""
        return self.measure_batch(*as_batch([restored], reference))[0]

    @torch.no_grad()
    def measure_batch(self, restored: Tensor, reference: Tensor) -> list[Scores]:
        """Scores of each of several images, on their device, in float64 (float32 on mps, which has no more).

        Args:
            restored: (N, 3, H, W) uint8.
            reference: the same, or one (3, H, W) for all of them.

        Raises:
            ManasError: for other shapes and types, and for images that are too small for the protocol.
        """
        _check_batch(restored, reference)
        # Planes in float64 leave the caches of a CPU: there, a batch takes up to twice as long as its images
        # one by one (480 x 320, measured). A GPU takes it at once.
        at_once = 1 if restored.device.type == "cpu" else max(1, len(restored))
        pairs = zip(restored.split(at_once), reference.expand_as(restored).split(at_once), strict=True)
        return [scores for image, target in pairs for scores in self._measured(image, target)]

    def _measured(self, restored: Tensor, reference: Tensor) -> list[Scores]:
        wide = widest_float(restored.device)
        image, target = (self.planes(self.size(pictures).to(wide)) for pictures in (restored, reference))
        return list(map(Scores, psnr(image, target).tolist(), self.similarity(image, target).tolist()))


def as_batch(
    pictures: Sequence[np.ndarray], reference: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Arrays (H, W, 3), uint8, and their reference as what `Protocol.measure_batch` takes, on a device.

    Raises:
        ManasError: unless all are that, and of one size.
    """
    for picture in pictures:
        _check_pair(picture, reference)
    return torch.stack([_as_tensor(each) for each in pictures]).to(device), _as_tensor(reference).to(device)


def _as_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(picture.transpose(2, 0, 1), order="C"))  # (3, H, W), a copy


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


def _check_batch(restored: Tensor, reference: Tensor) -> None:
    fits = restored.ndim == 4 and reference.shape in (restored.shape, restored.shape[1:])
    if not fits or restored.shape[1] != 3 or {restored.dtype, reference.dtype} != {torch.uint8}:
        raise ManasError(
            f"a batch is scored against references of its shape, uint8 (N, 3, H, W), or one (3, H, W); got "
            f"{restored.dtype} {tuple(restored.shape)} and {reference.dtype} {tuple(reference.shape)}"
        )


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
        planes=rounded_luma,
    ),
    Protocol(
        name="derain-prenet",
        description="derain with SSIM after downsampling by round(shorter side / 256) (PReNet, DRN)",
        planes=luma,
        similarity=downsampled_ssim,
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
        similarity=uniform_ssim,
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
        planes=misread_luma,
        similarity=partial(uniform_ssim, data_range=2 * PEAK),
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
