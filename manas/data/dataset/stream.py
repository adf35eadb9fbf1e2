"""The order of backgrounds and their partition, as functions of a seed and a position alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import NamedTuple

import numpy as np

from manas.errors import ManasError


class CropKey(NamedTuple):
    """The key of one draw: a background of a source by number; `epoch` counts how often it was drawn before."""

    source: int
    epoch: int
    background: int


class Stream:
    """The endless global stream of keys, from the position `start` on every `step`-th key.

    In every turn of `sum(weights)` positions each source has as many as its weight. A source goes through its
    backgrounds in an order that changes with every epoch.
    """

    def __init__(
        self, lengths: Sequence[int], weights: Sequence[int], *, seed: int, start: int = 0, step: int = 1
    ):
        self.lengths, self.weights, self.seed, self.start, self.step = lengths, weights, seed, start, step
        # A turn has a slot for every unit of weight: the source, and the number of the slot among the source's.
        self.slots = [(source, unit) for source, weight in enumerate(weights) for unit in range(weight)]

    def __iter__(self) -> Iterator[CropKey]:
        return (self.key(position) for position in count(self.start, self.step))

    def key(self, position: int) -> CropKey:
        """The key at a position, as a pure function of the position."""
        turn, place = divmod(position, len(self.slots))
        # The order of the slots changes, so that every rank meets every source, however many ranks there are.
        source, unit = self.slots[_order((self.seed, turn), len(self.slots))[place]]
        epoch, place = divmod(turn * self.weights[source] + unit, self.lengths[source])
        return CropKey(source, epoch, int(_order((self.seed, source, epoch), self.lengths[source])[place]))


@lru_cache(maxsize=64)
def _order(key: tuple[int, ...], length: int) -> np.ndarray:
    # NumPy ignores zeros at the end of a seed, so the length tells (seed, turn) from (seed, turn, 0).
    return np.random.default_rng([*key, len(key)]).permutation(length)


def partition(identities: Sequence[Sequence[str]], share: float, seed: int) -> set[str]:
    """Draws the identities of about `share` of each source's backgrounds, at least one of each source.

    A background that several sources have is drawn for all of them or for none. The draw is the order of a
    digest of seed and identity: the order of the backgrounds has no part in it, another share takes more or
    fewer of the same order, and a further background leaves nearly all others where they were.

    Raises:
        ManasError: for a source that cannot be divided.
    """
    held: set[str] = set()
    seen: set[str] = set()
    unique = [set(names) for names in identities]
    # Small sources first: drawn after a larger one that shares its backgrounds, all or none might be left.
    for names in sorted(unique, key=lambda names: (len(names), sorted(names))):
        wanted = min(max(1, round(share * len(names))), len(names) - 1) - len(held & names)
        held.update(sorted(names - seen, key=partial(_draw, seed))[: max(wanted, 0)])
        seen |= names
    for place, names in enumerate(unique):
        if not 0 < len(held & names) < len(names):
            raise ManasError(
                f"data.sources.{place}: {len(names)} background(s) cannot be parted; give at least two that "
                "show different pictures, or more that no other source has"
            )
    return held


def _draw(seed: int, identity: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=16).digest()
