"""The differences between a run in one process and a run in several, and nothing else.

Under `torchrun` every process is one rank of a group (nccl on GPUs, gloo on CPUs); a plain process is a group
of one, for which every function here does nothing. The training loops are written once, for N.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import torch
import torch.distributed as dist

# DDP and the optimisers import this module. Imported while a group exists, it keeps that group as a default of
# its functions, and gloo's threads run to the end of the interpreter, which they may abort (torch 2.13).
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from manas.device import DeviceName, pick_device
from manas.errors import ManasError

Precision = Literal["float32", "bf16"]

# DDP's option for the broadcast of buffers before every forward pass; newer versions warn about the older name.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


@dataclass(frozen=True)
class Process:
    """This process among those of a run."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and speaks to the user, which one of them does."""
        return self.rank == 0

    def share_of_data(self) -> dict[str, Any]:
        """The arguments by which `manas.data.dataset.backgrounds.Backgrounds` loads this process's share."""
        return {"rank": self.rank, "world_size": self.world_size, "pin": self.device.type == "cuda"}

    def autocast(self, precision: Precision) -> torch.autocast:
        """Returns a block of mixed precision for the forward pass; losses and metrics stay outside it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes; the tensor itself is overwritten with it."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Gives every process the tensors of the first."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def in_parallel(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are averaged over all processes; alone, it is itself.

        Every process keeps the running statistics of its own batches until `average_statistics`.
        """
        if self.world_size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # DDP would broadcast the buffers of the first process, whose batches alone would then count.
        options: dict[str, Any] = {"device_ids": devices, _SYNC_BUFFERS: False}
        return DistributedDataParallel(network, **options)

    def average_statistics(self, network: nn.Module) -> None:
        """Gives every process the mean of the floating buffers of all, each from its own batches."""
        if self.world_size > 1:
            for buffer in floating_buffers(network):
                dist.all_reduce(buffer)
                buffer.div_(self.world_size)

    def wait(self) -> None:
        """Waits until all processes have called it."""
        if self.world_size > 1:
            dist.barrier()

    def share(self, value: Any) -> Any:
        """The value of the first process."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: object) -> list:
        """The values of all processes, by rank."""
        if self.world_size == 1:
            return [value]
        values: list = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def average(self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """Averages gradients over all processes in one message; a gradient that no process has stays None.

        A parameter that a process did not use counts as zero there. A parameter that no process used keeps
        None, since a zero gradient would still move it by its momentum.
        """
        if self.world_size == 1:
            return list(gradients)
        pairs = list(zip(gradients, parameters, strict=True))
        flags = torch.tensor([float(g is not None) for g in gradients], device=self.device)
        flat = torch.cat([*((torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs), flags])
        dist.all_reduce(flat)
        *parts, counts = flat.split([*(p.numel() for p in parameters), len(pairs)])
        shaped = (laid_out_as(p, part) / self.world_size for part, p in zip(parts, parameters, strict=True))
        # Where this process used every parameter, the sums of the flags need not be waited for.
        if all(g is not None for g in gradients):
            return list(shaped)
        return [g if count else None for g, count in zip(shaped, counts.tolist(), strict=True)]


def laid_out_as(parameter: Tensor, values: Tensor) -> Tensor:
    """Returns values in the shape and the memory layout of a parameter, on which fused optimisers rely."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_like(parameter).copy_(values.view(parameter.shape))


@contextmanager
def started(device: DeviceName) -> Iterator[Process]:
    """Joins this process with the others of its run for the time of the block.

    A network that was wrapped by `Process.in_parallel` must not outlive the block.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    kind = pick_device(device)
    if world_size == 1:
        yield Process(0, 1, kind)
        return
    if kind.type == "mps":
        raise ManasError("several processes cannot share mps; set device=cpu, or start one process")
    if kind.type == "cuda":
        kind = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if kind.index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ManasError(f"no GPU for process {kind.index} of this machine; start {count} of them")
        torch.cuda.set_device(kind)
    on_gpu = kind.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", device_id=kind if on_gpu else None)
    try:
        yield Process(rank, world_size, kind)
    finally:
        gc.collect()  # a DDP that outlives the group ends gloo's threads itself, and may wait for them forever
        dist.destroy_process_group()


def floating_buffers(network: nn.Module) -> list[Tensor]:
    """The floating buffers of a network, such as running statistics, in a fixed order."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]
