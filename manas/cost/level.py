"""The level of a table of latencies: whole networks beside the sums of their candidates.

Candidates are timed one by one, and what is beyond them as if it were the same in every network. It is not: a
network that leaves stages out adds and multiplies less. So whole networks of many sizes are timed, and a line
through them corrects the table: what is fixed, and by how much all candidates cost more or less.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

import numpy as np
from scipy.optimize import nnls

from manas.cost.knapsack import ROUNDING, cheapest_derived, most_valued
from manas.cost.table import CostTable

CHEAPEST = 1e-3  # of the dearest architecture: the least limit, for spaces that may cost nothing
TRUST = 0.1  # the weight of a slope of one beside the relative errors, for networks that all cost the same


def levelled(
    table: CostTable, seconds: Callable[[Mapping[str, str]], float], *, networks: int, rounds: int
) -> CostTable:
    """The table with the costs that fit whole networks best, by squares of relative errors.

    Args:
        seconds: times one architecture.
        networks: the number of architectures, whose costs are spread from the cheapest to the dearest.
        rounds: the number of times that they take turns; the median of each counts.
    """
    wholes = spread(table, networks)
    times = [[seconds(choices) for choices in wholes] for _ in range(rounds)]
    measured = np.array([median(of) for of in zip(*times, strict=True)])
    beyond = np.array([table.exact(choices) - table.fixed for choices in wholes])
    if not measured.size or not measured.all():
        return table  # nothing takes time, or less than the clock can tell
    rows = [*np.stack([np.ones_like(beyond), beyond], axis=1) / measured[:, None], [0.0, TRUST]]
    (fixed, slope), _ = nnls(np.array(rows), np.array([*np.ones_like(measured), TRUST]))
    forks = {label: replace(fork, own=fork.own * slope) for label, fork in table.forks.items()}
    return replace(table, fixed=float(fixed), forks=forks)


def spread(table: CostTable, count: int) -> list[dict[str, str]]:
    """Architectures at random, each within a limit; the limits grow by a factor from the cheapest on."""
    rng, dearest = random.Random(0), table.dearest()
    cheapest = max(cheapest_derived(table), dearest * CHEAPEST)
    found = []
    for limit in np.geomspace(cheapest, dearest, count) if dearest else ():
        values = {(label, name): rng.gauss(0, 1) for label, fork in table.forks.items() for name in fork.names}
        found.append(most_valued(table, float(limit) * (1 + ROUNDING), 0.0, values))
    return [choices for choices in found if choices is not None]
