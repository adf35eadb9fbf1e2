"""The idea of manas at one sitting: search, derive, retrain, score; it imports nothing of manas.

    python docs/minimanas.py

A search space is a program that builds a network and asks `decide` at every fork. `relaxed` answers with a
`Choice`, all candidates mixed by softmax(alpha): the supernet. `fixed` answers with one candidate: the derived
network. It is the same program, so that the two cannot drift apart.

Several rainy versions of one background are restored together (multi-to-one): each towards the background, and
all towards each other. The weights learn on one part of the backgrounds, the alphas on another.

The last lines put random architectures beside the found one, as every claim about a search should. At this size
the search is no better than they are.

What is left out here, and is in manas: other relaxations and second order, what an architecture costs, several
scales, one tower a task with stitches between them, real data, everything that can go wrong.
"""

import json
import random
import sys
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import convolve
from skimage import data
from torch import nn

# The space ----------------------------------------------------------------------------------------------------


class ChannelAttention(nn.Module):
    """Squeeze and excitation (Hu et al., CVPR 2018)."""

    def __init__(self, width):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.weigh(x.mean((2, 3)))[:, :, None, None]


def residual(width, size, dilation=1, groups=1):
    first = nn.Conv2d(width, width, size, padding=size // 2 * dilation, dilation=dilation, groups=groups)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(width, width, 1))


# None of them does nothing: a search that may skip a layer likes to, and finds networks that are too shallow.
CANDIDATES = {
    "attention": ChannelAttention,
    "conv_3x3": partial(residual, size=3),
    "dilated_conv_3x3": partial(residual, size=3, dilation=2),
    "depthwise_conv_5x5": lambda width: residual(width, 5, groups=width),
}


class Network(nn.Module):
    """(B, 3, H, W) -> (B, 3, H, W); six forks in a row, on the image unshuffled by two."""

    def __init__(self, decide, width=16, layers=6):
        super().__init__()
        candidates = {name: partial(build, width) for name, build in CANDIDATES.items()}
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        self.layers = nn.ModuleList(decide(f"layer{n}", candidates) for n in range(layers))
        self.head = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, image):
        x = self.stem(F.pixel_unshuffle(image, 2))
        for layer in self.layers:
            x = x + layer(x)
        return image + F.pixel_shuffle(self.head(x), 2)


# What decide may answer ---------------------------------------------------------------------------------------


class Choice(nn.Module):
    """All candidates of a fork, mixed by softmax(alpha) (DARTS, Liu et al., ICLR 2019)."""

    def __init__(self, label, candidates):
        super().__init__()
        self.label, self.names = label, list(candidates)
        self.candidates = nn.ModuleList(build() for build in candidates.values())
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(candidates)))

    def forward(self, x):
        weights = self.alpha.softmax(0)
        return sum(w * candidate(x) for w, candidate in zip(weights, self.candidates, strict=True))


def relaxed(label, candidates):
    """All candidates of a fork."""
    return Choice(label, candidates)


def fixed(genotype):
    """The one candidate of a fork that a genotype names, and nothing else."""
    return lambda label, candidates: candidates[genotype[label]]()


# The data -----------------------------------------------------------------------------------------------------


def rainy(clean, rng):
    """A background (H, W, 3) in [0, 1] under streaks that are one blurred spark each."""
    sparks = (rng.random(clean.shape[:2]) < rng.uniform(0.004, 0.02)).astype(np.float32)
    length, slant = rng.integers(7, 15), rng.uniform(-0.4, 0.4)
    streak = np.zeros((length, length), np.float32)
    for row in range(length):
        streak[row, round(length // 2 + slant * (row - length // 2))] = 1
    return np.clip(clean + 0.6 * np.clip(convolve(sparks, streak), 0, 1)[..., None], 0, 1)


def batch(backgrounds, rng, size=48, count=4, versions=2):
    """Crops: degraded (B, K, 3, P, P) and clean (B, 3, P, P)."""
    degraded, clean = [], []
    for _ in range(count):
        image = backgrounds[rng.integers(len(backgrounds))]
        top, left = (rng.integers(side - size) for side in image.shape[:2])
        crop = image[top : top + size, left : left + size]
        clean.append(crop)
        degraded.append(np.stack([rainy(crop, rng) for _ in range(versions)]))
    as_tensor = lambda images: torch.from_numpy(np.stack(images)).float().movedim(-1, -3)  # noqa: E731
    return as_tensor(degraded), as_tensor(clean)


# The search and the retraining --------------------------------------------------------------------------------


def loss(network, degraded, clean):
    """External: every version towards its background. Internal: its versions towards each other."""
    restored = network(degraded.flatten(0, 1)).unflatten(0, degraded.shape[:2])
    internal = (restored - restored.mean(1, keepdim=True)).square().mean()
    return (restored - clean[:, None]).abs().mean() + internal


def search(kept, held, steps, rng):
    """Takes turns, the weights on `kept` backgrounds and the alphas on `held` ones; returns a genotype."""
    supernet = Network(relaxed)
    forks = [module for module in supernet.modules() if isinstance(module, Choice)]
    alphas = [fork.alpha for fork in forks]
    weights = [p for p in supernet.parameters() if not any(p is alpha for alpha in alphas)]
    turns = [
        (torch.optim.Adam(weights, 2e-3), kept),
        (torch.optim.Adam(alphas, 3e-2, betas=(0.5, 0.999)), held),
    ]
    for step in range(steps):
        for optimiser, backgrounds in turns if step >= steps // 4 else turns[:1]:  # the alphas wait at first
            optimiser.zero_grad()
            loss(supernet, *batch(backgrounds, rng)).backward()
            optimiser.step()
    return {fork.label: fork.names[fork.alpha.argmax()] for fork in forks}


def retrain(genotype, backgrounds, steps, rng):
    network = Network(fixed(genotype))
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(network, *batch(backgrounds, rng)).backward()
        optimiser.step()
        schedule.step()
    return network


@torch.no_grad()
def psnr(network, backgrounds, crops=40):
    degraded, clean = batch(backgrounds, np.random.default_rng(9), size=96, count=crops, versions=1)
    error = (network(degraded[:, 0]).clamp(0, 1) - clean).square().mean((1, 2, 3))
    return (-10 * error.log10()).mean().item()


def main(steps=400):
    torch.manual_seed(0)
    photographs = [image() / 255 for image in (data.astronaut, data.coffee, data.rocket, data.chelsea)]
    *backgrounds, unseen = photographs
    genotype = search(backgrounds[:2], backgrounds[2:], steps, np.random.default_rng(0))
    print(json.dumps(genotype, indent=2))
    rows = {"searched": genotype}
    for seed in range(3):
        draw = random.Random(seed)
        rows[f"random {seed}"] = {label: draw.choice(list(CANDIDATES)) for label in genotype}
    print(f"rainy     {psnr(nn.Identity(), [unseen]):.2f} dB")
    for name, choices in rows.items():
        network = retrain(choices, backgrounds, steps, np.random.default_rng(1))
        print(f"{name:9} {psnr(network, [unseen]):.2f} dB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
