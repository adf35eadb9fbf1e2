"""The published set that a folder holds, as far as names, numbers and sizes tell."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NamedTuple

from manas.data.archives.checks import Size, size_of
from manas.data.archives.index import Archive, StoredImage


class Fingerprint(NamedTuple):
    """The identity of a set.

    Attributes:
        known: the name of the published set, or None.
        digest: a digest of the names, levels and sizes of all pictures, by which two people compare their
            copies.
    """

    known: str | None
    digest: str


class Known(NamedTuple):
    """A row of the table of published sets.

    Attributes:
        layout: the name of its layout.
        backgrounds: the number of backgrounds.
        versions: the number of degraded versions of each background.
        name: the name of the set.
        padded: whether numbers are written 001; None if both ways occur.
        sizes: the sizes of its pictures, upright or lying; empty for any sizes.
    """

    layout: str
    backgrounds: int
    versions: int
    name: str
    padded: bool | None = None
    sizes: frozenset[Size] = frozenset()


_RAIN100 = frozenset({(480, 320), (481, 321)})

KNOWN = (
    Known("did_mdn", 4000, 3, "Rain1200 (DID-MDN), training set (3 x 4000)"),
    Known("did_mdn", 1200, 1, "Rain1200 (DID-MDN), test set (1200)"),
    Known("halves", 700, 1, "Rain800, training set (700)"),
    Known("halves", 100, 1, "Rain800, test set (100), also called Test100"),
    Known("halves", 1200, 1, "Rain1200 (DID-MDN), test set (1200)"),
    Known("rain100", 100, 1, "Rain100L or Rain100H, old test set (100 pairs)", True, _RAIN100),
    Known("rain100", 200, 1, "RainTrainL, old training set of Rain100L (200 pairs)", False),
    Known("rain100", 1254, 1, "RainTrainH without the 546 backgrounds of its test set (1254 pairs)", False),
    Known("rain100", 1800, 1, "RainTrainH, old training set of Rain100H (1800 pairs)", False),
    Known("rain200", 200, 1, "Rain200L or Rain200H, new test set (200 pairs)"),
    Known("rain200", 1800, 1, "Rain200L or Rain200H, new training set (1800 pairs)"),
    Known("rain100_repacked", 200, 1, "RainTrainL as AirNet and PromptIR have it (200 pairs)"),
    Known("rain100_repacked", 100, 1, "Rain100L or Rain100H, old test set, repacked (100 pairs)"),
    Known("rain1400", 900, 14, "Rain1400 (DDN), training set (900 x 14)"),
    Known("rain1400", 100, 14, "Rain1400 (DDN), test set (100 x 14)"),
    Known("rain1400", 1000, 14, "Rain14000 (DDN), whole (1000 x 14)"),
    Known("outdoor_rain", 550, 15, "Outdoor-Rain, training set without test backgrounds (8250)"),
    Known("outdoor_rain", 600, 15, "Outdoor-Rain, training set with its test backgrounds (9000)"),
    Known("outdoor_rain", 50, 15, "Outdoor-Rain, Test1 (750)"),
    Known("snow100k", 50000, 1, "Snow100K, training set (50,000)"),
    Known("snow100k", 16611, 1, "Snow100K-S, test set (16,611)"),
    Known("snow100k", 16588, 1, "Snow100K-M, test set (16,588)"),
    Known("snow100k", 16801, 1, "Snow100K-L, test set (16,801)"),
    Known("csd", 8000, 1, "CSD, training set (8000)"),
    Known("csd", 2500, 1, "CSD, SRRS or Snow100K, sample for training (2500)"),
    Known("csd", 2000, 1, "CSD, test set, or a sample of SRRS or Snow100K (2000)"),
    Known("csd", 15005, 1, "SRRS, whole (15,005)"),
    Known("folders", 12, 1, "Rain12 (12 pairs)"),
    Known("folders", 13712, 1, "Rain13K, training set (13,712 pairs)"),
    Known("folders", 100, 1, "Rain100L or Rain100H, old test set, repacked (100 pairs)", None, _RAIN100),
    Known("folders", 100, 1, "Test100, the test set of Rain800 (100 pairs)"),
    Known("folders", 2800, 1, "Test2800, of Rain14000 (2800 pairs; not the test set of DDN)"),
    Known("folders", 1200, 1, "Test1200, the test set of DID-MDN (1200 pairs)"),
    Known("folders", 18069, 1, "All-Weather, training set of TransWeather (18,069 pairs)"),
    Known("list", 18069, 1, "All-Weather, training list of TransWeather (18,069 pairs)"),
    Known("list", 16801, 1, "Snow100K-L, test list of TransWeather (16,801 pairs)"),
    Known("list", 200, 1, "RainTrainL, list of AirNet and PromptIR (200 pairs)"),
)


def fingerprint(archive: Archive) -> Fingerprint:
    """The published set that an archive is, and a digest by which copies are compared.

    Rain100L and Rain100H have the same names and sizes; the PSNR-Y of the degraded pictures tells them apart
    (26.9 dB and 13.6 dB).
    """
    known = next((row.name for row in KNOWN if _is(row, archive)), None)
    return Fingerprint(known, _digest(archive))


def _is(row: Known, archive: Archive) -> bool:
    versions = Counter(len(scene.degraded) for scene in archive.scenes)
    return (
        (row.layout, row.backgrounds) == (archive.layout, len(archive.scenes))
        and versions == {row.versions: row.backgrounds}
        and row.padded in (None, _padded(archive))
        and (not row.sizes or all(_is_one_of(size, row.sizes) for size in archive.sizes.values()))
    )


def _padded(archive: Archive) -> bool:
    """Whether a number in the names of an archive's files begins with a zero."""
    stems = (scene.clean.path.stem for scene in archive.scenes)
    numbers = (stem.lstrip("-_abcdefghijklmnopqrstuvwxyz") for stem in map(str.lower, stems))
    return any(len(number) > 1 and number.startswith("0") for number in numbers)


def _is_one_of(size: Size, sizes: frozenset[Size]) -> bool:
    return size in sizes or size[::-1] in sizes


def _digest(archive: Archive) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for scene in archive.scenes:
        roles: list[tuple[str, StoredImage]] = [("clean", scene.clean)]
        roles += [(f"degraded {level}", picture) for level, picture in scene.degraded.items()]
        roles += [(f"mask {level}", picture) for level, picture in scene.masks.items()]
        for role, picture in roles:
            size = size_of(picture, archive.sizes)
            line = (scene.name, role, picture.path.name, picture.half, size)
            digest.update(repr(line).encode())
    return digest.hexdigest()
