"""The identities of backgrounds: all that show one picture have the same, whatever their files and sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations_with_replacement

import numpy as np

from manas.data.archives import StoredImage
from manas.data.checking.matching import matches
from manas.data.checking.remembered import remembered, signatures
from manas.data.checking.signature import Signature


def identities(sources: Sequence[Sequence[StoredImage]]) -> list[list[str]]:
    """The identity of each background of each source, from the clean pictures of the backgrounds.

    Two backgrounds have one identity if their pixels are equal, if `matches` takes one for a copy of the other
    (encoded again, resized, mirrored or cropped), or if a chain of such backgrounds connects them. The identity
    is the least digest of pixels among them, so it depends on no name, place or order of files.

    Raises:
        ManasError: for a clean picture that cannot be decoded.
    """
    known = signatures(chain.from_iterable(sources))
    digests = {picture: found.digest.tobytes().hex() for picture, found in known.items()}
    by_digest = {digests[picture]: found for picture, found in known.items()}
    least = _least_of_connected(by_digest, _copies(by_digest))
    return [[least[digests[picture]] for picture in pictures] for pictures in sources]


def _copies(known: Mapping[str, Signature]) -> list[tuple[str, str]]:
    """The pairs of digests whose pictures are copies of each other, remembered for this set of pictures."""
    digests = sorted(known)  # one set of pictures has one order, on which a score near the limit may depend

    def find() -> dict[str, np.ndarray]:
        numbered: dict[Hashable, Signature] = {number: known[digest] for number, digest in enumerate(digests)}
        pairs = [(match.first, match.second) for match in matches(numbered, numbered)]
        return {"pairs": np.array(pairs, np.intp).reshape(-1, 2)}

    return [(digests[one], digests[other]) for one, other in remembered(("copies", *digests), find)["pairs"]]


def _least_of_connected(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The least name that each name is connected with by pairs; its own, if by none."""
    below = {name: name for name in names}

    def least(name: str) -> str:
        while below[name] != name:
            name = below[name]
        return name

    for pair in pairs:
        lesser, greater = sorted(map(least, pair))
        below[greater] = lesser
    return {name: least(name) for name in below}


def fusions(sources: Sequence[Sequence[StoredImage]], names: Sequence[Sequence[str]]) -> Iterator[str]:
    """Sentences that count the backgrounds that another file of the same or of an earlier source shows, too.

    The same file in two sources is no news and is not counted: rain and snow often fall on one folder.

    Args:
        sources: the clean pictures of each source.
        names: their `identities`.
    """
    by_identity = [_by_identity(*source) for source in zip(sources, names, strict=True)]
    for earlier, later in combinations_with_replacement(range(len(sources)), 2):
        copies = list(_copied(by_identity[later], by_identity[earlier]))
        if copies:
            picture, other = copies[0]
            yield (
                f"data.sources.{later}: {len(copies)} of its backgrounds show the same picture as others of "
                f"data.sources.{earlier} (such as {picture} and {other}); they stay in one part"
            )


def _by_identity(pictures: Sequence[StoredImage], names: Sequence[str]) -> dict[str, list[StoredImage]]:
    found: dict[str, list[StoredImage]] = defaultdict(list)
    for picture, name in zip(pictures, names, strict=True):
        found[name].append(picture)
    return dict(found)


def _copied(
    ours: Mapping[str, Sequence[StoredImage]], theirs: Mapping[str, Sequence[StoredImage]]
) -> Iterator[tuple[StoredImage, StoredImage]]:
    """Each of our pictures that another file of theirs shows, with the first such file."""
    for name, pictures in ours.items():
        for picture in pictures:
            other = next((each for each in theirs.get(name, ()) if _differ(picture, each)), None)
            if other is not None:
                yield picture, other


def _differ(one: StoredImage, other: StoredImage) -> bool:
    """Whether two pictures are not the very same part of the same file."""
    return one.half != other.half or not one.path.samefile(other.path)
