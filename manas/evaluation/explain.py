"""One comparison by every protocol side by side, and why their numbers differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manas.data.images import read_image
from manas.errors import ManasError
from manas.evaluation.measures import PSNR, SSIM, Measure, Scores
from manas.evaluation.metrics import full_range_luma
from manas.evaluation.protocols import PROTOCOLS, Protocol
from manas.evaluation.restored import pairs_by_name
from manas.evaluation.scores import counted
from manas.evaluation.summary import Spread, Spreads, spreads
from manas.evaluation.tables import Table

# What people compute by accident, beside the protocols that somebody published with.
OPENCV = Protocol(
    name="(OpenCV luma)",
    description="Y of cv2.cvtColor, Pillow's L and YIQ, 0..255",
    planes=full_range_luma,
    measures=(PSNR, SSIM),
    reason="luma of OpenCV, 0..255: 20 log10(255/219) = 1.32 dB less for the same error",
)

NOTE = (
    "Means of per-image values. Outputs truncated to 8 bit (PReNet, DRN) instead of rounded are other files: "
    "about 0.3 dB at 41 dB, either way."
)


@dataclass(frozen=True)
class Explanation:
    """One protocol's scores; why they differ from those of `derain` is said by the protocol.

    Attributes:
        protocol: one of the named ones, or `OPENCV`.
        images: how many are scored.
        scores: the spread of every measure. It leaves out the images that the protocol cannot tell from their
            reference where their value is infinite.
    """

    protocol: Protocol
    images: int
    scores: Spreads


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
    """One row a protocol, and one column for each measure that any of them has."""
    labels = {measure.name: measure.label for each in explanations for measure in each.protocol.measures}
    headings = ("protocol", *labels.values(), "why it differs from derain")
    caption = f"{counted(explanations[0].images)}. {NOTE}"
    return Table(caption, headings, tuple(_line(each, list(labels)) for each in explanations))


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
    return Explanation(protocol, len(scores), spreads(scores, protocol.measures))


def _line(explanation: Explanation, names: Sequence[str]) -> tuple[str, ...]:
    protocol = explanation.protocol
    cells = {each.name: _cell(each, explanation.scores[each.name]) for each in protocol.measures}
    return protocol.name, *(cells.get(name, "") for name in names), protocol.reason


def _cell(measure: Measure, spread: Spread) -> str:
    identical = f", {spread.left_out} identical left out" if spread.left_out else ""
    return f"{measure.with_unit(spread.mean)}{identical}"
