"""The genotypes that a search writes on its way and at its end, each with its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manas.architecture.genotype import Genotype
from manas.cost.counting import costs
from manas.reporting.progress import Progress
from manas.reporting.report.page import write_report
from manas.searching.config import SearchConfig
from manas.training.distributed import Process
from manas.training.run import RunDirectory, versions


class GenotypeFiles:
    """The genotypes in the run directory of a search."""

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        self.config, self.process, self.directory = config, process, directory

    def of(self, choices: Mapping[str, str], **provenance: Any) -> Genotype:
        """The genotype of choices, with the cost of its network and its provenance."""
        config = self.config
        origin = versions() | {
            "seed": config.seed,
            "method": config.method.kind,
            "config_sha256": self.directory.digest(),
            **costs(config.space.network(choices), (3, config.data.patch, config.data.patch)),
        }
        return Genotype(space=config.space, choices=dict(choices), provenance=origin | provenance)

    def keep(self, name: str, genotype: Genotype) -> None:
        """Writes a genotype of an epoch, if this is the first process."""
        if self.process.is_first:
            genotype.write(self._path(name))

    def kept(self, name: str) -> Genotype:
        """Reads a genotype that `keep` wrote."""
        return Genotype.from_json(self._path(name).read_text(encoding="utf-8"), trusted=True)

    def finish(self, genotype: Genotype, verdict: Sequence[str], progress: Progress) -> Genotype:
        """Writes the genotype of the search with its verdict, and the report; shows the verdict."""
        provenance = {**genotype.provenance, "verdict": list(verdict)}
        genotype = genotype.model_copy(update={"provenance": provenance})
        if self.process.is_first:
            genotype.write(self.directory.path / "genotype.json")
            write_report(self.directory.path)
        for sentence in verdict:
            progress.say(sentence)
        self.process.wait()  # no process may look for the files before the first has written them
        return genotype

    def _path(self, name: str) -> Path:
        return self.directory.path / "genotypes" / f"{name}.json"
