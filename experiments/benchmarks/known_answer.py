"""Does a search find the architecture that is provably right? All relaxations, orders and selections are tried.

    python experiments/benchmarks/known_answer.py [--seeds 5] [--only gumbel]

The clean image is the degraded one under three known filters, one a colour channel: a 3x3 filter, a 3x3 filter
with dilation 2, and a 1x7 filter. Each of three forks (one a channel) offers five candidates; only one of them
can represent the filter, and on white noise each of the others leaves an error that no training removes. So of
125 architectures one is right. Random search has the compute of the search by gradient.

Taps are positive and sum to one, and the filters are zero in the middle, so that in a mixture, too, no
candidate can make up for another that is wrong.
"""

import argparse
import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from scipy.signal import convolve2d
from torch import nn

import manas
from manas.data.images import write_image
from manas.restoration.tower import Tower
from manas.searching.config import SearchConfig

RELAXATIONS = {"softmax": {}, "gumbel": {}, "dirichlet": {}, "sigmoid": {"zero_one": 0.01}}
ORDERS = ("first", "second", "single")
SELECTIONS = ("argmax", "perturbation")
BASELINES = ("random", "evolution")

RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]) / 8
FILTERS = (RING, np.kron(RING, [[1, 0], [0, 0]])[:5, :5], np.array([[0.5, 0, 0, 0, 0, 0, 0.5]]))
RIGHT = {"red": "conv_3x3", "green": "dil_conv_3x3", "blue": "conv_1x7"}


DATA = {
    "versions": 1,
    "patch": 48,
    "batch": 2,
    "workers": 0,
    "validation_patch": 48,
    "validation_images": 4,
}


class Nothing(nn.Module):
    """The candidate whose output is zero."""

    def forward(self, x):
        return torch.zeros_like(x)


class Filter(nn.Conv2d):
    """A filter of one channel whose taps are the softmax of its weights."""

    def __init__(self, size, dilation=1):
        padding = tuple(dilation * (side // 2) for side in size)
        super().__init__(1, 1, size, 1, padding, dilation, bias=False, padding_mode="reflect")

    def forward(self, x):
        taps = self.weight.flatten().softmax(0).view_as(self.weight)
        return self._conv_forward(x, taps, None)


CANDIDATES = {
    "none": Nothing,
    "skip_connect": nn.Identity,
    "conv_3x3": partial(Filter, (3, 3)),
    "dil_conv_3x3": partial(Filter, (3, 3), 2),
    "conv_1x7": partial(Filter, (1, 7)),
}


class KnownAnswer(manas.SearchSpace):
    """A space with one fork for each colour channel."""

    def build(self, decide):
        return KnownAnswerTower(decide)


class KnownAnswerTower(Tower):
    size_multiple = 1
    channels = ((3,),)

    def __init__(self, decide):
        super().__init__()
        zero = "none" if "none" in CANDIDATES else None
        self.filters = nn.ModuleList(decide(channel, CANDIDATES, zero=zero) for channel in RIGHT)

    def stem(self, image):
        return [image]

    def stages(self):
        return [self.filtered]

    def filtered(self, features, image):
        channels = features[0].split(1, 1)
        pairs = zip(self.filters, channels, strict=True)
        return [torch.cat([of(channel) for of, channel in pairs], 1)]

    def head(self, features, image):
        return features[0]


def write_pairs(folder: Path, *, images: int = 8, side: int = 64) -> Path:
    """Writes degraded white noise and its filtered, clean version as PNG files."""
    rng = np.random.default_rng(0)
    for number in range(images):
        degraded = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        filtered = [
            convolve2d(degraded[..., channel] / 255, taps, mode="same") for channel, taps in enumerate(FILTERS)
        ]
        clean = np.round(255 * np.stack(filtered, 2)).astype(np.uint8)
        write_image(folder / "input" / f"{number}.png", degraded)
        write_image(folder / "target" / f"{number}.png", clean)
    return folder


def config(pairs: Path, run: Path, seed: int, **settings) -> SearchConfig:
    """The configuration of a search of 200 steps."""
    base = {
        "run": str(run),
        "seed": seed,
        "device": "cpu",
        "space": KnownAnswer(),
        "data": {**DATA, "sources": [{"task": "filter", "pairs": str(pairs)}]},
        "epochs": 2,
        "steps": 100,
        "loss": {"mse": 10, "ssim": 0, "tv": 0, "internal": 0},
        "weights": {"name": "adam", "rate": 0.1, "clip": None},
        "eigenvalue_every": 0,
    }
    return SearchConfig.model_validate(base | settings)


def gradient_settings(relaxation: str, order: str, selection: str) -> dict:
    """The settings of a search by gradient."""
    rate = 0.3 if relaxation == "sigmoid" else 0.1  # the weights of sigmoid begin at 1/2, far from a sum of 1
    alphas = {"name": "adam", "rate": rate, "betas": (0.5, 0.9)}
    return {
        **{"relaxation": {"kind": relaxation, **RELAXATIONS[relaxation]}, "order": order, "alphas": alphas},
        "method": "gradient",
        "selection": selection if selection == "argmax" else {"kind": selection, "tune_steps": 2},
    }


def found(pairs: Path, seed: int, **settings) -> int:
    """The number of the three forks that a search decides rightly."""
    with tempfile.TemporaryDirectory() as folder:
        genotype = manas.search(config(pairs, Path(folder) / "run", seed, **settings))
    return sum(genotype.choices[label] == name for label, name in RIGHT.items())


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="methods whose name holds this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods = {
        " ".join(names): gradient_settings(*names)
        for names in itertools.product(RELAXATIONS, ORDERS, SELECTIONS)
    }
    methods |= {"random": {"method": {"kind": "random", "candidates": 8}}}
    methods |= {"evolution": {"method": {"kind": "evolution", "evaluations": 100, "population": 20}}}
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_pairs(Path(folder))
        print("| method | architecture found | forks right (of 3) |\n|---|---|---|")
        for name, settings in methods.items():
            if arguments.only in name:
                right = [found(pairs, seed, **settings) for seed in range(arguments.seeds)]
                whole = sum(count == len(RIGHT) for count in right)
                print(f"| {name} | {whole} of {arguments.seeds} | {mean(right):.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
