"""The reason of every choice of a search: the data, other losses, a limit, or nothing.

How far alphas went says nothing: Adam's step does not depend on the size of a gradient, so noise takes alphas
as far as merit does. Nor does one search: two copies of one candidate, with other initial weights, pull their
alphas apart by more than the batches differ, since the luck of a start is the same in every batch. So a fork
counts as decided by the data only where several searches, from other weights, agree by more than they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from scipy.special import stdtrit

from manas.searching.evidence import Pull

LEVEL = 0.05  # the chance that a fork between equal candidates counts as decided
GAUSSIAN = 10**6  # samples of a standard deviation that is known: Student's t is the normal distribution
SHOWN = 6  # labels in a sentence


class Reason(StrEnum):
    """The reason of a choice."""

    DATA = "the data"
    OTHER = "other losses"
    LIMIT = "a limit"
    NOTHING = "nothing"


def preference(pull: Pull, name: str) -> Reason:
    """The reason for the choice of a candidate as far as one search can tell, which takes luck for merit.

    It is the data if they pulled towards the candidate more than towards every other one, by more than chance
    explains: Student's t over the batches, two-sided, for K - 1 comparisons.
    """
    place = pull.names.index(name)
    errors = np.delete(np.array(pull.errors)[place], place)
    limits = _limits(errors, pull.steps)
    return _reason(_leads(pull.data, place), limits, _leads(pull.other, place))


def agreement(pulls: Sequence[Pull], name: str) -> Reason:
    """The reason for the choice of a candidate over several searches from other initial weights.

    As `preference`, with the spread over the searches in place of that over the batches of one.
    """
    place, count = pulls[0].names.index(name), len(pulls)
    leads = np.array([_leads(pull.data, place) for pull in pulls])  # (R, K - 1)
    limits = _limits(leads.std(0, ddof=1) / count**0.5, count)
    others = np.mean([_leads(pull.other, place) for pull in pulls], 0)
    return _reason(leads.mean(0), limits, others)


def lead_reason(leads: Sequence[tuple[float, float]]) -> Reason:
    """The reason for a choice by its leads over the alternatives, each a mean and a standard deviation.

    It is the data if every lead is more than chance explains; a limit, such as the budget, if an alternative is
    held for better.
    """
    if not leads:
        return Reason.NOTHING
    means, deviations = np.array(leads).T
    if (means > _limits(deviations, GAUSSIAN)).all():
        return Reason.DATA
    return Reason.LIMIT if (means < 0).any() else Reason.NOTHING


def sentence(reasons: Mapping[str, Reason], searches: int) -> str:
    """The sentence that tells how many choices have which reason.

    Args:
        reasons: of every fork on the path, by label.
        searches: the number of searches that agree; 1 for the `preference` of one.
    """
    forks, decided = len(reasons), _decided(reasons)
    data, other, nothing = (_count(reasons, each) for each in (Reason.DATA, Reason.OTHER, Reason.NOTHING))
    rest = f"other losses alone decided {other}, nothing decided {nothing}"
    if searches == 1:
        return (
            f"of {forks} choices the data of this search preferred {data}, {rest}; one search cannot tell a "
            "better candidate from one with luckier initial weights: search with repeats=3 to know"
        )
    if not data:
        return (
            f"nothing was found: over {searches} searches the data decided none of {forks} choices ({rest}); "
            "the genotype is as good as a random one; search longer, or in a space that differs by more"
        )
    return f"over {searches} searches the data decided {data} of {forks} choices ({decided}); {rest}"


def single_choices(reasons: Mapping[str, Reason]) -> str:
    """The sentence that tells how many choices a surrogate would make alone, whatever the others are."""
    data, limits, nothing = (_count(reasons, each) for each in (Reason.DATA, Reason.LIMIT, Reason.NOTHING))
    decided = f" ({_decided(reasons)})" if data else ""
    return (
        f"of {len(reasons)} choices, each taken alone, the data decided {data}{decided}, limits {limits}, and "
        f"{nothing} matter too little to be told"
    )


def _count(reasons: Mapping[str, Reason], reason: Reason) -> int:
    """The number of choices with a reason."""
    return sum(each is reason for each in reasons.values())


def _decided(reasons: Mapping[str, Reason]) -> str:
    """The labels that the data decided, the first of them by name."""
    labels = [label for label, reason in reasons.items() if reason is Reason.DATA]
    more = f", and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(labels[:SHOWN]) + more


def _leads(values: Sequence[float], place: int) -> np.ndarray:
    """(K - 1,) how far a value is above each other one."""
    return values[place] - np.delete(np.array(values), place)


def _limits(errors: np.ndarray, samples: int) -> np.ndarray:
    """(K - 1,) the leads that chance does not explain, from their standard errors over so many samples."""
    if samples < 2:
        return np.full(len(errors), np.inf)
    return stdtrit(samples - 1, 1 - LEVEL / 2 / max(1, len(errors))) * errors


def _reason(leads: np.ndarray, limits: np.ndarray, others: np.ndarray) -> Reason:
    if not len(leads):
        return Reason.NOTHING
    if (leads > limits).all():
        return Reason.DATA
    rival = leads.argmin()  # the candidate that the data spoke for most, beside the chosen one
    return Reason.OTHER if others[rival] > max(0.0, leads[rival]) else Reason.NOTHING
