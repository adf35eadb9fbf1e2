"""Model files from weights that other programs trained.

Such a file comes from someone else, so nothing but tensors and plain values is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.foreign.genotypes import content_of
from manas.restoration.model_file import ModelDescription, save_model
from manas.restoration.network import RestorationSpace, assemble
from manas.training.run import versions

# The keys under which programs keep weights, best first.
WRAPPERS = ("params_ema", "params", "state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # of names in networks that were wrapped for several devices, or compiled
NAMED = 8


def import_weights(path: str | Path, out: str | Path, space: SearchSpace, task: str) -> Path:
    """Writes the model file of a tower with the weights of a file that `torch.save` wrote; returns `out`.

    Args:
        path: a state dict, plain or under a key as other programs write it; its names are those of the space's
            own network, or names of its authors' code that the space can translate (`SearchSpace.renamed`).
        space: the space of the tower, without forks.
        task: the task of the tower.

    Raises:
        ManasError: for a file that cannot be read, a space with open choices, or weights that do not fit; the
            message lists the differences.
    """
    if isinstance(space, RestorationSpace) or space.choices():
        raise ManasError("weights are for one tower without open choices; give such a space, as drn is")
    genotype = assemble({task: Genotype(space=space, choices={})}, stitch="none", fusion="mean")
    network = genotype.network()
    tower = network.get_submodule(f"towers.{task}")
    state = space.renamed(_state_of(content_of(Path(path)), str(path)))
    _require_equal(tower.state_dict(), state, str(path))
    tower.load_state_dict(state)
    training = versions() | {"imported_from": Path(path).name}
    return save_model(out, network, ModelDescription(genotype=genotype, training=training))


def _state_of(content: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors by name, taken out of wrappers and without prefixes."""
    wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
    state = content[wrapper] if wrapper else content
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ManasError(f"{where}: holds no weights by name; give a state dict")
    while prefix := next((each for each in PREFIXES if all(name.startswith(each) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _require_equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], where: str) -> None:
    wrong = [f"{name} is missing" for name in ours if name not in theirs]
    wrong += [f"{name} is not of this network" for name in theirs if name not in ours]
    wrong += [
        f"{name} has the shape {tuple(theirs[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in ours.items()
        if name in theirs and theirs[name].shape != tensor.shape
    ]
    if wrong:
        more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise ManasError(f"{where}: does not fit the space: {'; '.join(wrong[:NAMED] + more)}")
