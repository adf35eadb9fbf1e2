"""The sharpness of the loss in the alphas: the dominant eigenvalue of its Hessian (Zela et al., ICLR 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

BASIS = 10  # vectors that the Lanczos iteration keeps

Product = Callable[[np.ndarray], np.ndarray]


def dominant_eigenvalue(
    loss: Tensor,
    alphas: Sequence[nn.Parameter],
    *,
    tolerance: float = 0.01,
    restarts: int = 10,
    each_product: Callable[[], None] = lambda: None,
) -> float:
    """The largest eigenvalue of the Hessian of a loss with respect to the alphas (Zela et al., ICLR 2020).

    The eigenvalue is the largest in algebraic order, not in magnitude. A constant that is added to all alphas
    of a softmax changes nothing, so the eigenvalue of a supernet relaxed by softmax is at least zero. The graph
    of the loss stays usable, and `.grad` is not touched.

    Args:
        loss: scalar; its gradient is built with a graph of its own, about twice the memory of an alpha step.
        alphas: all alphas; alphas that the loss does not depend on count as rows of zeros.
        tolerance: error, as a share of the size of the Hessian.
        restarts: the most restarts of the Lanczos iteration, each of at most `BASIS` Hessian-vector products.
        each_product: called with every Hessian-vector product.

    Returns:
        The eigenvalue; 0 if the loss does not depend on the alphas, or only linearly; NaN if the Hessian is not
        finite or the iteration finds nothing.
    """
    gradients = _gradients(loss, alphas)

    def product(vector: np.ndarray) -> np.ndarray:
        each_product()
        return _hessian_product(gradients, alphas, vector).cpu().double().numpy()

    return _largest_eigenvalue(product, sum(alpha.numel() for alpha in alphas), tolerance, restarts)


def _gradients(loss: Tensor, alphas: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    """The gradients of the alphas, with a graph; None for an alpha that the loss does not depend on."""
    if not loss.requires_grad:
        return [None] * len(alphas)
    return torch.autograd.grad(loss, alphas, create_graph=True, allow_unused=True)


def _hessian_product(
    gradients: Sequence[Tensor | None], alphas: Sequence[nn.Parameter], vector: np.ndarray
) -> Tensor:
    """(n,) the derivative of the gradients along a vector (n,) over all alphas."""
    along = torch.from_numpy(vector).to(alphas[0].dtype).to(alphas[0].device)
    parts = along.split([alpha.numel() for alpha in alphas])
    pairs = [
        (gradient, part.view_as(gradient))
        for gradient, part in zip(gradients, parts, strict=True)
        if gradient is not None and gradient.requires_grad
    ]
    if not pairs:
        return torch.zeros_like(along)
    outputs, directions = zip(*pairs, strict=True)
    rows = torch.autograd.grad(outputs, alphas, directions, retain_graph=True, allow_unused=True)
    parts_of_sum = (torch.zeros_like(a) if r is None else r for r, a in zip(rows, alphas, strict=True))
    return torch.cat([part.reshape(-1) for part in parts_of_sum])


def _largest_eigenvalue(product: Product, size: int, tolerance: float, restarts: int) -> float:
    """The largest eigenvalue by ARPACK, found on the matrix plus a multiple of the identity.

    The multiple is twice the length of the first product. The tolerance is then a share of the size of the
    matrix: as a share of the eigenvalue, which for a relaxed supernet is often near zero, it could not be met.
    """
    rng = np.random.default_rng(size)
    start = rng.standard_normal(size)  # not ones, which are in the null space of every softmax
    start /= np.linalg.norm(start)
    first = product(start)
    shift = 2 * float(np.linalg.norm(first))
    if not math.isfinite(shift):
        return math.nan
    if size == 1 or not shift:  # ARPACK takes no matrix of one row, and a zero matrix has no direction
        return float(first @ start)

    def shifted_product(vector: np.ndarray) -> np.ndarray:
        image = product(vector)
        if not np.isfinite(image).all():
            raise FloatingPointError
        return image + shift * vector

    operator = LinearOperator((size, size), matvec=shifted_product, dtype=np.float64)
    options = {"k": 1, "ncv": min(size, BASIS), "which": "LA", "v0": start, "rng": rng}
    try:
        values = eigsh(operator, tol=tolerance, maxiter=restarts, return_eigenvectors=False, **options)
    except ArpackNoConvergence as error:
        values = error.eigenvalues
    except FloatingPointError:
        values = []
    return float(values[0]) - shift if len(values) else math.nan
