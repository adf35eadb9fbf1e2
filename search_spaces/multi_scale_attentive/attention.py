"""The searchable attention module of MANAS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manas.architecture.decide import Decide
from manas.restoration.unit_start import BRANCH
from search_spaces.layers import Norm, convolution
from search_spaces.multi_scale_attentive.gates import GATES, ChannelGate, Constant, Pooled

EDGE_REDUCTION = 4
OUTPUT_REDUCTION = 16


class Attention(nn.Module):
    """Attention over K channel groups F_0..F_{K-1}, with a fork on each of its K (K + 1) / 2 edges.

    U_0 = o_{0,0}(F_0),  U_k = o_{k,0}(F_k) + sum_{j=1..k} o_{k,j}(U_{j-1})                (MANAS eq. 2)
    G = SE_4(sum_k F_k)                                                        (as the released code has it)
    Z = norm(W_2 relu(norm(W_1 [U_0; ..; U_{K-1}; G]))),  out = SE_16(Z + F)
    """

    def __init__(
        self, channels: int, groups: int, gates: Sequence[str], norm: Norm, decide: Decide, label: str
    ):
        super().__init__()
        width = channels // groups
        candidates = {name: partial(GATES[name], width, EDGE_REDUCTION, norm) for name in gates}
        zero = "none" if "none" in gates else None
        self.groups = groups
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                decide(f"{label}/node{k}/{source}", candidates, node=zero and f"{label}/node{k}", zero=zero)
                for source in ("input", *(f"node{j}" for j in range(k)))
            )
            for k in range(groups)
        )
        self.whole = ChannelGate(width, EDGE_REDUCTION)
        self.merge = nn.Sequential(
            convolution(norm, (groups + 1) * width, channels, 1),
            convolution(norm, channels, channels, 1, relu=False, gain=BRANCH),
        )
        self.output = ChannelGate(channels, OUTPUT_REDUCTION)

    def forward(self, x: Tensor) -> Tensor:
        # Copies, which several operations read faster than slices of channels_last memory.
        parts = [part.clone() for part in x.chunk(self.groups, 1)]  # K of (B, C / K, H, W)
        nodes: list[Tensor] = []
        for part, edges in zip(parts, self.nodes, strict=True):
            sources = [part, *nodes]
            nodes.append(_node(sources, list(edges.children())))
        total = sum(parts[1:], parts[0])
        merged = self.merge(torch.cat([*nodes, _gated(total, self.whole)], 1))
        return _gated(merged + x, self.output)


def _node(sources: Sequence[Tensor], gates: Sequence[nn.Module]) -> Tensor:
    """The sum of the gated sources, without those whose gate was found to be `none`."""
    open_ = [pair for pair in zip(sources, gates, strict=True) if not _is(pair[1], 0)]
    if not open_:
        return torch.zeros_like(sources[0])
    gated = [_gated(source, gate) for source, gate in open_]
    return sum(gated[1:], gated[0])


def _gated(x: Tensor, gate: nn.Module) -> Tensor:
    return x if _is(gate, 1) else x * gate(Pooled(x))


def _is(gate: nn.Module, value: float) -> bool:
    return isinstance(gate, Constant) and gate.value == value
