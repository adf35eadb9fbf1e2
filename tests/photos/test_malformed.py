"""Hundreds of malformed files among good ones: the good are restored, the bad named, nothing is left over."""

import struct
import time
import zlib

import numpy as np
import pytest

from manas.inference.restorer import Restorer
from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.metadata import Metadata
from manas.photos.picture import Picture

SUFFIXES = ("png", "jpg", "webp", "bmp", "tif")
OF_EACH = 60  # 300 in all
LONGEST = 60  # seconds; what hangs takes forever


def originals(folder):
    """One good picture of every format, with metadata and of 16 bit where that can be."""
    row, column = np.mgrid[:30, :34]
    values = np.stack([2111 * row, 1873 * column, 911 * (row + column)], axis=-1).astype(np.uint16)
    for suffix in SUFFIXES:
        deep = suffix in ("png", "tif")
        metadata = Metadata(xmp=b"<x/>", dpi=(300, 300), text={"Comment": "rain"}, exif=None)
        pixels = values if deep else (values >> 8).astype(np.uint8)
        encode(Picture(pixels, metadata=metadata), folder / f"good.{suffix}")
    encode(Picture((values >> 8).astype(np.uint8)), folder / "good8.png")
    return sorted(folder.iterdir())


def truncated(whole, draw):
    return whole[: int(len(whole) * draw.uniform(0.02, 0.6))]


def flipped(whole, draw):
    content = bytearray(whole)
    for place in draw.integers(0, len(content), draw.integers(1, 9)):
        content[place] ^= 1 << draw.integers(0, 8)
    return bytes(content)


def flipped_in_its_header(whole, draw):
    content = bytearray(whole)
    for place in draw.integers(0, min(64, len(content)), 3):
        content[place] = draw.integers(0, 256)
    return bytes(content)


def cut_out(whole, draw):
    start, stop = sorted(draw.integers(0, len(whole), 2))
    return whole[:start] + whole[stop:]


def shuffled(whole, draw):
    return whole[:8] + bytes(draw.permutation(np.frombuffer(whole[8:], np.uint8)))


def empty(whole, draw):
    return b""


def text(whole, draw):
    return b"this is no picture\n" * draw.integers(1, 99)


def noise(whole, draw):
    return draw.bytes(draw.integers(1, 2000))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, stream):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def absurd(whole, draw):
    """A header that claims more than any machine has."""
    return png(2**31 - 1, 2**31 - 1, zlib.compress(b""))


def large(whole, draw):
    """A header that claims less than the limit, and nothing behind it."""
    return png(6000, 6000, zlib.compress(b""))


def bomb(whole, draw):
    """Ten million zeros in ten kilobytes, of a picture of a billion pixels."""
    return png(40_000, 30_000, zlib.compress(bytes(10_000_000)))


ALWAYS_BAD = (truncated, empty, text, noise, absurd, large, bomb)
SOMETIMES_BAD = (flipped, flipped_in_its_header, cut_out, shuffled)


@pytest.fixture
def folder(tmp_path):
    """300 malformed files, and good ones between."""
    draw = np.random.default_rng(0)
    (tmp_path / "originals").mkdir()
    (tmp_path / "in").mkdir()
    for original in originals(tmp_path / "originals"):
        (tmp_path / "in" / original.name).write_bytes(original.read_bytes())
    for suffix in SUFFIXES:
        whole = (tmp_path / "originals" / f"good.{suffix}").read_bytes()
        for place in range(OF_EACH):
            kinds = SOMETIMES_BAD if place % 2 else ALWAYS_BAD
            change = kinds[place // 2 % len(kinds)]
            content = change(whole, draw)
            (tmp_path / "in" / f"{place:02}_{change.__name__}.{suffix}").write_bytes(content)
    return tmp_path / "in"


def invert(pixels, progress=None):
    return np.iinfo(pixels.dtype).max - pixels


def test_good_files_are_restored_and_bad_ones_named(folder, run, tmp_path, monkeypatch):
    monkeypatch.setattr(Restorer, "load", lambda *_, **__: invert)
    started = time.monotonic()
    code, out, err = run("restore", folder, "-o", tmp_path / "out", "--model", "any")
    assert time.monotonic() - started < LONGEST
    assert code == 1

    sources = sorted(folder.iterdir())
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {line.split("/")[-1] for line in out.splitlines()} == written
    named = {line.partition(":")[0] for line in err.splitlines() if line.startswith(str(folder))}
    bad = {path.name for path in sources if str(path) in named}
    assert bad | written == {path.name for path in sources}
    assert not bad & written
    assert f"{len(bad)} of {len(sources)} files" in err

    for path in sources:
        kind = path.stem.partition("_")[2]
        if path.stem.startswith("good"):
            assert path.name in written
        if kind in {change.__name__ for change in ALWAYS_BAD}:
            assert path.name in bad
    for name in written:
        assert decode(tmp_path / "out" / name).pixels.shape == decode(folder / name).pixels.shape


def test_both_happen(folder):
    """The mutations are worth their while: of those that may decode some do, and some do not."""
    outcomes = set()
    for path in folder.glob("*_flipped*"):
        try:
            decode(path)
            outcomes.add("good")
        except ValueError:
            outcomes.add("bad")
    assert outcomes == {"good", "bad"}
