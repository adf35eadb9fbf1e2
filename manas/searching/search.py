"""`manas.search`: the configuration picks the method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manas.architecture.genotype import Genotype
from manas.config import read_config
from manas.searching.config import SearchConfig
from manas.searching.evolution import EvolutionConfig
from manas.searching.gradient import GradientSearch
from manas.searching.one_shot import EvolutionSearch
from manas.searching.random_search import RandomConfig, RandomSearch
from manas.searching.setting import Setting
from manas.training.distributed import started
from manas.training.run import RunDirectory


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
        directory = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
        return _method(Setting(config, process, directory)).run()


def _method(setting: Setting) -> GradientSearch | EvolutionSearch | RandomSearch:
    method = setting.config.method
    if isinstance(method, EvolutionConfig):
        return EvolutionSearch(setting, method)
    if isinstance(method, RandomConfig):
        return RandomSearch(setting, method)
    return GradientSearch(setting)
