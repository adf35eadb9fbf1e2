"""The device on which tensors live, and its abilities."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from manas.errors import ManasError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; ``auto`` is the first of cuda, mps and cpu that this machine has."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [kind for kind, is_there in there.items() if is_there]
    if name != "auto" and name not in available:
        raise ManasError(f"device={name} is not available here; choose auto or one of: {', '.join(available)}")
    return torch.device(available[0] if name == "auto" else name)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network to a device, its convolutions in channels_last memory, which CPUs and GPUs run faster."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def widest_float(device: torch.device) -> torch.dtype:
    """The widest floating type that `device` computes with: float64, or float32 on mps."""
    return torch.float32 if device.type == "mps" else torch.float64
