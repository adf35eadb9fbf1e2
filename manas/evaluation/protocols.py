"""Named protocols: the pixels and planes of restored photographs that are measured, and the measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from manas.device import widest_float
from manas.errors import ManasError
from manas.evaluation.batch import as_batch, check_batch
from manas.evaluation.measures import PSNR, SSIM, Measure, Scores
from manas.evaluation.metrics import PEAK, downsampled_ssim, luma, misread_luma, rounded_luma, uniform_ssim
from manas.evaluation.pixels import BorderCrop, middle_in_blocks, resized, unchanged


@dataclass(frozen=True)
class Protocol:
    """A way to score: the pixels and planes that are compared, and the measures that are taken on them.

    Attributes:
        name: by which it is chosen.
        description: a sentence that says what it does.
        planes: maps the pixels that count, 0..255 in float64, to what is compared, (N, C, h, w); a rounding
            belongs there.
        measures: of the planes. The first one decides where one must: which images are the worst, and whether
            two inputs are the same.
        size: maps pictures (N, 3, H, W), uint8, to the pixels that count.
        reason: why its numbers differ from those of the protocol ``derain``, for `manas explain-metrics`.

    Raises:
        ManasError: if there is no measure, or two have one name.
    """

    name: str
    description: str
    planes: Callable[[Tensor], Tensor]
    measures: tuple[Measure, ...]
    size: Callable[[Tensor], Tensor] = unchanged
    reason: str = ""

    def __post_init__(self) -> None:
        names = [measure.name for measure in self.measures]
        if not names or len(set(names)) < len(names):
            raise ManasError(
                f"the protocol {self.name!r} has the measures {', '.join(names) or 'none'}: "
                "give one at least, each under a name of its own"
            )

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
        check_batch(restored, reference)
        # Planes in float64 leave the caches of a CPU: there, a batch takes up to twice as long as its images
        # one by one (480 x 320, measured). A GPU takes it at once.
        at_once = 1 if restored.device.type == "cpu" else max(1, len(restored))
        pairs = zip(restored.split(at_once), reference.expand_as(restored).split(at_once), strict=True)
        return [scores for image, target in pairs for scores in self._measured(image, target)]

    def _measured(self, restored: Tensor, reference: Tensor) -> list[Scores]:
        wide = widest_float(restored.device)
        image, target = (self.planes(self.size(pictures).to(wide)) for pictures in (restored, reference))
        names = [measure.name for measure in self.measures]
        columns = [measure.values(image, target) for measure in self.measures]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


_ROWS = (
    Protocol(
        name="derain",
        description="Y of MATLAB's rgb2ycbcr, float, of 8-bit images; PSNR with peak 255; SSIM of Wang "
        "2004, 11 x 11 Gaussian of sigma 1.5, valid region, no downsampling; native size, all pixels",
        planes=luma,
        measures=(PSNR, SSIM),
        reason="Y of MATLAB, 16..235: what deraining papers report, and what the others are held against",
    ),
    Protocol(
        name="derain-matlab-u8",
        description="derain with Y rounded to 8 bit (MPRNet, Restormer)",
        planes=rounded_luma,
        measures=(PSNR, SSIM),
        reason="Y is rounded to 8 bit before it is compared: 0.003 dB on Rain100L",
    ),
    Protocol(
        name="derain-prenet",
        description="derain with SSIM after downsampling by round(shorter side / 256) (PReNet, DRN)",
        planes=luma,
        measures=(PSNR, replace(SSIM, function=downsampled_ssim)),
        reason="SSIM after downsampling, from a shorter side of 384 pixels on: it moves either way; "
        "the PSNR is that of derain",
    ),
    Protocol(
        name="rgb",
        description="RGB of 8-bit images; PSNR over all channels, SSIM of derain, mean of channels (NAFNet)",
        planes=unchanged,
        measures=(PSNR, SSIM),
        reason="errors of colour count too, and all channels span 0..255 where Y spans 219 levels",
    ),
    Protocol(
        name="rgb-skimage",
        description="RGB, the middle in multiples of 16; SSIM of scikit-image, 7 x 7 (AirNet, PromptIR)",
        planes=unchanged,
        measures=(PSNR, replace(SSIM, function=uniform_ssim)),
        size=middle_in_blocks,
        reason="RGB of the middle in multiples of 16; SSIM of 7 x 7 uniform windows instead of a Gaussian",
    ),
    Protocol(
        name="allweather",
        description="derain of both resized by Lanczos: at most 1024, then multiples of 16 (WeatherDiffusion)",
        planes=luma,
        measures=(PSNR, SSIM),
        size=resized,
        reason="both images are resized first, long side at most 1024, then up to multiples of 16: "
        "interpolation changes errors and truth; sizes that fit are left alone",
    ),
    Protocol(
        name="transweather-legacy",
        description="only to explain old numbers: allweather's size, misread planes, SSIM of twice the range",
        planes=misread_luma,
        measures=(PSNR, replace(SSIM, function=partial(uniform_ssim, data_range=2 * PEAK))),
        size=resized,
        reason="resized as for allweather; planes misread as pixels; SSIM takes a range of 2 for 0..1, which "
        "raises it (and PSNR by 6.02 dB where an output left 0..1, which no file can show)",
    ),
    Protocol(
        name="sr",
        description="derain without a border as wide as the scale, 4 pixels (BasicSR)",
        planes=luma,
        measures=(PSNR, SSIM),
        size=BorderCrop(),
        reason="the border is left out, as many pixels as the scale: 4",
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in _ROWS}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name; ManasError naming the allowed ones where there is none."""
    if name not in PROTOCOLS:
        raise ManasError(f"no evaluation protocol is called {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
