"""Activation checkpointing: memory for time, with the same result whatever happens in between."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Output = TypeVar("Output")


def recomputed(function: Callable[..., Output], inputs: Sequence[object], modules: nn.Module) -> Output:
    """`function(*inputs)`, whose intermediate results are computed again in the backward pass.

    The second run has to repeat the first, operation by operation. So inputs that are no tensors are copied as
    they are now, and for each run: what a run or somebody else caches in them (pooled statistics, say) must
    not be there in the second. And it has the weights and the mode of the first; see `AsNow`.

    Args:
        modules: those that `function` runs; their running statistics move in the first run alone.
    """
    given = [each if isinstance(each, Tensor) else copy.copy(each) for each in inputs]

    def run(*given: object) -> Output:
        return function(*(each if isinstance(each, Tensor) else copy.copy(each) for each in given))

    return checkpoint(run, *given, use_reentrant=False, context_fn=lambda: (nullcontext(), AsNow(modules)))


class RestingBuffers:
    """What is run in the ``with`` block moves copies of the buffers; running statistics stay as they are.

    May be entered again and again, also inside itself.
    """

    def __init__(self, network: nn.Module):
        self.modules = list(network.modules())
        self._before: list[list[dict[str, Tensor | None]]] = []

    def __enter__(self) -> None:
        self._before.append([dict(module._buffers) for module in self.modules])
        for module in self.modules:
            module._buffers.update(_copied(module._buffers))

    def __exit__(self, *_: object) -> None:
        for module, buffers in zip(self.modules, self._before.pop(), strict=True):
            module._buffers.update(buffers)


class AsNow(RestingBuffers):
    """In the ``with`` block a network has the weights, buffers and mode that it had when this was made.

    The weights may be those that `torch.func.functional_call` has lent it.
    """

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self.now = [_state(module) for module in self.modules]
        self._others: list[list[tuple]] = []

    def __enter__(self) -> None:
        super().__enter__()
        self._others.append([_state(module) for module in self.modules])
        for module, (training, weights, buffers) in zip(self.modules, self.now, strict=True):
            module.training = training
            module._parameters.update(weights)
            module._buffers.update(_copied(buffers))

    def __exit__(self, *error: object) -> None:
        for module, (training, weights, _) in zip(self.modules, self._others.pop(), strict=True):
            module.training = training
            module._parameters.update(weights)
        super().__exit__(*error)


def _state(module: nn.Module) -> tuple[bool, dict, dict]:
    return module.training, dict(module._parameters), dict(module._buffers)


def _copied(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}
