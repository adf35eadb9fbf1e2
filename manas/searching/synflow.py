"""SynFlow: a score of an untrained network that sees no image (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from manas.cost.counting import InputShape
from manas.restoration.network import Restoration


def synflow(network: nn.Module, shape: InputShape) -> float:
    """The sum of |w dR/dw| over all weights, where R is the sum of the outputs for an image of ones.

    All weights are taken by their magnitude, and normalisation is at rest (Abdelfattah et al., ICLR 2021). A
    layer whose weights all begin as zeros, such as the last one of a residual, would make every score zero; its
    weights count as ones.

    Args:
        network: with fresh weights; it stays as it is.
        shape: channels, height and width of the image.
    """
    network = copy.deepcopy(network).cpu().double().eval()  # products of many layers leave the range of float32
    weights = list(network.parameters())
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
            if weight.dim() > 1 and not weight.any():
                weight.fill_(1.0)
    output = Restoration.of(network(torch.ones(1, *shape, dtype=torch.float64))).fused.sum()
    gradients = torch.autograd.grad(output, weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    return sum(float((weight.detach() * g).abs().sum()) for weight, g in pairs if g is not None)
