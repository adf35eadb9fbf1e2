"""Images of any size through a network: padded to its multiple, whole or in tiles.

Tiles are stitched by keeping only their cores. Averaging overlapping tiles leaves the error of their borders
in the result; a core that lies a receptive radius inside its tile is exactly what the whole image gives.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from manas.errors import ManasError

Network = Callable[[Tensor], Tensor]


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pads bottom and right by reflection until both sides are multiples: (B, C, H, W) -> (B, C, H', W').

    Any size down to 1 x 1: reflections repeat where the padding is wider than the image. The indices are
    arithmetic on the sizes, without a branch, so that `torch.export` traces it with dynamic sizes.
    """
    height, width = image.shape[-2:]
    rows = _reflected(height, multiple, image.device)
    columns = _reflected(width, multiple, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def crop_to(image: Tensor, height: int, width: int) -> Tensor:
    """The top left (B, C, height, width), as a slice would give it, where `torch.export` traces the sizes.

    A traced slice asks whether it is the whole, and so ties the sizes to the remainder seen while tracing.
    """
    rows, columns = (torch.arange(side, device=image.device) for side in (height, width))
    return image.index_select(-2, rows).index_select(-1, columns)


def _reflected(side: int, multiple: int, device: torch.device) -> Tensor:
    """0, 1, ..., side - 1, side - 2, ..., continued up to the next multiple."""
    period = torch.sym_max(2 * (side - 1), 1)
    position = torch.arange((side + multiple - 1) // multiple * multiple, device=device) % period
    return torch.minimum(position, period - position)


@torch.no_grad()
def restore_whole(network: Network, image: Tensor, multiple: int) -> Tensor:
    """Runs (B, 3, H, W) at once, padded to `multiple` and cropped back, on the network's device.

    The result has the shape, type and device of the image.
    """
    _check_image(image)
    _check_at_least(1, multiple=multiple)
    height, width = image.shape[-2:]
    padded = pad_to_multiple(image.to(_device_of(network, image)), multiple)
    return crop_to(_run(network, padded), height, width).to(image)


@torch.no_grad()
def restore_tiled(network: Network, image: Tensor, multiple: int, tile: int, halo: int) -> Tensor:
    """Runs (B, 3, H, W) in tiles of `tile` x `tile` kept pixels, each with `halo` more on every inner side.

    Both are rounded up to `multiple`, so that every tile starts where the network's scales start. Equal to
    `restore_whole` for a network whose receptive radius the halo covers and that pools nothing globally.
    The image stays where it is; one tile at a time goes to the network's device. The result has the shape,
    type and device of the image.
    """
    _check_image(image)
    _check_at_least(1, multiple=multiple, tile=tile)
    _check_at_least(0, halo=halo)
    padded = pad_to_multiple(image, multiple)  # before cutting: every tile sees the borders of the whole
    device = _device_of(network, image)
    restored = torch.empty_like(image)
    height, width = image.shape[-2:]
    for rows in _spans(height, padded.shape[-2], multiple, tile, halo):
        for columns in _spans(width, padded.shape[-1], multiple, tile, halo):
            result = _run(network, padded[..., rows.run, columns.run].to(device))
            restored[..., rows.kept, columns.kept] = result[..., rows.core, columns.core].to(image)
    return restored


class _Span(NamedTuple):
    """One tile along one side: what is run, which part of that is the core, where the core belongs."""

    run: slice
    core: slice
    kept: slice


def _spans(side: int, padded_side: int, multiple: int, tile: int, halo: int) -> Iterator[_Span]:
    tile, halo = _rounded_up(tile, multiple), _rounded_up(halo, multiple)
    for start in range(0, side, tile):
        stop = min(start + tile, side)
        first, last = max(start - halo, 0), min(start + tile + halo, padded_side)
        yield _Span(slice(first, last), slice(start - first, stop - first), slice(start, stop))


def _rounded_up(value: int, multiple: int) -> int:
    return (value + multiple - 1) // multiple * multiple


def _run(network: Network, image: Tensor) -> Tensor:
    restored = network(image)
    if restored.shape != image.shape:
        raise ManasError(
            f"the network turned {tuple(image.shape)} into {tuple(restored.shape)}: "
            "restoring needs a network that keeps the shape"
        )
    return restored


def _device_of(network: Network, image: Tensor) -> torch.device:
    """Where the weights are; a network without weights runs where the image is."""
    weights = network.parameters() if isinstance(network, nn.Module) else iter(())
    return next((weight.device for weight in weights), image.device)


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or 0 in image.shape:
        raise ManasError(f"restoring takes a batch of images (B, 3, H, W), got shape {tuple(image.shape)}")


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ManasError(f"{name} must be at least {least} pixels, got {value}: give a larger {name}")
