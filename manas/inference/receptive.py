"""How far a network looks: its receptive radius, measured on the network itself."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from manas.errors import ManasError
from manas.inference.tiling import rounded_up
from manas.restoration.pooling import Kind, pooled_by

FIRST_SIDE = 1024  # pixels; a layer that jumps over more than half of it would not be seen
LARGEST_SIDE = 16384


def receptive_radius(network: nn.Module, multiple: int) -> int:
    """Pixels beyond which nothing around a pixel changes what the network makes of it, global pooling apart.

    One pixel of a strip is NaN, and how far NaN spreads is how far the network looks: whatever the values of
    its weights, through stitches and fusion, and for the genotype that it has. Networks whose scales halve
    the image look further from some pixels than from others; `multiple` pixels in a row are tried.

    Args:
        network: (B, 3, H, W) -> the same, in evaluation mode.
        multiple: what sides of images must be multiples of.

    Raises:
        ManasError: if the network looks at everything, so that something in it pools other than by
            `manas.restoration.pooling`.
    """
    network = copy.deepcopy(network).cpu().float()  # not every device keeps NaN through every operation
    with torch.no_grad():
        if not network(torch.full((1, 3, multiple, multiple), 0.5)).isfinite().all():
            raise ManasError("the network's output is not finite: check the weights of the model")
    side = FIRST_SIDE
    while side <= LARGEST_SIDE:
        reach = max(_reach(network, multiple, side, upright=upright) for upright in (False, True))
        if reach < side // 2 - multiple:
            return reach
        side *= 2
    raise ManasError(
        "a pixel of the network's output depends on all of the image: restore it whole, or let its layers pool "
        "by manas.restoration.pooling"
    )


@torch.inference_mode()
def _reach(network: nn.Module, multiple: int, side: int, *, upright: bool) -> int:
    """The furthest that NaN spreads along a strip with one such pixel, for each of them in its own sample."""
    places = torch.arange(multiple) + side // 2 // multiple * multiple
    strip = torch.full((multiple, 3, multiple, rounded_up(side, multiple)), 0.5)
    strip[torch.arange(multiple), :, :, places] = torch.nan
    image = strip.mT.contiguous() if upright else strip
    with pooled_by(_nothing):
        restored = network(image)
    spread = (restored.mT if upright else restored).isnan().any(1).any(1)  # (multiple, W)
    distance = (torch.arange(strip.shape[-1]) - places[:, None]).abs()
    return int((distance * spread).max())


def _nothing(x: Tensor, kind: Kind) -> Tensor:
    """Pooling that sees nothing of the image."""
    return x.new_zeros(x.shape[:2])
