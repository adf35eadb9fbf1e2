"""Spaces small enough to enumerate, whose forks stand inside the candidates of other forks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partial
from typing import Literal

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from manas.architecture.decide import Decide
from manas.architecture.space import SearchSpace
from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive


class Block(BaseModel):
    """A convolution of `size` (0: none), then forks; each fork is a tuple of candidate blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Literal[0, 1, 3, 5] = 1
    forks: tuple[tuple[Block, ...], ...] = ()


class Tree(SearchSpace):
    """A block with the forks inside its forks: labels ``fork0``, ``fork0/c1/fork0``, ..."""

    root: Block

    def build(self, decide: Decide) -> nn.Module:
        return BlockModule(self.root, decide, "")


class BlockModule(nn.Module):
    """(B, 3, H, W) -> (B, 3, H, W)"""

    def __init__(self, block: Block, decide: Decide, prefix: str):
        super().__init__()
        self.own = nn.Sequential(*_layers(block.size))
        self.forks = nn.ModuleList(
            decide(
                f"{prefix}fork{n}",
                {
                    f"c{k}": partial(BlockModule, candidate, decide, f"{prefix}fork{n}/c{k}/")
                    for k, candidate in enumerate(candidates)
                },
            )
            for n, candidates in enumerate(block.forks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.own(x)
        for fork in self.forks:
            x = x + fork(x)
        return x


def _layers(size: int) -> list[nn.Module]:
    return [nn.Conv2d(3, 3, size, padding=size // 2), nn.BatchNorm2d(3), nn.Tanh()] if size else []


def architectures(block: Block, prefix: str = "") -> Iterator[dict[str, str]]:
    """Every architecture of a tree, counted from its description alone."""
    of_each_fork = [
        [
            {f"{prefix}fork{n}": f"c{k}", **inside}
            for k, candidate in enumerate(candidates)
            for inside in architectures(candidate, f"{prefix}fork{n}/c{k}/")
        ]
        for n, candidates in enumerate(block.forks)
    ]
    for parts in itertools.product(*of_each_fork):
        yield {label: name for part in parts for label, name in part.items()}


def labels_of(block: Block, prefix: str = "") -> Iterator[str]:
    """Every label of a tree, outer before inner."""
    for n, candidates in enumerate(block.forks):
        yield f"{prefix}fork{n}"
        for k, candidate in enumerate(candidates):
            yield from labels_of(candidate, f"{prefix}fork{n}/c{k}/")


def trees(max_architectures: int = 150) -> st.SearchStrategy[Tree]:
    """Random trees with few architectures."""
    sizes = st.sampled_from([0, 1, 3])
    blocks = st.recursive(
        st.builds(Block, size=sizes),
        lambda inner: st.builds(
            Block,
            size=sizes,
            forks=st.lists(st.lists(inner, min_size=1, max_size=3).map(tuple), max_size=2).map(tuple),
        ),
        max_leaves=8,
    )
    few = blocks.filter(lambda block: sum(1 for _ in architectures(block)) <= max_architectures)
    return st.builds(Tree, root=few)


# Two forks at the top; the second candidate of the first holds two forks, one of which holds a third.
NESTED = Tree(
    root=Block(
        size=3,
        forks=(
            (
                Block(size=1),
                Block(
                    size=0,
                    forks=(
                        (Block(size=0), Block(size=3)),
                        (Block(size=5), Block(size=1, forks=((Block(size=1), Block(size=3)),))),
                    ),
                ),
            ),
            (Block(size=0), Block(size=1), Block(size=5)),
        ),
    )
)


class FirstIsFork(SearchSpace):
    """A network that is nothing but a fork, with a fork as a candidate."""

    def build(self, decide: Decide) -> nn.Module:
        inner = {"small": partial(nn.Conv2d, 3, 3, 1), "large": partial(nn.Conv2d, 3, 3, 3, padding=1)}
        return decide("body", {"skip": nn.Identity, "convolution": lambda: decide("body/size", inner)})


class OwnTower(MultiScaleAttentive):
    """A user's own space, which no entry point names."""

    channels: tuple[int, ...] = (8, 12)
    columns: tuple[int, ...] = (1,)


def node_in(label: str) -> str | None:
    """The node that the label of a toy names: ``.../node1`` of ``.../node1/input``."""
    named = re.fullmatch(r"(.*\bnode\d+)/[^/]+", label)
    return named and named[1]


class Plain(SearchSpace):
    """A hand-made network: no forks."""

    width: int = 4

    def build(self, decide: Decide) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, self.width, 3, padding=1), nn.ReLU(), nn.Conv2d(self.width, 3, 1))


class Times(nn.Module):
    """x -> factor x; remembers that it was built."""

    built: list[float] = []

    def __init__(self, factor):
        super().__init__()
        self.built.append(factor)
        self.factor = factor

    def forward(self, x):
        return self.factor * x
