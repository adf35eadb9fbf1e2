"""The two steps of a bilevel search: weights on one part of the backgrounds, alphas on the other.

    min_alpha L(w*(alpha), alpha; held part)   with   w*(alpha) = argmin_w L(w, alpha; kept part)

First order (DARTS, Liu et al., ICLR 2019): w*(alpha) is taken to be the current w. Gradients are asked for one
group of parameters alone, so the other costs nothing and keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manas.training.distributed import Process, laid_out_as
from manas.training.optimiser import Descent


def descend(loss: Tensor, parameters: Sequence[nn.Parameter], descent: Descent, process: Process) -> Tensor:
    """One step of one group of parameters on a loss; returns the norm of the averaged gradient.

    Neither DistributedDataParallel nor `requires_grad` flips: together they answer a search with errors or
    with silently different gradients.
    """
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    averaged = process.average(gradients, parameters)
    for parameter, gradient in zip(parameters, averaged, strict=True):
        parameter.grad = None if gradient is None else laid_out_as(parameter, gradient)
    return descent.step()
