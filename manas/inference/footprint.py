"""The memory that a network needs for an image, and the memory that a device has for it."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from manas.inference.tiling import rounded_up

CPU_MEMORY = 3 * 2**29  # bytes for one image on the CPU
GPU_SHARE = 0.5  # share of the free memory
SIDE = 128  # pixels; large enough for borders not to matter


def bytes_a_pixel(network: nn.Module, multiple: int) -> int:
    """The most bytes that are alive at once in a forward pass without gradients, for each pixel of the image.

    The bytes are counted in float32 on the CPU, on a small image: for the first operation on its meta device
    torch imports its compiler, which takes it a second. The count does not include the workspace of an
    operation, such as that of a convolution.
    """
    side = rounded_up(SIDE, multiple)
    shadow = copy.deepcopy(network).to("cpu", torch.float32)
    image = torch.zeros((1, 3, side, side))
    with torch.no_grad(), _Alive() as alive:
        shadow(image)
    return -(-alive.most // (side * side))


def memory_for(device: torch.device) -> int:
    """The bytes that one image may take on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * GPU_SHARE)
    return CPU_MEMORY


class _Alive(TorchDispatchMode):
    """Counts the bytes of the storages that operations have made and that something still refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self.seen: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler at the first operation, to say that it is not wanted."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return output

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # views have storage objects of their own, and share this address
        if key in self.seen:
            return
        self.seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size
