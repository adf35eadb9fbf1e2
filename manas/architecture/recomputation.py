"""Activation checkpointing: memory for time, with the same result whatever happens in between."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple, TypeVar

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
    """A ``with`` block in which forward passes move copies of the buffers; running statistics stay as they are.

    Weights and mode are afterwards what they were before. May be entered again and again, also inside itself.
    """

    def __init__(self, network: nn.Module):
        self.modules = list(network.modules())
        self._before: list[list[_State]] = []

    def __enter__(self) -> None:
        self._enter(self._states())

    def __exit__(self, *_: object) -> None:
        self._put(self._before.pop())

    def _enter(self, states: list[_State]) -> None:
        self._before.append(self._states())
        self._put([state._replace(buffers=_copies(state.buffers)) for state in states])

    def _states(self) -> list[_State]:
        return [_State(m.training, dict(m._parameters), dict(m._buffers)) for m in self.modules]

    def _put(self, states: list[_State]) -> None:
        for module, state in zip(self.modules, states, strict=True):
            module.training = state.training
            module._parameters.update(state.weights)
            module._buffers.update(state.buffers)


class AsNow(RestingBuffers):
    """In the ``with`` block a network has the weights, buffers and mode that it had when this was made.

    The weights may be those that `torch.func.functional_call` has lent it.
    """

    def __init__(self, network: nn.Module):
        super().__init__(network)
        self.now = self._states()

    def __enter__(self) -> None:
        self._enter(self.now)


class _State(NamedTuple):
    """The tensors that a module runs with."""

    training: bool
    weights: dict[str, nn.Parameter | None]
    buffers: dict[str, Tensor | None]


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}
