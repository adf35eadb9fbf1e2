"""Other ways to run a layer whose kernel is wrong; each binds a `forward` of its own to the one layer.

A copy of such a layer (the moving average) is bound to itself, and names, weights and hooks are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType

import torch
from torch import Tensor, nn

from manas.training.probes import Kind

Remedy = Callable[[nn.Module, Kind], None]


def run_in_float32(layer: nn.Module, kind: Kind) -> None:
    """Autocast is off inside the layer; it gives the type that the network is used to."""
    layer.forward = MethodType(partial(_in_float32, kind.result), layer)


def _in_float32(result: torch.dtype, layer: nn.Module, x: Tensor) -> Tensor:
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return type(layer).forward(layer, x)
    with torch.autocast(kind, enabled=False):
        return type(layer).forward(layer, x.float()).to(result)


def run_contiguous(layer: nn.Module, kind: Kind) -> None:
    """Input and weights are contiguous inside the layer; it gives the memory format that it is given."""
    for weight in layer.parameters():
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)
    layer.forward = MethodType(_contiguous, layer)


def _contiguous(layer: nn.Module, x: Tensor) -> Tensor:
    y = type(layer).forward(layer, x.contiguous())
    is_last = x.ndim == 4 and x.stride(1) == 1
    return y.contiguous(memory_format=torch.channels_last) if is_last else y


REMEDIES: Mapping[str, Remedy] = {"float32": run_in_float32, "contiguous memory": run_contiguous}
