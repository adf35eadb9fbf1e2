"""Random search: the baseline that every search has to beat (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from manas.architecture.genotype import Genotype
from manas.reporting.progress import Progress
from manas.searching.alone_search import AloneSearch
from manas.searching.config import RandomConfig, SearchConfig
from manas.searching.shares import equal_shares
from manas.training.distributed import Process
from manas.training.run import RunDirectory


class RandomSearch(AloneSearch):
    """The search that draws architectures, trains each for its share of the compute, and takes the best.

    All start from the same seed.
    """

    def __init__(self, config: SearchConfig, process: Process, directory: RunDirectory):
        super().__init__(config, process, directory)
        assert isinstance(config.method, RandomConfig)
        seeds = (f"{config.seed}/{n}" for n in range(config.method.candidates))
        self.candidates = [self.architectures.sample(random.Random(seed)) for seed in seeds]
        self.ends = list(accumulate(equal_shares(config, self.data, self.candidates)))

    def propose(self, number: int) -> dict[str, str]:
        """The random architecture of this number."""
        return self.candidates[number]

    def finish(self, progress: Progress) -> Genotype:
        """The genotype of the best candidate."""
        count, reached = len(self.scores), self.reached(self.scores)
        verdict = f"the best of {count} random architectures, which reach {reached}"
        return self.conclude(self.genotype_of(self.best()), [verdict], progress)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` returned."""
        super().load_state(state)
        # An earlier version gave the candidates other numbers of steps; those that are left get today's.
        apart = state["step"] - self.ends[len(self.scores) - 1]
        self.ends = [end + apart for end in self.ends]
