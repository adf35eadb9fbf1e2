"""The gradients of a search: weights on one part of the backgrounds, alphas on the other.

    min_alpha L(w*(alpha), alpha; held part)   with   w*(alpha) = argmin_w L(w, alpha; kept part)

First order (DARTS, Liu et al., ICLR 2019): w*(alpha) is taken to be the current w. Second order (eq. 6 there):
w*(alpha) is w after one more step of its optimiser, which is differentiated exactly, not by finite differences.

Gradients are asked for one group of parameters alone, so the other group costs nothing and keeps its own; but
for both at once where one pass serves both (`order: single`).
Neither DistributedDataParallel nor switching `requires_grad` is used: together they answer a search with errors
or with silently different gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from manas.architecture.recomputation import RestingBuffers
from manas.training.distributed import Process, laid_out_as
from manas.training.optimiser import Descent, after_step
from manas.training.step import Terms

Part = TypeVar("Part")
Gradients = list[Tensor | None]
Forward = Callable[..., Tensor]
Loss = tuple[Tensor, Terms]  # the value, and its terms for the logs


def first_order(
    loss: Callable[[Part], Loss], parts: Sequence[Part], parameters: Sequence[nn.Parameter]
) -> tuple[Gradients, Terms]:
    """The gradient of the mean loss over parts of one size, and the means of its terms.

    Each part has a graph of its own, which is freed before the next, so that the memory is that of one part.
    """
    sums: Gradients = [None] * len(parameters)
    history: list[Terms] = []
    for part in parts:
        value, terms = loss(part)
        history.append(terms)
        if not value.requires_grad:  # a sampled path may use none of the parameters
            continue
        gradients = torch.autograd.grad(value / len(parts), parameters, allow_unused=True)
        sums = [added(total, g) for total, g in zip(sums, gradients, strict=True)]
    return sums, {name: torch.stack([terms[name] for terms in history]).mean() for name in history[-1]}


def second_order(
    network: nn.Module,
    optimiser: Optimizer,
    alphas: Sequence[nn.Parameter],
    kept_loss: Callable[[Forward], Loss],
    held_loss: Callable[[Forward], Loss],
    process: Process,
) -> tuple[Gradients, Terms]:
    """The gradient of L(w', alpha; held) in alpha, where w' is w after one step on L(w, alpha; kept).

    With g = dL(w, alpha; kept)/dw, w' = U(g) the optimiser's step, and v = dL(w', alpha; held)/dw':

        dL(w', alpha; held)/dalpha  +  (dg/dalpha)^T (dU/dg)^T v

    g and v are averaged over the processes. The result is the gradient of this process, to be averaged like
    every other. The terms are those of the held loss.

    The held loss is that of w' with the buffers from before the look-ahead. Running statistics then depend on
    no alpha, so the gradient is the derivative of the whole function by them, too.

    Args:
        optimiser: the optimiser of the weights; neither it, nor the weights, nor the buffers are changed.
        kept_loss, held_loss: the loss on a batch of a part, given the network as a function.
    """
    names, weights = _named_weights(network, optimiser)

    def with_weights(values: Sequence[Tensor]) -> Forward:
        state = dict(zip(names, values, strict=True))
        return lambda images, **options: functional_call(network, state, (images,), options)

    with RestingBuffers(network):
        value, _ = kept_loss(network)
        own = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True)
    # The chain is cut at the mean gradient and at the new weights: an average over processes has no graph,
    # so each link is differentiated by itself, and v is averaged in between.
    mean = [None if g is None else g.detach().requires_grad_() for g in process.average(own, weights)]
    next_weights = after_step(optimiser, weights, mean)
    leaves = [w.detach().requires_grad_() for w in next_weights]
    with RestingBuffers(network):
        value, terms = held_loss(with_weights(leaves))
        held = torch.autograd.grad(value, [*leaves, *alphas], allow_unused=True)
    direct, v = held[len(leaves) :], process.average(held[: len(leaves)], leaves)
    towards = _pull_back(next_weights, mean, v)
    pairs = [(g, t) for g, t in zip(own, towards, strict=True) if g is not None and t is not None]
    pairs = [(g, t) for g, t in pairs if g.requires_grad]  # where the loss is linear, its gradient is constant
    outputs, along = [g for g, _ in pairs], [laid_out_as(g, t) for g, t in pairs]
    through = torch.autograd.grad(outputs, alphas, along, allow_unused=True)
    return [added(a, b) for a, b in zip(direct, through, strict=True)], terms


def descend(gradients: Sequence[Tensor | None], descent: Descent, process: Process) -> Tensor:
    """Takes one step along the gradients, averaged over the processes; returns the norm of the average."""
    means = process.average(gradients, descent.parameters)
    for parameter, gradient in zip(descent.parameters, means, strict=True):
        parameter.grad = None if gradient is None else laid_out_as(parameter, gradient)
    return descent.step()


def _named_weights(network: nn.Module, optimiser: Optimizer) -> tuple[list[str], list[nn.Parameter]]:
    own = {id(p) for group in optimiser.param_groups for p in group["params"]}
    pairs = [(name, p) for name, p in network.named_parameters() if id(p) in own]
    return [name for name, _ in pairs], [p for _, p in pairs]


def _pull_back(next_weights: Sequence[Tensor], gradients: Gradients, v: Gradients) -> Gradients:
    """(dU/dg)^T v for each weight; None for weights that took no part."""
    triples = zip(next_weights, gradients, v, strict=True)
    return [
        None if g is None or each is None else torch.autograd.grad(w, g, laid_out_as(w, each))[0]
        for w, g, each in triples
    ]


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two gradients, either of which may be None."""
    return a if b is None else b if a is None else a + b
