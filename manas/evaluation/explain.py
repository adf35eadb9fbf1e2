"""One comparison by every protocol side by side, and why their numbers differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from manas.data.images import read_image
from manas.errors import ManasError
from manas.evaluation.metrics import full_range_luma
from manas.evaluation.protocols import PROTOCOLS, Protocol, Scores
from manas.evaluation.restored import pairs_by_name
from manas.evaluation.results import Spread, counted
from manas.evaluation.tables import Table

# What people compute by accident, beside the protocols that somebody published with.
OPENCV = Protocol("(OpenCV luma)", "Y of cv2.cvtColor, Pillow's L and YIQ, 0..255", planes=full_range_luma)

REASONS = {
    "derain": "Y of MATLAB, 16..235: what deraining papers report, and what the others are held against",
    "derain-matlab-u8": "Y is rounded to 8 bit before it is compared: 0.003 dB on Rain100L",
    "derain-prenet": "SSIM after downsampling, from a shorter side of 384 pixels on: it moves either way; "
    "the PSNR is that of derain",
    "rgb": "errors of colour count too, and all channels span 0..255 where Y spans 219 levels",
    "rgb-skimage": "RGB of the middle in multiples of 16; SSIM of 7 x 7 uniform windows instead of a Gaussian",
    "allweather": "both images are resized first, long side at most 1024, then up to multiples of 16: "
    "interpolation changes errors and truth; sizes that fit are left alone",
    "transweather-legacy": "resized as for allweather; planes misread as pixels; SSIM takes a range of 2 for "
    "0..1, which raises it (and PSNR by 6.02 dB where an output left 0..1, which no file can show)",
    "sr": "the border is left out, as many pixels as the scale: 4",
    OPENCV.name: "luma of OpenCV, 0..255: 20 log10(255/219) = 1.32 dB less for the same error",
}

NOTE = (
    "Means of per-image values. Outputs truncated to 8 bit (PReNet, DRN) instead of rounded are other files: "
    "about 0.3 dB at 41 dB, either way."
)


@dataclass(frozen=True)
class Explanation:
    """One protocol's scores, and why they differ from those of `derain`.

    Attributes:
        protocol: its name.
        images: how many are scored.
        scores: means of per-image values; the PSNR leaves identical images out, and is infinite of these alone.
        identical: images that this protocol cannot tell from their reference.
        reason: a sentence.
    """

    protocol: str
    images: int
    scores: Scores
    identical: int
    reason: str


def explain(restored: str | Path, reference: str | Path) -> list[Explanation]:
    """Scores an image, or a folder of images paired by name, by every protocol and by OpenCV's luma.

    Raises:
        ManasError: if a file is missing, has no partner, another size, or is too small for a protocol.
    """
    protocols = [*PROTOCOLS.values(), OPENCV]
    scores = [_scores(one, other, protocols) for one, other in _pairs(Path(restored), Path(reference))]
    columns = zip(*scores, strict=True)
    return [_explained(protocol, column) for protocol, column in zip(protocols, columns, strict=True)]


def table(explanations: Sequence[Explanation]) -> Table:
    """One row a protocol."""
    headings = ("protocol", "PSNR", "SSIM", "why it differs from derain")
    caption = f"{counted(explanations[0].images)}. {NOTE}"
    return Table(caption, headings, tuple(map(_line, explanations)))


def _pairs(restored: Path, reference: Path) -> Iterator[tuple[Path, Path]]:
    if restored.is_dir() != reference.is_dir():
        raise ManasError(f"{restored} and {reference}: one is a folder; give two images or two folders")
    if not restored.is_dir():
        yield restored, reference
        return
    yield from pairs_by_name(restored, reference).values()


def _scores(restored: Path, reference: Path, protocols: Sequence[Protocol]) -> list[Scores]:
    image, target = read_image(restored), read_image(reference)
    try:
        return [protocol.measure(image, target) for protocol in protocols]
    except ManasError as error:
        raise ManasError(f"{restored}: {error}") from error


def _explained(protocol: Protocol, scores: Sequence[Scores]) -> Explanation:
    psnr = Spread.of(score.psnr for score in scores)
    means = Scores(psnr.mean, fmean(score.ssim for score in scores))
    return Explanation(protocol.name, len(scores), means, psnr.left_out, REASONS[protocol.name])


def _line(explanation: Explanation) -> tuple[str, ...]:
    psnr, ssim = explanation.scores
    identical = f", {explanation.identical} identical left out" if explanation.identical else ""
    return explanation.protocol, f"{psnr:.2f} dB{identical}", f"{ssim:.4f}", explanation.reason
