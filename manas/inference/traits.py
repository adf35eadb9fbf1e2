"""The traits of a network that restoring large images depends on, measured on the network itself."""

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
    """A network with one output: the fused restoration, or that of one task."""

    def __init__(self, network: nn.Module, task: str | None):
        super().__init__()
        self.network, self.task = network, task

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (B, 3, H, W) to restored ones, which are float32 under autocast, too."""
        restoration: Restoration = self.network(image)
        restored = restoration.fused if self.task is None else restoration.tasks[self.task]
        return restored.float()


class Traits:
    """The receptive radius, the depth of global pooling and the memory of a network, each measured once.

    Args:
        network: maps (B, 3, H, W) to the same shape; in evaluation mode.
        multiple: sides of images must be multiples of this.
    """

    def __init__(self, network: nn.Module, multiple: int):
        self.network, self.multiple = network, multiple

    @cached_property
    def radius(self) -> int:
        """The receptive radius in pixels; see `manas.inference.receptive`."""
        return receptive_radius(self.network, self.multiple)

    @cached_property
    def depth(self) -> int:
        """The largest number of layers behind one another that pool over the whole image; 0 if none does."""
        smallest = torch.zeros(1, 3, self.multiple, self.multiple, device=self._device)
        try:
            with torch.no_grad():
                return pooling_depth(self.network, smallest)
        except NotFiniteError as error:
            raise ManasError("the network's features are not finite: check the weights of the model") from error

    @cached_property
    def bytes_a_pixel(self) -> int:
        """The bytes of memory for each pixel of an image; see `manas.inference.footprint`."""
        return bytes_a_pixel(self.network, self.multiple)

    @property
    def _device(self) -> torch.device:
        return next((weight.device for weight in self.network.parameters()), torch.device("cpu"))
