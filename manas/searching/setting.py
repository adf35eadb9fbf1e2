"""What every method of a search stands on: its backgrounds, what architectures cost, and its files."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from manas.architecture.forks import drawn
from manas.architecture.genotype import Genotype
from manas.cost.knapsack import ROUNDING, cheapest_derived
from manas.cost.latency import latency_table, measured_latency
from manas.cost.selection import Allowance, argmax, starved_nodes
from manas.cost.table import CostTable, cost_table, costs
from manas.data.dataset.backgrounds import Backgrounds
from manas.device import place
from manas.errors import ManasError
from manas.files import replacing
from manas.reporting.progress import Progress
from manas.reporting.report.page import write_report
from manas.restoration.losses import require_effect
from manas.restoration.network import size_multiple_of, tasks_of
from manas.searching.config import SearchConfig
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.run import RunDirectory, versions
from manas.training.validation import validate

DRAWS = 100  # before a random architecture within the budget is made and not met by chance


class Setting:
    """The ground of one search.

    Attributes:
        tasks: names of the tasks by their places in batches.
        forks: of the space, the outermost ones.
        backgrounds, validation: the data; validation crops are of the part that the alphas see.
        table: what architectures cost.
        allowance: what the derived network may cost, or None.
        left_out: the steps of the search that were left out; the verdict says so.

    Raises:
        ManasError: for a space without forks, data that cannot be used, or a budget that no architecture meets.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        self.config, self.process, self.directory = config, process, directory
        self.space = config.space
        self.tasks = tasks_of(self.space) or config.data.tasks
        self.forks = self.space.forks()
        if not self.forks:
            raise ManasError("space: it has no forks, so there is nothing to search; retrain it as it is")
        require_effect(config.loss, self.space)
        if config.data.batch // process.world_size % config.accumulate:
            raise ManasError(
                f"accumulate={config.accumulate}: the {config.data.batch // process.world_size} backgrounds of "
                "a process cannot be split into so many equal parts; change it or data.batch"
            )
        multiple = self._size_multiple()
        self.backgrounds = Backgrounds(
            config.data,
            self.tasks,
            seed=config.seed,
            held_share=config.alpha_share,
            multiple=multiple,
            **process.share_of_data(),
        )
        self.validation = self.backgrounds.validation("held")
        self.patch = (3, config.data.patch, config.data.patch)
        if min(config.input[1:]) < 1 or any(side % multiple for side in config.input[1:]):
            raise ManasError(f"budget.size: the network takes multiples of {multiple}; change it")
        self.table = self._table()
        if not self.table.dearest():
            raise ManasError(
                f"space: no architecture of it has any {config.metric}, so there is no cost to weigh; "
                "weigh or limit another metric"
            )
        self.allowance = self._allowance()
        self.left_out = LeftOut()

    def open(self) -> None:
        """Opens the run directory and writes the cost table into it."""
        self.directory.open()
        if self.process.is_first:
            with replacing(self._cost_file) as temporary:
                temporary.write_text(self.table.to_json(), encoding="utf-8")

    def psnr(self, network: nn.Module, *, training: bool) -> float:
        """PSNR-Y in dB on the validation crops; normalisation by batch statistics where `training`."""
        precision = self.config.precision
        return validate(network, self.validation, self.tasks, self.process, precision, training=training)[
            "psnr"
        ]

    def genotype(self, choices: Mapping[str, str], **provenance: Any) -> Genotype:
        """The genotype of choices, with what its network costs and where it comes from."""
        origin = versions() | {
            "seed": self.config.seed,
            "method": self.config.method.kind,
            "config_sha256": self.directory.digest(),
            **costs(self.space.network(choices), self.patch),
        }
        return Genotype(space=self.space, choices=dict(choices), provenance=origin | provenance)

    def genotype_path(self, name: str) -> Path:
        """Where a genotype on the way is kept."""
        return self.directory.path / "genotypes" / f"{name}.json"

    def sample(self, rng: random.Random) -> dict[str, str]:
        """A random architecture whose nodes all have an input, within the budget; uniform fork by fork."""
        return self.fitting(lambda: drawn(self.forks, rng), rng)

    def fitting(self, draw: Callable[[], dict[str, str]], rng: random.Random) -> dict[str, str]:
        """What `draw` gives once it fits; where it rarely does, the argmax of random numbers that fits."""
        for _ in range(DRAWS):
            choices = draw()
            if not starved_nodes(choices) and (self.allowance is None or self.allowance.holds(choices)):
                return choices
        forks = self.table.forks.items()
        return argmax(
            self.space, {label: {n: rng.random() for n in fork.names} for label, fork in forks}, self.allowance
        )

    def finish(self, genotype: Genotype, said: Sequence[str], progress: Progress) -> Genotype:
        """Writes the genotype and the report of a search, and says what is to be said of it."""
        budget = self.budget_report(genotype.choices) if self.process.is_first else None
        left_out = [self.left_out.sentence] if self.left_out.steps else []
        said = [*said, *([budget] if budget else []), *left_out]
        genotype = genotype.model_copy(update={"provenance": {**genotype.provenance, "verdict": said}})
        if self.process.is_first:
            genotype.write(self.directory.path / "genotype.json")
            write_report(self.directory.path)
        for sentence in said:
            progress.say(sentence)
        self.process.wait()
        return genotype

    def kept_genotype(self, name: str) -> Genotype:
        """A genotype on the way, as this search wrote it."""
        return Genotype.from_json(self.genotype_path(name).read_text(encoding="utf-8"), trusted=True)

    def budget_report(self, choices: Mapping[str, str]) -> str | None:
        """By how much a derived network meets the budget, in a sentence."""
        if self.allowance is None:
            return None
        metric, limit, cost = self.config.metric, self.allowance.limit, self.table.exact(choices)
        report = f"budget: {amount(cost, metric)} of {amount(limit, metric)}, {cost / limit:.1%}"
        if metric == "latency":
            network = self.space.network(choices)
            measured = measured_latency(network, self.config.input, self.process.device)
            report += f" by the table; {amount(measured, metric)} measured as a whole"
        return report

    @property
    def _cost_file(self) -> Path:
        return self.directory.path / "cost.json"

    def _size_multiple(self) -> int:
        with torch.device("meta"):
            return size_multiple_of(self.space.supernet())

    def _table(self) -> CostTable:
        """Latencies are measured by one process, once; a run that is resumed keeps to them."""
        config, process = self.config, self.process
        if config.metric != "latency":
            return cost_table(self.space, config.metric, config.input)
        text = None
        if process.is_first and self.directory.can_resume:
            text = self._cost_file.read_text(encoding="utf-8") if self._cost_file.exists() else ""
        elif process.is_first:
            text = latency_table(self.space, config.input, process.device).to_json()
        return CostTable.from_json(process.share(text), where=str(self._cost_file))

    def _allowance(self) -> Allowance | None:
        budget, table = self.config.budget, self.table
        if budget is None:
            return None
        cheapest, dearest = cheapest_derived(table), table.dearest()
        if cheapest > budget.limit * (1 + ROUNDING):
            given, low, high = (amount(cost, budget.metric) for cost in (budget.limit, cheapest, dearest))
            raise ManasError(
                f"budget: {given} cannot be met; the cheapest architecture of the space has {low}, the dearest "
                f"{high}; raise the budget or take a smaller space"
            )
        out_of_reach = budget.spend * budget.limit > dearest
        return Allowance(table, budget.limit, 0.0 if out_of_reach else budget.spend)


def amount(cost: float, metric: str) -> str:
    """A cost with its unit: ``1.93 G MACs``, ``1.50 M parameters``, ``40.0 ms``."""
    if metric == "latency":
        return f"{cost * 1e3:.3g} ms"
    for factor, unit in ((1e9, "G "), (1e6, "M "), (1e3, "k ")):
        if cost >= factor:
            return f"{cost / factor:.4g} {unit}{'MACs' if metric == 'macs' else metric}"
    return f"{cost:.0f} {'MACs' if metric == 'macs' else metric}"


def placed(network: nn.Module, process: Process) -> nn.Module:
    """A network on the device of the process, with the same weights in all of them."""
    network = place(network, process.device)
    process.broadcast([*network.parameters(), *network.buffers()])
    return network
