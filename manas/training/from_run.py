"""Reading the genotype from any file that a search or a retraining leaves behind."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

from manas.architecture.finding import parse_space
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError
from manas.restoration.model_file import model_file, read_description
from manas.training.checkpoint import load_checkpoint

IN_A_RUN = ("genotype.json", "model.safetensors", "checkpoint.pt")


def genotype_from(path: str | Path, *, space: type[SearchSpace] | None = None) -> Genotype:
    """Reads the genotype of a run directory, a checkpoint, a model file or a genotype file.

    Args:
        path: a file, a directory that holds genotype.json, model.safetensors or checkpoint.pt, or the name of
            a network that comes with the package.
        space: the class of a space that no entry point names.

    Raises:
        ManasError: if there is no genotype, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        file = next((path / name for name in IN_A_RUN if (path / name).exists()), None)
        if file is None:
            raise ManasError(f"{path}: no run; none of {', '.join(IN_A_RUN)} is in it")
        path = file
    path = model_file(path)
    if path.suffix == ".safetensors":
        return read_description(path, space=space).genotype
    if path.suffix == ".pt" or is_zipfile(path):  # as torch.save writes it, under whatever name
        return _from_checkpoint(path, space)
    return Genotype.read(path, space=space)


def _from_checkpoint(path: Path, space: type[SearchSpace] | None) -> Genotype:
    state = load_checkpoint(path)
    if state["kind"] == "retrain":
        return Genotype.from_json(state["genotype"], where=str(path), space=space)
    searched = parse_space(state["space"], trusted=False, where=str(path), given=space)
    if "choices" not in state:
        raise ManasError(f"{path}: this search has not chosen yet; go on with --resume")
    return Genotype(space=searched, choices=state["choices"], provenance={"step": state["step"]})
