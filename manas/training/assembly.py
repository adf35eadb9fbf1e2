"""The genotype of the network that is retrained, from what the configuration names."""

from __future__ import annotations

from pathlib import Path

from manas.architecture.finding import load_space, presets, space_class
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.errors import ManasError, nearest
from manas.models import installed_models
from manas.restoration.network import RestorationSpace, assemble
from manas.training.config import RetrainConfig
from manas.training.from_run import genotype_from


def whole_genotype(config: RetrainConfig) -> Genotype:
    """The genotype of the whole network, from one a task or from a file."""
    space = space_class(config.space, trusted=True) if config.space else None
    if isinstance(config.genotype, str):
        return _around(_genotype_of(config.genotype, space), config)
    genotypes = {task: _genotype_of(reference, space) for task, reference in config.genotype.items()}
    return assemble(genotypes, stitch=config.stitch, stitches=config.stitches, fusion=config.fusion)


def _genotype_of(reference: str, space: type[SearchSpace] | None) -> Genotype:
    """Reads a genotype, or makes the empty one of a space without forks, such as ``cmudrn``."""
    if reference not in presets() and not reference.endswith((".yaml", ".yml")):
        exists = reference in installed_models() or Path(reference).exists()
        if not exists and not Path(reference).suffix:
            known = [*presets(), *installed_models()]
            raise ManasError(f"{reference}: no such file, and no preset; {nearest(reference, known)}")
        return genotype_from(reference, space=space)
    made_by_hand = load_space(reference)
    forks = len(made_by_hand.choices())
    if forks:
        raise ManasError(
            f"{reference}: {forks} choices of this space are open; search it, and give its genotype"
        )
    return Genotype(space=made_by_hand, choices={})


def _around(genotype: Genotype, config: RetrainConfig) -> Genotype:
    """Returns a whole network's genotype as it is, and puts a lone tower into a network of one task."""
    fields = {name: type(config).model_fields[name].default for name in ("stitch", "stitches", "fusion")}
    ignored = [name for name, default in fields.items() if getattr(config, name) != default]
    if ignored:
        raise ManasError(
            f"{config.genotype}: {' and '.join(ignored)} cannot be set for the genotype of a whole "
            "network or of a lone tower; leave it out"
        )
    if isinstance(genotype.space, RestorationSpace):
        return genotype
    if len(config.data.tasks) != 1:
        tasks = ", ".join(config.data.tasks)
        raise ManasError(
            f"{config.genotype}: one tower for the tasks {tasks}; give --genotype task=path for each"
        )
    return assemble({config.data.tasks[0]: genotype}, stitch="none", fusion="mean")
