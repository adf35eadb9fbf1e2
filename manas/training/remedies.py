"""Other ways to run a layer whose kernel is wrong; each gives that one layer another `forward`.

`forward` is bound as a method, so that a copy of the layer (in the moving average) runs on its own weights.
Names, weights and hooks stay as they are.
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
    """Makes a layer run in float32 and return the type that it would return under autocast."""
    layer.forward = MethodType(partial(_in_float32, kind.result), layer)


def _in_float32(result: torch.dtype, layer: nn.Module, x: Tensor) -> Tensor:
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return type(layer).forward(layer, x)
    with torch.autocast(kind, enabled=False):
        return type(layer).forward(layer, x.float()).to(result)


def run_contiguous(layer: nn.Module, kind: Kind) -> None:
    """Makes a layer run on contiguous input and weights and return the memory format of its input."""
    for weight in layer.parameters():
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)
    layer.forward = MethodType(_contiguous, layer)


def _contiguous(layer: nn.Module, x: Tensor) -> Tensor:
    y = type(layer).forward(layer, x.contiguous())
    is_last = x.ndim == 4 and x.stride(1) == 1
    return y.contiguous(memory_format=torch.channels_last) if is_last else y


REMEDIES: Mapping[str, Remedy] = {"float32": run_in_float32, "contiguous memory": run_contiguous}
