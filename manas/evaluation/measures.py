"""Measures: the numbers that a protocol has for an image, and which of two such numbers is the better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from manas.errors import ManasError
from manas.evaluation.metrics import metric_ssim, psnr

T = TypeVar("T")

Scores = Mapping[str, float]
"""The values of one image by the names of the measures, in the order of the protocol."""


@dataclass(frozen=True)
class Measure:
    """One number for how near an image comes to its original.

    A protocol lists its measures, and every table, file of scores, comparison and caption has a part for each.
    A value is finite, or infinite where an image is identical to its original: infinite values are counted, and
    left out of means.

    Attributes:
        name: the key of its values, and a part of the names of its columns in a file of scores (``psnr``).
        label: its name in tables and texts (``PSNR``).
        function: maps the planes of restored images and of their references, both (N, C, H, W) as the protocol
            makes them, to one value an image, (N,).
        unit: of its values, as texts write it (``dB``); empty where there is none.
        higher_is_better: the direction; False for an error.
        digits: how many stand after the decimal point.
        note: format of a value below a picture; unless given, it has label, value and unit.
    """

    name: str
    label: str
    function: Callable[[Tensor, Tensor], Tensor]
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2
    note: str = ""

    def values(self, image: Tensor, reference: Tensor) -> list[float]:
        """One value for each of N images, from two batches of planes (N, C, H, W).

        Raises:
            ManasError: if the function gives another number of values.
        """
        found = self.function(image, reference)
        if found.shape != image.shape[:1]:
            raise ManasError(
                f"the measure {self.name!r} gave values of shape {tuple(found.shape)} for {len(image)} images: "
                f"its function must give one value an image, ({len(image)},)"
            )
        return found.tolist()

    def worth(self, value: float) -> float:
        """The value, or its negative where lower is better: of two images, the better one has more worth."""
        return value if self.higher_is_better else -value

    def text(self, value: float) -> str:
        """The value in its digits: ``28.13``."""
        return f"{value:.{self.digits}f}"

    def signed(self, value: float) -> str:
        """A difference of two values in the same digits: ``+0.31``."""
        return f"{value:+.{self.digits}f}"

    def with_unit(self, value: float) -> str:
        """``28.13 dB``."""
        return f"{self.text(value)} {self.unit}".strip()

    def caption(self, value: float) -> str:
        """The words below a picture that has this value."""
        return self.note.format(value) if self.note else f"{self.label} {self.with_unit(value)}"

    @property
    def legend(self) -> str:
        """The words of a table's caption on unit and direction; none where neither is in need of any."""
        unit = f" in {self.unit}" if self.unit else ""
        direction = "" if self.higher_is_better else " (lower is better)"
        return f"{self.label}{unit}{direction}" if unit or direction else ""


PSNR = Measure("psnr", "PSNR", psnr, unit="dB", note="{:.2f} dB")
SSIM = Measure("ssim", "SSIM", metric_ssim, digits=4, note="SSIM {:.3f}")


def worst_of(entries: Iterable[T], count: int, measure: Measure, scores: Callable[[T], Scores]) -> list[T]:
    """So many entries, the worst by one measure first; of equal ones those that come first.

    Args:
        scores: the scores of an entry.
    """
    return sorted(entries, key=lambda entry: measure.worth(scores(entry)[measure.name]))[:count]
