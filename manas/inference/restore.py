"""Restorer: images in, restored images out, from one model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from manas.architecture.space import SearchSpace
from manas.data.images import to_array, to_tensor
from manas.device import DeviceName, pick_device, place
from manas.errors import ManasError, nearest
from manas.inference.tiling import restore_tiled, restore_whole
from manas.restoration.model_file import ModelDescription, load_model
from manas.restoration.network import Restoration, size_multiple_of, tasks_of

Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)


class Restorer:
    """A trained restoration network, ready to be called with images of any size.

    Attributes:
        network: the network of the model file, in evaluation mode.
        description: what the model file says about it.
    """

    def __init__(
        self,
        network: nn.Module,
        description: ModelDescription,
        *,
        device: DeviceName = "auto",
        task: str | None = None,
        tile: int | None = None,
        halo: int = 64,
    ):
        """See `load`."""
        self.description = description
        self.network = place(network.eval(), pick_device(device))
        self.task, self.tile, self.halo = task, tile, halo
        tasks = tasks_of(description.genotype.space)
        if task is not None and task not in tasks:
            raise ManasError(f"the model has no tower for {task!r}; {nearest(task, tasks)}")

    @classmethod
    def load(cls, path: str | Path, *, space: type[SearchSpace] | None = None, **options: Any) -> Restorer:
        """The restorer of a model file.

        Args:
            path: ``model.safetensors``, as `manas.retrain` writes it.
            space: the class of a space that no entry point names.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            task: the tower whose output is taken; None takes the fused, blind one.
            tile: side of the tiles in pixels for images that do not fit into memory; None restores whole.
            halo: context around a tile in pixels. Tiles are exact where it covers the receptive radius and
                the network pools nothing globally; channel attention pools globally.

        Raises:
            ManasError: for a file that is no model, an unknown task, or a device that is not there.
        """
        network, description = load_model(path, space=space)
        return cls(network, description, **options)

    def __call__(self, picture: Picture) -> Picture:
        """The restored picture, of the type that was given.

        Args:
            picture: a PIL image; an array (H, W, 3), uint8 or float in [0, 1]; or a tensor (3, H, W) or
                (B, 3, H, W), float in [0, 1].

        Raises:
            ManasError: for anything else.
        """
        if isinstance(picture, Image.Image):
            return Image.fromarray(self(np.asarray(picture.convert("RGB"))))
        if isinstance(picture, np.ndarray):
            return self._array(picture)
        if isinstance(picture, Tensor) and picture.ndim in (3, 4) and picture.is_floating_point():
            return self._tensor(picture)
        raise ManasError(f"cannot restore a {type(picture).__name__}; give a PIL image, array or float tensor")

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.shape[-3] != 3:
            raise ManasError(f"cannot restore a tensor of shape {tuple(tensor.shape)}; give (B, 3, H, W)")
        batch = tensor if tensor.ndim == 4 else tensor[None]
        return self._restored(batch.float()).reshape(tensor.shape).to(tensor)

    def _array(self, array: np.ndarray) -> np.ndarray:
        if array.ndim != 3 or array.shape[2] != 3 or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
            raise ManasError(
                f"cannot restore an array {array.shape} of {array.dtype}; give (H, W, 3), uint8 or float"
            )
        if array.dtype == np.uint8:
            return to_array(self._restored(to_tensor(array)[None])[0])
        batch = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]
        return self._restored(batch)[0].permute(1, 2, 0).numpy().astype(array.dtype)

    def _restored(self, batch: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1]"""
        multiple = size_multiple_of(self.network)
        if self.tile is None:
            restored = restore_whole(_Single(self.network, self.task), batch, multiple)
        else:
            restored = restore_tiled(_Single(self.network, self.task), batch, multiple, self.tile, self.halo)
        return restored.clamp(0, 1)


class _Single(nn.Module):
    """One image out of a network that gives several: the fused one, or that of one task."""

    def __init__(self, network: nn.Module, task: str | None):
        super().__init__()
        self.network, self.task = network, task

    def forward(self, image: Tensor) -> Tensor:
        restoration: Restoration = self.network(image)
        return restoration.fused if self.task is None else restoration.tasks[self.task]
