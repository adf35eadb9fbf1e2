"""The `Restorer`, which restores images by the network of one model file."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from manas.architecture.space import SearchSpace
from manas.data.images import upright_rgb
from manas.device import DeviceName, pick_device, place
from manas.errors import ManasError, nearest
from manas.inference.ensemble import ALL_TURNS, NO_TURN
from manas.inference.optimised import optimised
from manas.inference.pipeline import Pipeline
from manas.inference.sharing import SMALLEST_TILE, Share, affordable_share, is_lack_of_memory
from manas.inference.statistics import Gathering, NotFiniteError
from manas.inference.tiling import Tiling
from manas.inference.traits import OneOutput, Traits
from manas.models import DEFAULT
from manas.reach import Reach
from manas.restoration.model_file import ModelDescription, load_model
from manas.restoration.network import size_multiple_of, tasks_of

Form = TypeVar("Form", Image.Image, np.ndarray, Tensor)  # of a picture
Precision = Literal["auto", "float32", "bf16", "fp16"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Restorer:
    """A trained restoration network, ready to be called with images of any size, from any thread.

    Attributes:
        network: the network of the model file, in evaluation mode.
        description: the description in the model file.
        device: the device of the network.
        precision: ``float32``, ``bf16`` or ``fp16``.
    """

    def __init__(
        self,
        network: nn.Module,
        description: ModelDescription,
        *,
        device: DeviceName = "auto",
        precision: Precision = "auto",
        task: str | None = None,
        tile: int | Literal["auto"] | None = "auto",
        statistics: Gathering = "sampled",
        ensemble: bool = False,
        strength: float = 1.0,
        optimise: bool = True,
        compiled: bool = False,
    ):
        """Takes the options that `load` describes."""
        self.description = description
        self.device = pick_device(device)
        self.precision = _precision(precision, self.device)
        self.task = _task(task, tasks_of(description.genotype.space))
        self.statistics, self.strength = _checked(statistics, strength)
        self.turns = ALL_TURNS if ensemble else (NO_TURN,)
        self._multiple = size_multiple_of(network)
        self.tile = _tile(tile, self._multiple)
        self.network = place(optimised(network) if optimise else network.eval(), self.device)
        output = OneOutput(self.network, self.task)
        self._traits = Traits(output, self._multiple)
        self._run = torch.compile(output, dynamic=True) if compiled else output

    @classmethod
    def load(
        cls, path: str | Path = DEFAULT, *, space: type[SearchSpace] | None = None, **options: Any
    ) -> Restorer:
        """Makes the restorer of a model file.

        Args:
            path: ``model.safetensors``, as `manas.retrain` writes it, the run directory that holds it, or the
                name of a network that comes with the package, as the default is (`manas.models`).
            space: the class of a space that no entry point names.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            precision: ``float32``, in which GPUs convolve in TF32 unless PyTorch is told not to; ``bf16`` or
                ``fp16``, which are fast on GPUs and fall back to float32, with a warning, where the output is
                not finite; ``auto`` is bf16 on GPUs that compute with it, else float32.
            task: the tower whose output is taken; None takes the fused, blind output.
            tile: side of the tiles in pixels; None restores images whole; ``auto`` makes tiles if the whole
                image would need more memory than 1.5 GiB, or on a GPU more than half of the free memory. If
                memory runs out all the same, tiles are halved and the image is begun again.
            statistics: the statistics of the whole image that channel attention gets in tiles. ``sampled``
                takes them over nine windows of 256x256 pixels (or less, if memory is short), in one pass, the
                same for tiles of any size. ``exact`` takes them over the whole image, with a pass over the
                tiles for every pooling layer that is behind another one; the result is that of the whole image.
            ensemble: whether to average over the eight turned and mirrored versions of the image, which is
                eight times the work.
            strength: 0 leaves the image as it is, 1 is the restoration, and numbers between them mix the two.
            optimise: whether to fold normalisations into convolutions: the same function with fewer layers.
            compiled: whether `torch.compile` compiles the network, but for tiles of a network that pools over
                the image; the first image then takes a minute.

        Raises:
            ManasError: for a file that is no model, an option out of range, or a device that is not there.
        """
        network, description = load_model(path, space=space)
        return cls(network, description, **options)

    def __call__(self, picture: Form, progress: Reach | None = None) -> Form:
        """Restores a picture; the result has the type of the picture.

        Args:
            picture: a PIL image, which comes back as upright RGB of 8 bit; an array (H, W, 3), uint8, uint16
                or float in [0, 1]; or a tensor (3, H, W) or (B, 3, H, W), float in [0, 1].
            progress: called with the number of tiles that were run, and about how many there will be.

        Raises:
            ManasError: for any other picture, and if the output is not finite.
        """
        if isinstance(picture, Image.Image):
            return Image.fromarray(self(np.asarray(upright_rgb(picture)), progress))
        if isinstance(picture, np.ndarray):
            return self._array(picture, progress)
        if isinstance(picture, Tensor) and picture.ndim in (3, 4) and picture.is_floating_point():
            return self._tensor(picture, progress)
        raise ManasError(f"cannot restore a {type(picture).__name__}; give a PIL image, array or float tensor")

    def _tensor(self, tensor: Tensor, progress: Reach | None) -> Tensor:
        if tensor.shape[-3] != 3:
            raise ManasError(f"cannot restore a tensor of shape {tuple(tensor.shape)}; give (B, 3, H, W)")
        batch = tensor if tensor.ndim == 4 else tensor[None]
        return self._restore(batch, progress).reshape(tensor.shape)

    def _array(self, array: np.ndarray, progress: Reach | None) -> np.ndarray:
        is_image = array.dtype.newbyteorder("=") in (np.uint8, np.uint16) or array.dtype.kind == "f"
        if array.ndim != 3 or array.shape[2] != 3 or not is_image:
            raise ManasError(
                f"cannot restore an array {array.shape} of {array.dtype}; "
                "give (H, W, 3), uint8, uint16 or float"
            )
        image = torch.from_numpy(_readable(array)).permute(2, 0, 1)[None]
        return self._restore(image, progress)[0].permute(1, 2, 0).numpy().astype(array.dtype, copy=False)

    def _restore(self, image: Tensor, progress: Reach | None) -> Tensor:
        """Restores images (B, 3, H, W) of any type that a `Pipeline` takes."""
        share = self._share(image)
        while True:
            precision, pipeline = self.precision, self._pipeline(share)
            try:
                with _autocast(precision, self.device):
                    return pipeline(image, progress)
            except NotFiniteError:
                self._fall_back(precision)
            except RuntimeError as error:
                if not is_lack_of_memory(error):
                    raise
                share = self._halve(share, error)

    def _pipeline(self, share: Share) -> Pipeline:
        tile = share.tile
        pools = tile is not None and self._traits.depth > 0
        return Pipeline(
            self._traits.network if pools else self._run,  # a compiled network takes no statistics from outside
            self.device,
            Tiling(self._multiple, tile, 0 if tile is None else self._traits.radius),
            self.statistics if pools else None,
            self.turns,
            self.strength,
            share.at_once,
            share.window,
            self._traits.depth if pools and self.statistics == "exact" else 0,
        )

    def _share(self, image: Tensor) -> Share:
        count, height, width = len(image), *image.shape[-2:]
        if self.tile == "auto":
            return affordable_share(self._traits, self.device, count, height, width)
        return Share(count, self.tile, max(height, width))

    def _halve(self, share: Share, error: RuntimeError) -> Share:
        try:
            half = share.halved()
        except ValueError:
            raise ManasError(
                f"{self.device} has too little memory even for tiles of {SMALLEST_TILE} pixels; "
                "free some, or take another device"
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # torch keeps freed blocks, which may be too small for the next try
        return half

    def _fall_back(self, precision: str) -> None:
        """Goes from the precision in which an image has failed to float32; another thread may have done so."""
        if precision == "float32":
            raise ManasError("the restored image is not finite: check the input and the weights of the model")
        if self.precision != "float32":
            warnings.warn(f"the output in {precision} is not finite; going on in float32", stacklevel=5)
        self.precision = "float32"


def _autocast(precision: str, device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


def _precision(wanted: str, device: torch.device) -> str:
    if wanted not in ("auto", "float32", *DTYPES):
        raise ManasError(f"precision={wanted}: choose auto, float32, {' or '.join(DTYPES)}")
    if wanted == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return wanted


def _task(task: str | None, tasks: Any) -> str | None:
    if task is not None and task not in tasks:
        raise ManasError(f"the model has no tower for {task!r}; {nearest(task, tasks)}")
    return task


def _tile(tile: Any, multiple: int) -> int | Literal["auto"] | None:
    if tile in ("auto", None):
        return tile
    if not isinstance(tile, int) or isinstance(tile, bool):
        raise ManasError(f"tile={tile!r}: give auto, None, or a whole number of pixels")
    Tiling(multiple, tile)  # says what is wrong with the number
    return tile


def _checked(statistics: Gathering, strength: float) -> tuple[Gathering, float]:
    if statistics not in ("sampled", "exact"):
        raise ManasError(f"statistics={statistics}: choose sampled or exact")
    if not 0 <= strength <= 1:
        raise ManasError(f"strength={strength}: choose from 0, which leaves the image as it is, to 1")
    return statistics, strength


def _readable(array: np.ndarray) -> np.ndarray:
    """The array in a form that torch takes; a copy if it is read-only, backwards or of another float type."""
    if array.dtype.kind == "f" and array.dtype not in (np.float32, np.float64):
        return array.astype(np.float32)
    usable = array.flags.writeable and array.dtype.isnative and min(array.strides) > 0
    return array if usable else np.array(array, array.dtype.newbyteorder("="), order="C")
