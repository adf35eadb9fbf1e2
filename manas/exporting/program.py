"""A trained network as a `torch.export` program, a file that torch runs without this package.

The parts that every export shares stand here, too: the function that is exported, and the check of its results.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import manas
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.files import replacing
from manas.inference.restorer import Restorer
from manas.inference.tiling import crop_to, pad_to_multiple, rounded_up
from manas.inference.traits import OneOutput
from manas.restoration.network import size_multiple_of

INPUT, OUTPUT = "image", "restored"
SIDES = {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}
KEY = "manas"  # the key under which an exported file tells its origin
DESCRIPTION = f"{KEY}.json"  # the same in a program, which holds files

TOLERANCE = 1e-4  # of values in [0, 1]; rounding makes some 1e-6
TESTED = "2.13"  # the version of torch whose private names the export needs
CHECKED = ((1, 37, 53), (2, 5, 71), (3, 1, 1))  # images, height, width: odd, and less than a network's multiple


class Bare(nn.Module):
    """The network alone, which maps images (B, 3, H, W) in [0, 1] to restored ones; H, W are multiples."""

    def __init__(self, network: nn.Module, task: str | None):
        super().__init__()
        # Traced in another order of memory, a network asks for images that are wider than its padding.
        contiguous = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.output = OneOutput(contiguous, task)
        self.multiple = size_multiple_of(network)

    def forward(self, image: Tensor) -> Tensor:
        return self.output(image).clamp(0, 1)


class Exported(Bare):
    """The network with padding and cropping, for images of any size."""

    def forward(self, image: Tensor) -> Tensor:
        restored = self.output(pad_to_multiple(image, self.multiple))
        return crop_to(restored, *image.shape[-2:]).clamp(0, 1)


def export_program(
    source: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    space: type[SearchSpace] | None = None,
) -> float:
    """Writes a program that `torch.export.load` reads; an interruption leaves no incomplete file.

    The program takes images (B, 3, H, W) in [0, 1] of any size. The file ``manas.json`` in it tells its origin.

    Args:
        source: the model file, ``model.safetensors``, or the run directory that holds it.
        out: the path of the program, which ends in ``.pt2``.
        task: the tower whose output is taken; None takes the fused, blind output.
        space: the class of a space that no entry point names.

    Returns:
        The largest difference from the `Restorer` over the images of `CHECKED`.

    Raises:
        ManasError: for a file that is no model, an unknown task, a version of torch that cannot export it, or a
            program that differs by more than `TOLERANCE`.
    """
    restorer = restorer_of(source, task, space)
    with quietly(), replacing(Path(out)) as unfinished:
        torch.export.save(traced(restorer), unfinished, extra_files={DESCRIPTION: origin(restorer)})
        return require_equal(torch.export.load(unfinished).module(), restorer, out)


def restorer_of(source: str | Path, task: str | None, space: type[SearchSpace] | None) -> Restorer:
    """The restorer that an exported file must equal: of whole images, in float32, on the CPU."""
    return Restorer.load(source, space=space, task=task, device="cpu", precision="float32", tile=None)


def traced(restorer: Restorer, *, bare: bool = False) -> ExportedProgram:
    """The program of a restorer, for any number of images of any size; if bare, of multiples of the network's.

    Raises:
        ManasError: if torch lacks a private name that this needs.
    """
    multiple = size_multiple_of(restorer.network)
    example = torch.zeros(2, 3, 2 * multiple, 3 * multiple) if bare else torch.zeros(2, 3, 45, 67)
    _require(torch.fx.experimental._config, "backed_size_oblivious")
    # Without it, tracing takes features of one pixel for a case of their own, and refuses such small images.
    whole = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with whole, torch.no_grad():
        exported = (Bare if bare else Exported)(restorer.network, restorer.task).eval()
        program = torch.export.export(exported, (example,), dynamic_shapes=shapes_of(restorer, bare))
    _require(program, "_guards_code")
    program._guards_code = []  # the guards left over are guesses at the memory order of a convolution
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def shapes_of(restorer: Restorer, bare: bool) -> dict[str, dict[int, Any]]:
    """The sides of the input that are free, as torch takes them."""
    if not bare:
        return {INPUT: SIDES}
    multiple = size_multiple_of(restorer.network)
    return {INPUT: {0: SIDES[0], 2: multiple * Dim("rows", min=1), 3: multiple * Dim("columns", min=1)}}


def _require(holder: object, name: str) -> None:
    """Raises a ManasError if torch lacks a private name, as older versions do and later ones may."""
    if not hasattr(holder, name):
        raise ManasError(
            f"torch {torch.__version__} has no {name}, which export needs; it is tested with torch {TESTED}: "
            "install the version of constraints.txt"
        )


def origin(restorer: Restorer) -> str:
    """The origin of an exported file as JSON: the model's description, the versions and the task.

    The task is null for the fused, blind output.
    """
    description = restorer.description.model_dump(mode="json")
    versions = {"manas": manas.__version__, "torch": torch.__version__}
    return json.dumps(description | {"task": restorer.task, "exported_with": versions})


def require_equal(
    run: Callable[[Tensor], Tensor], restorer: Restorer, out: str | Path, *, multiple: int = 1
) -> float:
    """The largest difference between `run` and the restorer, over images of noise in the sizes of `CHECKED`.

    The sizes are rounded up to multiples of `multiple`.

    Raises:
        ManasError: if the difference is more than `TOLERANCE`, or the shapes differ.
    """
    generator = torch.Generator().manual_seed(0)
    largest = torch.zeros(())
    for images, height, width in CHECKED:
        sides = (rounded_up(side, multiple) for side in (height, width))
        image = torch.rand(images, 3, *sides, generator=generator)
        expected, output = restorer(image), run(image)
        if output.shape != expected.shape:
            raise ManasError(f"{out}: not written: gives {tuple(output.shape)} for {tuple(expected.shape)}")
        largest = torch.maximum(largest, (output - expected).abs().max())  # NaN stays NaN, unlike in `max`
    if not largest <= TOLERANCE:  # true for NaN, too
        raise ManasError(
            f"{out}: not written: off by {float(largest):.1e} of [0, 1], more than {TOLERANCE:.0e}; "
            "export with the versions of constraints.txt, and report it if it stays"
        )
    return float(largest)


@contextmanager
def quietly() -> Iterator[None]:
    """Silences torch's warnings and log messages, which are about its own code; the result is checked."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
