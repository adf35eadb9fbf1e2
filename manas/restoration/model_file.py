"""The model file: one safetensors file holds the weights and the whole description.

The description is metadata of the file. The genotype is one of its tensors, too, since many loaders hand on the
tensors and drop the metadata: they alone are enough to build the network (`network_of`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, explain
from manas.files import replacing
from manas.models import DEFAULT, installed_models

Format = Literal["manas.model/1"]
FORMAT: Format = "manas.model/1"
KEY = "manas"  # one metadata key: several make the bytes differ from save to save
GENOTYPE = "genotype"  # the tensor that holds the genotype: its JSON, a byte an element
NAME_IN_A_RUN = "model.safetensors"  # the name of the model file in a run directory


class ModelDescription(BaseModel):
    """The description of the weights in a model file.

    Attributes:
        genotype: the genotype of the whole restoration network.
        training: summary of the training (steps, seed, validation scores, versions).
        degradations: the degradations that the network was trained on, by task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Format = FORMAT
    genotype: Genotype
    training: dict[str, Any] = {}
    degradations: dict[str, Any] = {}


def save_model(path: str | Path, network: nn.Module, description: ModelDescription) -> Path:
    """Writes weights and description; an interruption leaves no incomplete file."""
    path = Path(path)
    # safetensors takes no tensor in channels_last memory, which training uses.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    genotype = description.genotype.model_dump_json().encode()
    tensors[GENOTYPE] = torch.frombuffer(bytearray(genotype), dtype=torch.uint8)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(description.model_dump(mode="json"))})
    return path


def model_file(path: str | Path) -> Path:
    """The model file that a path names: the file itself, the one in a run directory, or an installed one."""
    path = Path(path)
    if path.is_dir():
        return path / NAME_IN_A_RUN
    return path if path.exists() else installed_models().get(str(path), path)


def read_description(path: str | Path, *, space: type[SearchSpace] | None = None) -> ModelDescription:
    """Reads the description of a model file without its weights; see `load_model`."""
    path = model_file(path)
    content = _content(path)
    genotype = json.dumps(content.pop("genotype", None))
    content["genotype"] = Genotype.from_json(genotype, where=str(path), space=space)
    try:
        return ModelDescription.model_validate(content)
    except ValidationError as error:
        raise explain(error, ModelDescription, str(path)) from error


def load_model(
    path: str | Path = DEFAULT, *, space: type[SearchSpace] | None = None
) -> tuple[nn.Module, ModelDescription]:
    """Reads a model file into a network, on the CPU and in evaluation mode, and its description.

    Args:
        path: a file that `save_model` wrote, the run directory that holds it, or the name of a network that
            comes with the package (`manas.models`).
        space: the class of a space that no entry point names.

    Raises:
        ManasError: for a file that is no model file, or whose weights do not fit its genotype.
    """
    description = read_description(path, space=space)
    # The file may come from someone else, and safetensors unpickles nothing.
    with safe_open(model_file(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return _with_weights(description.genotype, tensors, where=str(path)), description


def network_of(state: Mapping[str, Tensor], *, where: str = "the state dict") -> tuple[nn.Module, Genotype]:
    """Makes the network of the tensors of a model file, on the CPU and in evaluation mode, and its genotype.

    Raises:
        ManasError: if no tensor holds a genotype, or the others do not fit it.
    """
    if GENOTYPE not in state:
        raise ManasError(f"{where}: no tensor {GENOTYPE!r}; give the tensors of a model file of manas retrain")
    text = state[GENOTYPE].cpu().to(torch.uint8).numpy().tobytes().decode(errors="replace")
    genotype = Genotype.from_json(text, where=f"{where}: {GENOTYPE}")
    return _with_weights(genotype, state, where=where), genotype


def _with_weights(genotype: Genotype, state: Mapping[str, Tensor], *, where: str) -> nn.Module:
    network = genotype.network()
    weights = {name: tensor for name, tensor in state.items() if name != GENOTYPE}
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise ManasError(f"{where}: the weights do not fit the genotype in the file: {detail}") from error
    return network.eval()


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ManasError(
            f"{path}: no such file; give the {NAME_IN_A_RUN} of manas retrain, its run directory, or the name "
            f"of an installed network: {', '.join(installed_models()) or 'there is none'}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise ManasError(f"{path}: not a model file ({error}); give one written by manas retrain") from error
    if text is None:
        raise ManasError(f"{path}: a safetensors file without a manas description; give a manas model file")
    content = _parsed(text)
    if content.get("format") != FORMAT:
        raise ManasError(f"{path}: unknown format {content.get('format')!r}; this version reads {FORMAT!r}")
    return content


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
