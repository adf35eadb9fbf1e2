"""Networks with every way of looking at an image, small enough for tests.

Others import it as `inference.tiny_networks`: the folder of the top conftest is on the path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from training.tiny_runs import tower

from manas.architecture.genotype import Genotype
from manas.restoration.network import RestorationSpace
from manas.restoration.pooling import image_maximum, image_mean
from search_spaces.multi_scale_attentive.gates import PUBLISHED_GATES


class Squashed(nn.Module):
    """The fused restoration, squashed into ]0, 1[ so that clamping hides nothing; counts its runs."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.runs = network, 0

    def forward(self, image: Tensor) -> Tensor:
        self.runs += 1
        return self.network(image).fused.sigmoid()


class PoolsTwice(nn.Module):
    """A mean, and a maximum that is only known behind it; nothing farther than two pixels is seen.

    Attributes:
        runs: how often it was begun.
        ends: how often it was run to its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.runs = self.ends = 0

    def forward(self, image: Tensor) -> Tensor:
        self.runs += 1
        x = self.first(image)
        x = x * (4 * image_mean(x)).exp()[:, :, None, None]
        x = self.second(x)
        x = x * image_maximum(x).sigmoid()[:, :, None, None]
        self.ends += 1
        return x.sigmoid()


def pools_twice() -> PoolsTwice:
    """With random weights that are always the same."""
    torch.manual_seed(1)
    return PoolsTwice().eval()


def local_stack(radius: int) -> nn.Sequential:
    """3 x 3 convolutions: nothing farther than `radius` pixels is seen; images in [0, 1] come out."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(radius):
        layers += [nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid()).eval()


@cache
def restoration(
    randomised: Callable[[nn.Module], nn.Module],
    seed: int,
    gate: str | None = None,
    *,
    towers: int = 1,
    norm: str = "batch",
    shuffle: int = 1,
) -> nn.Module:
    """A restoration network with random weights: of a random genotype, or with one gate on every edge."""
    options = {"attention": {"groups": 1, "gates": list(PUBLISHED_GATES)}, "norm": norm, "shuffle": shuffle}
    options["stem"] = {"expansion": 2 * shuffle**2}
    tasks = ("derain", "desnow")[:towers]
    genotype = Genotype.sample(RestorationSpace(towers={task: tower(**options) for task in tasks}), seed)
    if gate is not None:
        choices = {label: gate if "/node" in label else name for label, name in genotype.choices.items()}
        genotype = Genotype(space=genotype.space, choices=choices)
    torch.manual_seed(seed)
    network = randomised(genotype.network()).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data.abs_()  # so that its one hidden unit is not dead, and what is pooled matters
    return network


def uneven(*shape: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1], dark on the left and bright on the right, so that no tile is as all."""
    return torch.rand(shape) * torch.linspace(0.05, 1, shape[-1])
