"""A trained network as an ONNX file, which needs neither torch nor this package to run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.exporting.program import (
    INPUT,
    KEY,
    OUTPUT,
    origin,
    quietly,
    require_equal,
    restorer_of,
    shapes_of,
    traced,
)
from manas.files import replacing
from manas.inference.restorer import Restorer
from manas.restoration.network import size_multiple_of

EXTRA = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # the oldest that torch writes, for the oldest runtimes; no operator of a later one is needed


def export_onnx(
    source: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    opset: int = OPSET,
    bare: bool = False,
    space: type[SearchSpace] | None = None,
) -> float:
    """Writes an ONNX file that restores images of any size; an interruption leaves no incomplete file.

    Its input ``image`` and its output ``restored`` are (B, 3, H, W), float32 in [0, 1]; padding and cropping
    are part of the graph, unless it is bare. The metadata ``manas`` is a JSON string that tells the origin of
    the file.

    Args:
        source: the model file, ``model.safetensors``, or the run directory that holds it.
        out: the path of the file, which ends in ``.onnx``.
        task: the tower whose output is taken; None takes the fused, blind output.
        opset: version of ONNX's operators, 18 or newer.
        bare: whether to leave out padding and cropping, for programs that pad by themselves; height and width
            must then be multiples of the network's, which the metadata ``multiple`` tells.
        space: the class of a space that no entry point names.

    Returns:
        The largest difference from the `Restorer`, as ONNX Runtime computes it on the CPU.

    Raises:
        ManasError: without the packages of the extra ``onnx``; for a file that is no model, an unknown task, an
            opset that torch cannot write, or a result that differs by more than
            `manas.exporting.program.TOLERANCE`.
    """
    _require_extra()
    if opset < OPSET:
        raise ManasError(f"opset {opset} cannot be written; take {OPSET} or a newer one")
    restorer = restorer_of(source, task, space)
    with quietly(), replacing(Path(out)) as unfinished:
        multiple = size_multiple_of(restorer.network) if bare else 1
        _convert(restorer, opset, bare).save(unfinished, external_data=False)
        return require_equal(_session(unfinished), restorer, out, multiple=multiple)


def _require_extra() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ManasError(f"ONNX needs {', '.join(missing)}; install them by: pip install 'manas[onnx]'")


def _convert(restorer: Restorer, opset: int, bare: bool) -> torch.onnx.ONNXProgram:
    from onnxscript import ir

    program = torch.onnx.export(
        traced(restorer, bare=bare),
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=shapes_of(restorer, bare),
        custom_translation_table={torch.ops.aten.remainder.Scalar: _remainder},
    )
    assert program is not None
    if program.model.opset_imports[""] != opset:  # where torch cannot convert, it leaves the graph as it is
        raise ManasError(
            f"torch {torch.__version__} cannot write opset {opset}; take an older one, down to {OPSET}"
        )
    # The notes of torch about every operator, for its own debugging, are a third of a small file.
    ir.passes.common.ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props[KEY] = origin(restorer)
    if bare:
        program.model.metadata_props["multiple"] = str(size_multiple_of(restorer.network))
    return program


def _remainder(value: Any, divisor: Any) -> Any:
    """Translates a remainder by a size, as in padding; torch's own translation expects a number."""
    from onnxscript import opset18

    return opset18.Mod(value, divisor)


def _session(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])
