"""The function `manas.search`, which runs the method of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manas.architecture.genotype import Genotype
from manas.config import read_config
from manas.searching.config import SearchConfig
from manas.searching.evolution_search import EvolutionSearch
from manas.searching.gradient import GradientSearch
from manas.searching.method import Method
from manas.searching.perturbation_search import PerturbationSearch
from manas.searching.random_search import RandomSearch
from manas.searching.repeats import repeated
from manas.searching.surrogate_search import SurrogateSearch
from manas.training.distributed import started
from manas.training.loop import run
from manas.training.run import RunDirectory

METHODS: dict[str, type[Method]] = {
    "gradient": GradientSearch,
    "surrogate": SurrogateSearch,
    "evolution": EvolutionSearch,
    "random": RandomSearch,
}


def search(
    config: SearchConfig | Mapping[str, Any] | str | Path, *, resume: bool = False, overwrite: bool = False
) -> Genotype:
    """Searches a space and returns the genotype; writes it with everything else to the run directory.

    Args:
        config: the configuration, the mapping of one, or the path of its YAML file.
        resume: go on with the run in the run directory, exactly.
        overwrite: replace it.

    Raises:
        ManasError: for a bad configuration, data that cannot be used, a space without forks, a budget that no
            architecture meets, or a run directory that holds a run.
    """
    config = read_config(SearchConfig, config)
    with started(config.device) as process:

        def once(config: SearchConfig, *, resume: bool, overwrite: bool) -> Genotype:
            directory = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
            return run(_method(config)(config, process, directory))

        if config.repeats > 1:
            return repeated(config, process, once, resume=resume, overwrite=overwrite)
        return once(config, resume=resume, overwrite=overwrite)


def _method(config: SearchConfig) -> type[Method]:
    by_perturbation = config.selection.kind == "perturbation"  # to which the search by gradient alone comes
    return PerturbationSearch if by_perturbation else METHODS[config.method.kind]
