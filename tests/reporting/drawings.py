"""Architectures to draw, and what can be read from a drawing."""

import functools
from collections import Counter

import matplotlib
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, PathPatch

import manas
from manas.architecture.genotype import Genotype
from manas.architecture.space import SearchSpace
from manas.reporting.drawing import figure as drawing
from manas.restoration.network import RestorationSpace, assemble
from search_spaces.multi_scale_attentive import MultiScaleAttentive

# Three scales, so that there are two stages to draw, and a stitch after each.
TOWERS = {
    "manas_tiny": {"kind": "multi_scale_attentive", "channels": [16, 24, 32], "columns": [1, 1]},
    "manas_small": {"kind": "multi_scale_attentive", "channels": [16, 32, 64], "columns": [2, 2]},
}
COST = {"parameters": 4724520, "macs": 1305819520, "input": [3, 64, 96]}
COLUMN, PAGE = 3.4, 7.1  # inches
TASKS = ("derain", "desnow")


class Free(SearchSpace):
    """Takes whatever choices are made."""

    def check(self, choices):
        pass


class FreeNetwork(RestorationSpace, Free):
    """So does this network."""


class FreeTower(MultiScaleAttentive, Free):
    """A tower that draws itself, and takes whatever choices are made."""

    channels: tuple[int, ...] = (4, 8)
    columns: tuple[int, ...] = (1,)
    attention: None = None


class FourWidths(FreeTower):
    channels: tuple[int, ...] = (4, 8, 16, 32)
    columns: tuple[int, ...] = (1, 1, 1)


class OneWidth(Free):
    channels: int = 4


def free_tower(choices):
    return free(choices, FreeTower())


def free(choices, space=None, **provenance):
    return Genotype(space=space or Free(), choices=choices, provenance=provenance)


@functools.cache
def sampled(name, seed=0):
    return Genotype.sample(manas.load_space(TOWERS.get(name, name)), seed).model_copy(
        update={"provenance": COST}
    )


@functools.cache
def joint(name, **joints):
    return assemble({task: sampled(name, seed) for seed, task in enumerate(TASKS)}, **joints)


@functools.cache
def searched_joint(seed, tasks=TASKS):
    towers = dict.fromkeys(tasks, manas.load_space(TOWERS["manas_tiny"]))
    return Genotype.sample(RestorationSpace(towers=towers, stitch="searched", fusion="searched"), seed)


def edges(groups):
    return [(k, source) for k in range(groups) for source in ("input", *(f"node{j}" for j in range(k)))]


def numbered(cells=3, groups=2):
    """A tower in which the gate of every edge says where it is."""
    choices = {}
    for c in range(cells):
        choices |= {f"cell{c}/column{n}": ("parallel", "fusion")[n % 2] for n in range(2)}
        for b in range(c + 2):
            named = {(k, source): f"{c}{b}{k}{source[0]}{source[-1]}" for k, source in edges(groups)}
            choices |= {f"cell{c}/branch{b}/node{k}/{source}": name for (k, source), name in named.items()}
    return free_tower(choices)


def columns_only(name, count=2):
    return free_tower({f"cell{c}/column{n}": name for c in range(2) for n in range(count)})


LONG = ("none", "contrast", "a_gate_with_a_long_name_that_goes_on", "w" * 26, "cbam", "x", "q" * 300)
NESTED = {"fork0": "a", "fork0/a/fork0": "b", "fork0/a/fork0/b/x": "c", "fork0/a/fork1": "d", "fork1": "e"}
NARROW = MultiScaleAttentive(channels=(4,) * 4, columns=(1, 1, 1), attention=None)

PARTS = {
    f"stage{s}/block{b}/{name}": choice
    for s in range(2)
    for b in range(2)
    for name, choice in (("kernel", "conv5"), ("width", "wide"))
} | {"head/last/size": "3", "stem": "none"}

SMALL = numbered(1, 1)

GENOTYPES = {
    **{f"{name} {seed}": sampled(name, seed) for name in ("manas", "clearer", "manas_tiny") for seed in (0, 1)},
    "manas_small": sampled("manas_small"),
    "two towers": joint("manas_tiny"),
    "two paper towers": free(
        {f"{task}/{label}": name for task in TASKS for label, name in sampled("manas").choices.items()},
        FreeNetwork(towers=dict.fromkeys(TASKS, FreeTower()), stitch="channel", fusion="conv"),
    ),
    "two towers without attention": joint("clearer", stitch="none", fusion="mean"),
    "searched joints": searched_joint(3),
    "three towers": searched_joint(4, (*TASKS, "d" * 40)),
    "one task": assemble({"derain": sampled("manas_tiny", 2)}),
    **{f"{groups} groups": numbered(2, groups) for groups in (1, 2, 3, 4)},
    "own names": free_tower(
        {label: LONG[n % len(LONG)] for n, label in enumerate(numbered(2).choices)}
        | {"cell0/column0": "dense_block", "cell1/column1": "y" * 200}
    ),
    "narrow cells": Genotype.sample(RestorationSpace(towers=dict.fromkeys(TASKS, NARROW), stitch="channel"), 0),
    "many scales": free_tower({f"cell{c}/column0": "fusion" for c in range(8)}),
    "layers": free({f"layer{n}": f"conv{n % 3}" for n in range(40)}, **COST),
    "nested": free(NESTED),
    "parts": free(PARTS, **COST),
    "long words": free({"l" * 300: "c" * 200, "m/n": "o"}, **COST),
    "mixed towers": free(
        {"derain/layer0": "conv3", **{f"desnow/{label}": name for label, name in numbered(2).choices.items()}},
        FreeNetwork(towers=dict.fromkeys(TASKS, FreeTower())),
    ),
    "no forks": free({}),
}


@functools.cache
def figures():
    """The figure of each genotype, at a resolution at which extents are exact to a fraction of a point."""
    figures = {name: drawing.figure(genotype) for name, genotype in GENOTYPES.items()}
    for figure in figures.values():
        figure.set_dpi(300)
    return figures


def extents(figure):
    """Every text with its box on the page."""
    renderer = figure.canvas.get_renderer()
    with matplotlib.rc_context({"text.hinting": "no_hinting"}):
        return [(text, text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def places(figure):
    """Where the middles of the texts are, by what they say: x to the right, y downwards."""
    height, found = figure.bbox.height, {}
    for text, box in extents(figure):
        found.setdefault(text.get_text(), []).append(((box.x0 + box.x1) / 2, height - (box.y0 + box.y1) / 2))
    return found


def place(figure, text):
    (found,) = places(figure)[text]
    return found


def said(figure):
    return Counter(text.get_text() for text in figure.axes[0].texts)


def boxes(figure, colour):
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return [patch for patch in found if to_hex(patch.get_facecolor()) == colour]


def lines(figure, colour):
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    return [patch for patch in found if to_hex(patch.get_edgecolor()) == colour]
