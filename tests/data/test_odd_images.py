"""Odd image files in data sets: loaded as what they show, or refused by name; in workers, too."""

import json
import os
import struct
import subprocess
import sys
import zlib
from itertools import islice

import numpy as np
import pytest
from data.archives.layouts import MINIATURES, content, picture
from PIL import Image

from manas.data.archives import inspect_archive, read_archive
from manas.data.checking.check import check
from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.cache import ImageCache
from manas.data.dataset.config import DataConfig, SourceConfig
from manas.data.images import write_image
from manas.errors import ManasError
from manas.evaluation.protocols import protocol_named

measure = protocol_named("derain").measure

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

GREY = picture(2, 1)  # its three channels are equal

# How a picture lies in a file of each EXIF orientation: what undoes the turn that the standard asks for.
LYING = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
QUALITY = {"jpg": {"quality": 95}, "webp": {"lossless": True}}


def saved(mode, suffix="png", **options):
    image = Image.fromarray(GREY)
    image = image.quantize() if mode == "P" else image.convert(mode)
    return suffix, lambda path: image.save(path, **options)


def turned(orientation, suffix):
    """A file that shows the picture to those alone who turn it as its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.fromarray(GREY).transpose(LYING[orientation])
    return suffix, lambda path: lying.save(path, exif=exif, **QUALITY.get(suffix, {}))


def with_alpha(path):
    opacity = Image.fromarray(np.zeros(GREY.shape[:2], np.uint8))
    image = Image.fromarray(GREY)
    image.putalpha(opacity)
    image.save(path)


def deep_grey(path):
    Image.fromarray(GREY[..., 0].astype(np.uint16) * 257).save(path)


def deep_rgb_png(path):
    """Written by hand, as Pillow cannot."""
    rows = b"".join(b"\0" + row.tobytes() for row in (GREY.astype(">u2") * 257))
    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks))


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_rgb_tiff(path):
    """The smallest TIFF file: one strip of 16-bit RGB."""
    pixels = (GREY.astype("<u2") * 257).tobytes()
    fields = [(256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 32), (279, 4, 1, len(pixels))]
    head = b"II*\0" + struct.pack("<I3H", 14 + len(pixels), 16, 16, 16)
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    path.write_bytes(head + pixels + struct.pack("<H", len(fields)) + entries + bytes(4))


LOADED = {
    **{f"exif {n}": turned(n, "jpg") for n in range(2, 9)},
    "exif of a png": turned(6, "png"),
    "exif of a tiff": turned(8, "tif"),
    "exif of a webp": turned(5, "webp"),
    "palette": saved("P"),
    "palette with transparency": saved("P", transparency=0),
    "grey": saved("L"),
    "grey jpeg": saved("L", "jpg", quality=95),
    "grey and alpha": saved("LA"),
    "alpha": ("png", with_alpha),
    "cmyk": saved("CMYK", "jpg", quality=95),
    "cmyk tiff": saved("CMYK", "tif"),
    "16-bit grey": ("png", deep_grey),
    "16-bit grey tiff": ("tif", deep_grey),
    "16-bit rgb": ("png", deep_rgb_png),
    "16-bit rgb tiff": ("tiff", deep_rgb_tiff),
}


def float_grey(path):
    Image.fromarray(GREY[..., 0].astype(np.float32)).save(path, "TIFF")


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("404: Not Found")


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)
    write_image(path, noise)
    path.write_bytes(path.read_bytes()[:-400])


REFUSED = {
    "float": ("tif", float_grey),
    "zero bytes": ("png", empty),
    "text": ("jpg", text),
    **{f"truncated {suffix}": (suffix, truncated) for suffix in ("png", "jpg", "tif", "webp", "bmp")},
}

LAYOUTS = ("rain100 test", "rain200", "rain1400", "outdoor_rain", "snow100k test", "csd", "rain12", "levels")


class Swapped:
    """A miniature whose second scene has now one, now another odd file as its first degraded picture."""

    def __init__(self, name, folder):
        self.root = MINIATURES[name]().write(folder)
        self.path = next(iter(read_archive(self.root).scenes[1].degraded.values())).path

    def put(self, suffix, save):
        """Puts a file, instead of the last one; returns its path."""
        self.path.unlink()
        self.path = self.path.with_suffix(f".{suffix}")
        save(self.path)
        return self.path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_the_same(layout, tmp_path):
    swapped = Swapped(layout, tmp_path)
    for name, odd in LOADED.items():
        path = swapped.put(*odd)
        archive = read_archive(swapped.root)
        assert next(iter(archive.scenes[1].degraded.values())).path == path
        crop = opened(swapped.root).crop(1, 32, np.random.default_rng(0), augment=False)
        assert content(255 * crop.degraded[0]) == (2, 1), name
        assert np.abs(255 * crop.degraded[0] - GREY).mean() < 3, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_refuses_the_same_by_name(layout, tmp_path):
    swapped = Swapped(layout, tmp_path)
    for name, odd in REFUSED.items():
        path = swapped.put(*odd)
        with pytest.raises(ManasError, match="cannot read") as error:
            opened(swapped.root).crop(1, 16, np.random.default_rng(0), augment=False)
        assert str(path) in str(error.value), name
        (problem,) = check(inspect_archive(swapped.root), measure, scored=0).problems
        assert (problem.kind, problem.path) == ("unreadable", path), name


def opened(root):
    levels = read_archive(root).levels
    return SourceConfig(task="derain", pairs=str(root)).open(len(levels), ImageCache(0))


@pytest.fixture
def odd_pairs(tmp_path):
    """A data set whose every degraded picture is odd in another way."""
    for place, (suffix, save) in enumerate(LOADED.values()):
        write_image(tmp_path / "gt" / f"{place:02}.png", picture(place))  # equal ones were one background
        (tmp_path / "in").mkdir(exist_ok=True)
        save(tmp_path / "in" / f"{place:02}.{suffix}")
    return tmp_path


def backgrounds(root, **changes):
    source = SourceConfig(task="derain", pairs=str(root))
    small = {"versions": 1, "patch": 32, "batch": 2, "workers": 1, "validation_patch": 32}
    config = DataConfig(sources=(source,), **small | changes)
    return Backgrounds(config, ("derain",), seed=0, held_share=0.5)


def test_a_worker_loads_them(odd_pairs):
    half = len(LOADED) // 2
    seen = 0
    for part in ("kept", "held"):
        for batch in islice(backgrounds(odd_pairs).batches(part), half // 2):
            for image in 255 * batch.degraded[:, 0].permute(0, 2, 3, 1).numpy():
                seen += any(
                    content(np.rot90(each, turns)) == (2, 1)
                    for each in (image, image.swapaxes(0, 1))
                    for turns in range(4)
                )
    assert seen == 2 * (half // 2 * 2)


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith("truncated") or name == "float"])
def test_a_worker_names_the_file_that_it_cannot_read(name, tmp_path):
    """Header and size are right, so that only the worker finds it."""
    swapped = Swapped("rain12", tmp_path)
    path, root = swapped.put(*REFUSED[name]), swapped.root
    batches = (batch for part in ("kept", "held") for batch in islice(backgrounds(root).batches(part), 2))
    with pytest.raises(ManasError, match="cannot read") as error:
        list(batches)
    assert str(path) in str(error.value)
    assert "Traceback" not in str(error.value)


SCRIPT = """
import hashlib, json, multiprocessing, sys
from itertools import islice

from manas.data.dataset.backgrounds import Backgrounds
from manas.data.dataset.config import DataConfig
from manas.data.dataset.config import SourceConfig
from manas.errors import ManasError


def digests(sources, workers):
    small = {"versions": 1, "patch": 32, "batch": 2, "validation_patch": 32}
    data = Backgrounds(
        DataConfig(sources=sources, workers=workers, **small), ("derain",), seed=0, held_share=0.2
    )
    found = []
    try:
        for batch in islice(data.batches("kept"), 100):
            found.append(hashlib.sha256(b"".join(each.numpy().tobytes() for each in batch)).hexdigest())
    except ManasError as error:
        found.append(str(error))
    return found


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    pairs = SourceConfig(task="derain", pairs=sys.argv[1])
    rain = SourceConfig(task="derain", weather="rain", photographs=sys.argv[1] + "/gt")
    print(json.dumps([digests((pairs, rain), workers) for workers in (0, 1)]))
"""


def test_a_spawned_worker(odd_pairs, tmp_path_factory):
    """As on Windows and macOS: all that a worker needs is pickled, and the file is named all the same."""
    script = tmp_path_factory.mktemp("spawn") / "script.py"
    script.write_text(SCRIPT)
    broken = odd_pairs / "in" / "15.png"
    broken.write_bytes(broken.read_bytes()[:-60])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, script, odd_pairs]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    alone, spawned = json.loads(done.stdout)
    assert alone == spawned
    *batches, error = alone
    assert 0 < len(batches) < 100
    assert f"{broken}: cannot read it as an image" in error
