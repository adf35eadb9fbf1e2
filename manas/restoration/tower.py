"""The contract of a tower: stem, stages and head.

A tower restores images of one degradation. It works in stages, so that towers for different degradations can
exchange features after each stage (`manas.restoration.cross_stitch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Features = list[Tensor]
Stage = Callable[[Features, Tensor], Features]


class Tower(nn.Module):
    """Base class of towers; features are a list with one tensor (B, C_i, H/2^i, W/2^i) a scale.

    The features of a tower that unshuffles the image first are smaller by `shuffle`, on all scales.

    No method writes into a list or tensor that it was given. A tower registers each module once; a recursive
    tower returns the same bound method several times from `stages`.

    Attributes:
        channels: the widths of the features, one row a stage, one width a scale.
        shuffle: features of scale i have 1/(shuffle * 2^i) of the resolution of the image.
        size_multiple: height and width of the image must be multiples of this.
    """

    channels: Sequence[Sequence[int]]
    shuffle: int = 1
    size_multiple: int

    @property
    def restoring(self) -> Sequence[int]:
        """The stages after which the head can make a restoration, which a loss may ask for.

        By default these are the last stages, as many as have the widths of the very last.
        """
        rows = [tuple(row) for row in self.channels]
        others = [place for place, row in enumerate(rows) if row != rows[-1]]
        return range(others[-1] + 1 if others else 0, len(rows))

    def stem(self, image: Tensor) -> Features:
        """Maps an image (B, 3, H, W) to the features that the first stage takes."""
        raise NotImplementedError(f"{type(self).__name__} does not define stem(image)")

    def stages(self) -> Sequence[Stage]:
        """The stages in order: (features, image) -> features, each with the widths in its row of `channels`."""
        raise NotImplementedError(f"{type(self).__name__} does not define stages()")

    def head(self, features: Features, image: Tensor) -> Tensor:
        """Restores the image (B, 3, H, W) from the features of any stage whose widths it fits."""
        raise NotImplementedError(f"{type(self).__name__} does not define head(features, image)")

    def run_stages(self, features: Features, image: Tensor) -> Features:
        """Runs all stages, one after the other."""
        for stage in self.stages():
            features = stage(features, image)
        return features

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.run_stages(self.stem(image), image), image)
