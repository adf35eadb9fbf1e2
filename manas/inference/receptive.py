"""The receptive radius of a network, measured on the network itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from manas.errors import ManasError
from manas.inference.tiling import rounded_up
from manas.restoration.pooling import Kind, pooled_by

FIRST_SIDE = 1024  # pixels; a layer that reaches over more than half of it would be missed
LARGEST_SIDE = 16384


def receptive_radius(network: nn.Module, multiple: int) -> int:
    """The largest distance in pixels at which an input pixel changes an output pixel, global pooling apart.

    Of windows over which layers pool locally the widest counts, once: through several behind one another a
    pixel reaches further, and changes next to nothing there.

    One pixel of a strip is NaN, and the network looks as far as NaN spreads: with any weights, through stitches
    and fusion, and for the genotype that it has. Networks whose scales halve the image look further from some
    pixels than from others, so `multiple` pixels in a row are tried.

    Args:
        network: maps (B, 3, H, W) to the same shape; in evaluation mode.
        multiple: sides of images must be multiples of this.

    Raises:
        ManasError: if the network looks at the whole image, so that a layer in it pools without
            `manas.restoration.pooling`.
    """
    network = copy.deepcopy(network).cpu().float()  # not every device keeps NaN through every operation
    # NaN of the weights themselves would look like an infinite reach.
    with torch.no_grad():
        if not network(torch.full((1, 3, multiple, multiple), 0.5)).isfinite().all():
            raise ManasError("the network's output is not finite: check the weights of the model")
    side = FIRST_SIDE
    while side <= LARGEST_SIDE:
        windows = _Windows(side)
        reach = max(_reach(network, multiple, side, windows, upright=upright) for upright in (False, True))
        if reach < side // 2 - multiple:
            return reach + windows.reach
        side *= 2
    raise ManasError(
        "a pixel of the network's output depends on all of the image: restore it whole, or let its layers pool "
        "by manas.restoration.pooling"
    )


@torch.inference_mode()
def _reach(network: nn.Module, multiple: int, side: int, windows: _Windows, *, upright: bool) -> int:
    """The furthest that NaN spreads along a strip from one pixel; each of the pixels has its own sample."""
    places = torch.arange(multiple) + side // 2 // multiple * multiple
    strip = torch.full((multiple, 3, multiple, rounded_up(side, multiple)), 0.5)
    strip[torch.arange(multiple), :, :, places] = torch.nan
    image = strip.mT.contiguous() if upright else strip
    with pooled_by(_nothing, windows):
        restored = network(image)
    spread = (restored.mT if upright else restored).isnan().any(1).any(1)  # (multiple, W)
    distance = (torch.arange(strip.shape[-1]) - places[:, None]).abs()
    return int((distance * spread).max())


class _Windows:
    """A local pooling that does not look at the image, and remembers how far the widest window reaches."""

    def __init__(self, side: int):
        self.side, self.reach = side, 0

    def __call__(self, x: Tensor, cell: int, around: int) -> Tensor:
        scale = round(self.side / max(x.shape[2:]))
        # Half a cell further, since means are interpolated between the middles of cells.
        self.reach = max(self.reach, scale * cell * (around + 1) + scale * cell // 2)
        return x.new_zeros(*x.shape[:2], x.shape[2] // cell, x.shape[3] // cell)


def _nothing(x: Tensor, kind: Kind) -> Tensor:
    """A pooling that does not look at the image."""
    return x.new_zeros(x.shape[:2])
