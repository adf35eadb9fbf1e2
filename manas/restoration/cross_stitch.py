"""Cross-stitches: linear exchange of features between towers (Misra et al., CVPR 2016).

Every stitch is a matrix over tasks, one for each stage and scale: y_i = sum_j M_ij x_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from manas.errors import ManasError
from manas.restoration.tower import Features

Granularity = Literal["none", "layer", "channel"]

SAME_TASK = 0.9  # the best of the initial values that Misra et al. compare (their Table 1)


class StitchMatrices(nn.Module):
    """The stitch matrices of one stage, a list with one tensor (T, T, 1 or C) a scale.

    `none` is the identity without parameters, `layer` has one matrix a scale, `channel` one a channel. The
    matrices begin with `start` on the diagonal and (1 - start) / (T - 1) off it, so that rows sum to one.
    """

    def __init__(
        self, tasks: int, channels: Sequence[int], granularity: Granularity, *, start: float = SAME_TASK
    ):
        super().__init__()
        self.tasks = tasks
        self.scales = len(channels)
        depth = {"none": [], "layer": [1] * len(channels), "channel": channels}[granularity]
        self.matrices = nn.ParameterList(_initial(tasks, width, start) for width in depth)
        self.register_buffer("identity", torch.eye(tasks)[:, :, None], persistent=False)

    def forward(self) -> list[Tensor]:
        return list(self.matrices) or [self.identity] * self.scales


def _initial(tasks: int, width: int, start: float) -> nn.Parameter:
    """(T, T, width), the matrices that a stitch begins with."""
    off_diagonal = (1 - start) / max(1, tasks - 1)
    matrix = torch.full((tasks, tasks), off_diagonal).fill_diagonal_(start)
    return nn.Parameter(matrix[:, :, None].repeat(1, 1, width))


def stitch(features: Sequence[Features], matrices: Sequence[Tensor]) -> list[Features]:
    """Mixes the features of T towers scale by scale.

    Args:
        features: T lists of (B, C_s, H_s, W_s), one tensor a scale.
        matrices: (T, T, 1 or C_s), one a scale.
    """
    by_scale = [
        _combine(tensors, matrix) for *tensors, matrix in zip(*features, matrices, strict=True)
    ]  # scales x T
    return [list(of_task) for of_task in zip(*by_scale, strict=True)]


def _combine(tensors: Sequence[Tensor], matrix: Tensor) -> list[Tensor]:
    """Multiplies and adds by broadcasting, which all profilers count alike, unlike an einsum."""
    rows = matrix[..., None, None].to(tensors[0].dtype).unbind()  # T of (T, 1 or C, 1, 1)
    return [sum(w * x for w, x in zip(row[1:], tensors[1:], strict=True)) + row[0] * tensors[0] for row in rows]


class StitchOptions(BaseModel):
    """The places and the initial values of the stitches.

    Attributes:
        start: initial value on the diagonal of every matrix; the other entries of a row share 1 - start. 0.9 is
            the best value that Misra et al. found. n stitches in a row multiply the difference between two
            towers by (2 start - 1)^n: 0.21 for DRN's seven stages at 0.9, but 3e-10 for its 98 blocks.
        after: the stages, from 0, that are followed by a stitch; all unless given. Misra et al. stitch after
            pooling, and not after every convolution.
        shared: whether all stitches have the same matrices, as the recursions of DRN share their weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float = Field(SAME_TASK, gt=0, le=1)
    after: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    shared: bool = False

    @field_validator("after")
    @classmethod
    def _each_once(cls, after: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if after and len(set(after)) < len(after):
            raise ManasError(f"stitches.after names a stage twice in {list(after)}; name each once")
        return after
