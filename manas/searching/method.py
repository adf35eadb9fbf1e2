"""The base classes of the methods of search: their data, their architectures, and a supernet for some."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from manas.architecture.choice import choices_of, relaxed_by
from manas.architecture.genotype import Genotype
from manas.cost.architectures import Architectures
from manas.cost.counting import cost_table
from manas.cost.latency import latencies_in, latency_table
from manas.cost.table import CostTable
from manas.data.dataset.crops import Batch
from manas.device import place
from manas.errors import ManasError
from manas.relaxations.softmax import Softmax
from manas.reporting.progress import Progress
from manas.reporting.tracking import Tracker
from manas.restoration.losses import require_effect
from manas.searching.bilevel import Loss, descend, first_order
from manas.searching.compute import Meter, layers_behind_forks
from manas.searching.config import SearchConfig
from manas.searching.genotype_files import GenotypeFiles
from manas.searching.search_data import SearchData
from manas.training.distributed import Process
from manas.training.guard import LeftOut
from manas.training.initialise import start
from manas.training.loop import Job
from manas.training.numerics import make_sound, shape_of_pass
from manas.training.optimiser import Descent, RunningStatistics, decay_groups
from manas.training.run import RunDirectory
from manas.training.step import Objective, Terms, under
from manas.training.validation import sample_sheet, write_samples

COST_FILE = "cost.json"


class Method(Job[Genotype]):
    """A method of search.

    Attributes:
        data: the backgrounds, in a part for the weights and a part for the alphas.
        architectures: the architectures that the method may choose.
        genotypes: the files of the genotypes that it writes.
        objective: the loss of a network on a batch.
        meter: counts the compute.
        provenance: what the genotype at the end tells beside its own provenance.
        findings: sentences that its verdict has beside those on the search.

    Raises:
        ManasError: for a space without forks, data that cannot be used, or a budget that no architecture meets.
    """

    title = "search"

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        self.config, self.process, self.directory = config, process, directory
        self.log_every = config.log_every
        if not config.space.forks():
            raise ManasError("space: it has no forks, so there is nothing to search; retrain it as it is")
        require_effect(config.loss, config.space)
        self.data = SearchData(config, process)
        table = _table(config, process, directory)
        self.architectures = Architectures(config.space, table, config.budget)
        self.genotypes = GenotypeFiles(config, process, directory)
        self.objective = Objective(config.loss, process, config.precision)
        self.meter = Meter()
        self.provenance: dict[str, Any] = {}
        self.findings: list[str] = []
        self.notes = self.data.backgrounds.notes
        self.files = {COST_FILE: table.to_json()}

    def sound(self, network: nn.Module) -> list[str]:
        """Makes a network's layers right in the precision of the search; returns a line for each remedy."""
        shape = shape_of_pass(self.config.data, self.process, self.config.accumulate)
        return make_sound(network, shape, self.process, self.config.precision)

    def descent(self, network: nn.Module) -> Descent:
        """The descent that takes the steps of a network's weights."""
        optimiser = self.config.weights.build(decay_groups(network))
        return Descent(optimiser, RunningStatistics(network), self.config.weights.clip)

    def weight_step(self, network: nn.Module, descent: Descent, batch: Batch, progress: float) -> Terms:
        """Takes one step of a network's weights at the rate that is set.

        Args:
            progress: the share of the network's training that is done, in [0, 1].
        """

        def loss(part: Batch) -> Loss:
            return self.objective(network, part, progress)

        return self.step_along(network, loss, batch.split(self.config.accumulate), descent)

    def step_along(
        self, network: nn.Module, loss: Callable[[Batch], Loss], parts: Sequence[Batch], descent: Descent
    ) -> Terms:
        """Takes one step of a network's weights along the gradient of the mean loss over parts of a batch."""
        network.train()
        gradients, terms = first_order(loss, parts, descent.parameters)
        norm = descend(gradients, descent, self.process)
        return under("weights", terms | {"gradient": norm})

    def conclude(self, genotype: Genotype, verdict: Sequence[str], progress: Progress) -> Genotype:
        """Ends with a genotype; adds the compute, and to the verdict the budget's share and broken steps."""
        sentences = [*verdict, *self.findings]
        if self.process.is_first:  # a latency is measured anew, which one process should do
            spending = self.architectures.spending(genotype.choices, self.config.input, self.process.device)
            sentences += [spending] if spending else []
        left_out = self.left_out()
        sentences += [left_out.sentence] if left_out.steps else []
        provenance = genotype.provenance | self.meter.provenance(self.process) | self.provenance
        genotype = genotype.model_copy(update={"provenance": provenance})
        return self.genotypes.finish(genotype, sentences, progress)


class SupernetSearch(Method):
    """Trains a supernet for the steps of its configuration, then chooses an architecture.

    Attributes:
        network: the supernet.
        choices: its choices.
        weight_descent: the descent that takes the steps of its weights.
        kept: the batches of the weights; opened by `begin`.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        self.ends = range(config.steps, config.total_steps + 1, config.steps)
        torch.manual_seed(config.seed)  # every process draws the same initial weights
        supernet = config.space.supernet(config.relaxation, recompute=config.checkpointing)
        self.network = place(supernet, process.device)
        if not directory.can_resume:
            with relaxed_by(self.network, Softmax()):  # one that samples would leave candidates unscaled
                start(self.network, self.data.backgrounds, process)
        self.notes = [*self.notes, *self.sound(self.network)]
        self.meter.watch(self.network, layers_behind_forks(config.space, config.input))
        self.choices = choices_of(self.network)
        self.weight_descent = self.descent(self.network)

    def begin(self, step: int) -> None:
        """Opens the stream of the weights' batches."""
        self.kept = self.data.for_weights(step)

    def left_out(self) -> LeftOut:
        """The steps of the weights whose gradient was broken."""
        return self.weight_descent.check()

    def end_epoch(self, epoch: int, tracker: Tracker) -> str:
        """Averages the statistics of all processes, judges the supernet and writes restored samples."""
        self.process.average_statistics(self.network)
        self.weight_descent.statistics.remember()
        line = self.judge(epoch, tracker)
        if self.process.is_first:
            with self.meter.resting():
                sheet = sample_sheet(self.network, self.data.validation, self.process)
            write_samples(sheet, self.directory.path, tracker, epoch, self.ends[epoch])
        return f"epoch {epoch}: {line}"

    @abstractmethod
    def judge(self, epoch: int, tracker: Tracker) -> str:
        """Judges the supernet at the end of an epoch; returns words for the line that the user sees."""

    def state(self) -> dict[str, Any]:
        """The state of the supernet and of the optimiser of its weights."""
        return {
            "kind": "search",
            "space": self.config.space.model_dump(mode="json"),
            "network": self.network.state_dict(),
            "weights": self.weight_descent.state_dict(),
            "compute": self.meter.state(self.process),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        self.network.load_state_dict(state["network"])
        self.weight_descent.load_state_dict(state["weights"])
        self.meter.load_state(state.get("compute"), self.process)  # older checkpoints have none


def _table(config: SearchConfig, process: Process, directory: RunDirectory) -> CostTable:
    """The costs of the space; the first process measures latencies once, and a resumed run reads them again."""
    if config.metric != "latency":
        table = cost_table(config.space, config.metric, config.input)
    else:
        text, file = None, directory.path / COST_FILE
        given = config.budgets[0].table if config.budgets else None
        if process.is_first and directory.can_resume:
            text = file.read_text(encoding="utf-8") if file.exists() else ""
        elif process.is_first and given:
            text = latencies_in(Path(given), config.space, config.input).to_json()
        elif process.is_first:
            text = latency_table(config.space, config.input, process.device).to_json()
        table = CostTable.from_json(process.share(text), where=str(file))
        table = table.with_nodes_of(config.space.forks())  # those of earlier versions lack them
    if not table.dearest():
        raise ManasError(
            f"space: no architecture of it has any {config.metric}, so there is no cost to weigh; "
            "weigh or limit another metric"
        )
    return table
