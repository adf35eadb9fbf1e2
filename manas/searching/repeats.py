"""Several searches from other initial weights, and the architecture that they agree on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from manas.architecture.genotype import Genotype
from manas.cost.architectures import Architectures
from manas.cost.table import CostTable
from manas.reporting.progress import Progress
from manas.searching.compute import compute_of_all
from manas.searching.config import SearchConfig
from manas.searching.evidence import Pull, read_evidence
from manas.searching.genotype_files import GenotypeFiles
from manas.searching.method import COST_FILE
from manas.searching.reasons import agreement, sentence
from manas.training.distributed import Process
from manas.training.run import RunDirectory

Once = Callable[..., Genotype]  # (configuration, resume, overwrite) -> the genotype of one search


def repeated(config: SearchConfig, process: Process, once: Once, *, resume: bool, overwrite: bool) -> Genotype:
    """Searches as often as the configuration says, and chooses what is most probable over all searches.

    Each search has a run directory of its own in that of the configuration, and a seed of its own.

    Args:
        once: runs one search.
        resume: go on with searches that began, and leave those alone that have ended.
    """
    directory = RunDirectory(config, config.run, process, resume=resume, overwrite=overwrite)
    directory.open()
    runs = [directory.path / f"repeat{place}" for place in range(config.repeats)]
    found = []
    for place, run in enumerate(runs):
        own = config.model_copy(update={"run": str(run), "seed": config.seed + place, "repeats": 1})
        found.append(once(own, resume=resume and (run / "config.yaml").exists(), overwrite=overwrite))
    return _agreed(config, process, directory, runs, compute_of_all(found))


def _agreed(
    config: SearchConfig,
    process: Process,
    directory: RunDirectory,
    runs: Sequence[Path],
    compute: Mapping[str, int],
) -> Genotype:
    pulls = [read_evidence(run) for run in runs]
    choices = _architectures(config, runs[0]).argmax(consensus(pulls))
    reasons = {label: agreement([each[label] for each in pulls], name) for label, name in choices.items()}
    files = GenotypeFiles(config, process, directory)
    decided = {label: str(reason) for label, reason in reasons.items()}
    genotype = files.of(choices, repeats=[str(run) for run in runs], decided_by=decided, **compute)
    with Progress("search", 1, done=1, enabled=process.is_first) as progress:
        return files.finish(genotype, [sentence(reasons, len(runs))], progress)


def consensus(pulls: Sequence[Mapping[str, Pull]]) -> dict[str, dict[str, float]]:
    """Label -> candidate -> probability: the geometric mean over the searches, up to a factor for each fork."""
    return {
        label: {
            name: math.exp(sum(each[label].log_probabilities[place] for each in pulls) / len(pulls))
            for place, name in enumerate(pull.names)
        }
        for label, pull in pulls[0].items()
    }


def _architectures(config: SearchConfig, run: Path) -> Architectures:
    """The architectures that may be chosen, by the cost table of one of the searches."""
    file = run / COST_FILE
    table = CostTable.from_json(file.read_text(encoding="utf-8"), where=str(file))
    return Architectures(config.space, table.with_nodes_of(config.space.forks()), config.budget)
