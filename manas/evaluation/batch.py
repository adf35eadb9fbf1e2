"""Arrays of pictures as the batch that is scored, and the checks that it can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from manas.errors import ManasError


def as_batch(
    pictures: Sequence[np.ndarray], reference: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Arrays (H, W, 3), uint8, and their reference as what `Protocol.measure_batch` takes, on a device.

    Raises:
        ManasError: unless all are that, and of one size.
    """
    for picture in pictures:
        _check_pair(picture, reference)
    return torch.stack([as_tensor(each) for each in pictures]).to(device), as_tensor(reference).to(device)


def as_tensor(picture: np.ndarray) -> Tensor:
    """An array (H, W, 3) as a tensor (3, H, W), a copy."""
    return torch.from_numpy(np.array(picture.transpose(2, 0, 1), order="C"))


def check_batch(restored: Tensor, reference: Tensor) -> None:
    """Raises a ManasError unless both are uint8 (N, 3, H, W), or the reference is one (3, H, W)."""
    fits = restored.ndim == 4 and reference.shape in (restored.shape, restored.shape[1:])
    if not fits or restored.shape[1] != 3 or {restored.dtype, reference.dtype} != {torch.uint8}:
        raise ManasError(
            f"a batch is scored against references of its shape, uint8 (N, 3, H, W), or one (3, H, W); got "
            f"{restored.dtype} {tuple(restored.shape)} and {reference.dtype} {tuple(reference.shape)}"
        )


def _check_pair(restored: np.ndarray, reference: np.ndarray) -> None:
    for name, image in (("restored", restored), ("reference", reference)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ManasError(
                f"the {name} image must be uint8 of shape (H, W, 3), got {image.dtype} {image.shape}: "
                "read both with read_image"
            )
    if restored.shape != reference.shape:
        raise ManasError(
            f"the restored image is {restored.shape[1]} x {restored.shape[0]} pixels and its reference "
            f"{reference.shape[1]} x {reference.shape[0]}: compare images of one size, resize neither"
        )
