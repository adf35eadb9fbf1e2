"""What has to be known of a network to restore large images with it, found on the network itself."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from manas.errors import ManasError
from manas.inference.footprint import bytes_a_pixel
from manas.inference.receptive import receptive_radius
from manas.inference.statistics import NotFiniteError, pooling_depth
from manas.restoration.network import Restoration


class OneOutput(nn.Module):
    """One image out of a network that gives several: the fused one, or that of one task."""

    def __init__(self, network: nn.Module, task: str | None):
        super().__init__()
        self.network, self.task = network, task

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the same, float32 under autocast too."""
        restoration: Restoration = self.network(image)
        restored = restoration.fused if self.task is None else restoration.tasks[self.task]
        return restored.float()


class Traits:
    """How far a network looks, whether it pools over the image and what memory it needs; each found once.

    Args:
        network: (B, 3, H, W) -> the same, in evaluation mode.
        multiple: what sides of images must be multiples of.
    """

    def __init__(self, network: nn.Module, multiple: int):
        self.network, self.multiple = network, multiple

    @cached_property
    def radius(self) -> int:
        """Pixels; see `manas.inference.receptive`."""
        return receptive_radius(self.network, self.multiple)

    @cached_property
    def depth(self) -> int:
        """How many layers that pool over the whole image lie behind one another at most; 0 where none does."""
        smallest = torch.zeros(1, 3, self.multiple, self.multiple, device=self._device)
        try:
            with torch.no_grad():
                return pooling_depth(self.network, smallest)
        except NotFiniteError as error:
            raise ManasError("the network's features are not finite: check the weights of the model") from error

    @cached_property
    def bytes_a_pixel(self) -> int:
        """See `manas.inference.footprint`."""
        return bytes_a_pixel(self.network, self.multiple)

    @property
    def _device(self) -> torch.device:
        return next((weight.device for weight in self.network.parameters()), torch.device("cpu"))
