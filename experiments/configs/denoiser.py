# experiments/configs/denoiser.py
from functools import partial

from torch import nn

from manas import SearchSpace
from manas.restoration.tower import Tower


class Denoiser(SearchSpace):
    """Three convolutions whose sizes are searched; the fields of the class are its configuration."""

    width: int = 16

    def build(self, decide):
        return DenoiserTower(self.width, decide)


class DenoiserTower(Tower):
    size_multiple = 1

    def __init__(self, width, decide):
        super().__init__()
        sizes = {f"conv{k}": partial(nn.Conv2d, width, width, k, padding=k // 2) for k in (1, 3, 5)}
        self.channels = [[width]] * 3
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.layers = nn.ModuleList(decide(f"layer{n}", sizes) for n in range(3))
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def stem(self, image):
        return [self.first(image)]

    def stages(self):
        return [lambda features, image, layer=layer: [layer(features[0]).relu()] for layer in self.layers]

    def head(self, features, image):
        return image + self.last(features[0])
