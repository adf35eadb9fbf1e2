"""From probabilities to a genotype."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from manas.architecture.choice import Replayed
from manas.architecture.space import SearchSpace

NONE = "none"


def argmax(space: SearchSpace, probabilities: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The most probable candidate of every fork on the path, but no node loses its last input.

    Where all inputs of a node (the labels ``.../node<i>/<input>``) would be `none`, the most probable other
    candidate among them is taken instead.

    Args:
        space: whose program is walked.
        probabilities: label -> candidate -> probability.
    """
    override: dict[str, str] = {}
    while True:
        choices = space.walk(Replayed(lambda label, _: override.get(label) or _best(probabilities[label])))
        starved = [labels for labels in _nodes(choices) if all(choices[label] == NONE for label in labels)]
        alive = {
            (label, name): p
            for labels in starved
            for label in labels
            for name, p in probabilities[label].items()
            if name != NONE
        }
        if not alive:
            return choices
        label, name = max(alive, key=lambda key: alive[key])
        override[label] = name


def _best(probabilities: Mapping[str, float]) -> str:
    return max(probabilities, key=lambda name: probabilities[name])


def _nodes(labels: Mapping[str, str]) -> list[list[str]]:
    """The labels under each node."""
    nodes = defaultdict(list)
    for label in labels:
        node = re.fullmatch(r"(.*\bnode\d+)/[^/]+", label)
        if node:
            nodes[node.group(1)].append(label)
    return list(nodes.values())
