"""Miniatures of the published layouts: few scenes, small images that say which scene and level they show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manas.data.images import write_image

SIDE = 32
SQUARE = 8  # of one value each, as JPEG's blocks are
CLEAN_LEVEL = 0


def picture(scene: int, level: int = CLEAN_LEVEL, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """(H, W, 3) uint8: scene and level as values of two squares, below them a texture of the scene.

    A degraded one (level > 0) has bright, upright streaks on the texture.
    """
    height, width = size
    texture = np.random.default_rng(scene).integers(20, 120, (height // 8 + 1, width // 8 + 1, 1))
    image = np.repeat(np.repeat(np.repeat(texture, 8, 0), 8, 1)[:height, :width], 3, 2).astype(np.uint8)
    if level:
        image[SQUARE:, ::4] = np.minimum(image[SQUARE:, ::4] + 60, 255)
    image[:SQUARE, :SQUARE] = 5 * (scene % 50)
    image[:SQUARE, SQUARE : 2 * SQUARE] = 10 * level
    return image


def content(image: np.ndarray) -> tuple[int, int]:
    """The scene, modulo 50, and the level that a picture shows."""
    scene, level = (image[1:7, left + 1 : left + 7].mean() for left in (0, SQUARE))
    return round(scene / 5), round(level / 10)


def halves(scene: int, level: int, degraded: str = "left") -> np.ndarray:
    """Degraded and clean, side by side."""
    pair = [picture(scene, level), picture(scene)]
    return np.concatenate(pair if degraded == "left" else pair[::-1], axis=1)


@dataclass(frozen=True)
class Miniature:
    """A layout in small.

    Attributes:
        layout: what it is to be recognised as.
        files: every image by its path within the root.
        levels: by name, in their order; `content` gives their places, counted from 1.
        given: what of the root to give, where that is not the root.
        texts: further files.
    """

    layout: str
    files: Mapping[str, np.ndarray]
    levels: tuple[str, ...]
    scenes: tuple[int, ...]
    given: str = "."
    texts: Mapping[str, str] | None = None

    def write(self, folder: Path) -> Path:
        """Writes it, and returns the root to give to `read_archive`."""
        for name, image in self.files.items():
            write_image(folder / name, image)
        for name, text in (self.texts or {}).items():
            (folder / name).write_text(text)
        (folder / ".hidden.png").touch()
        (folder / "Thumbs.db").touch()
        return folder / self.given


def did_mdn(below: str = "train2018new") -> Miniature:
    levels = ("light", "medium", "heavy")
    files = {
        f"Rain_{level.title()}/{below}/{n}.jpg": halves(n, place)
        for place, level in enumerate(levels, 1)
        for n in (1, 2, 10)
    }
    return Miniature("did_mdn", files, levels, (1, 2, 10))


def flat_halves(side: str) -> Miniature:
    files = {f"{n}.jpg": halves(n, 1, side) for n in (1, 2, 3, 10)}
    return Miniature("halves", files, ("rainy",), (1, 2, 3, 10))


def one_folder(clean: str, rainy: str) -> Miniature:
    files = {clean.format(n): picture(n) for n in (1, 2, 10)}
    files |= {rainy.format(n): picture(n, 1) for n in (1, 2, 10)}
    files |= {f"{kind}-{n}.png": picture(n, 2) for kind in ("rainstreak", "rainregion") for n in (1, 2)}
    return Miniature("rain100", files, ("rainy",), (1, 2, 10))


def folders(layout: str, clean: str, *degraded: str, numbers: tuple[int, ...] = (1, 2, 10)) -> Miniature:
    """Names such as ``gt/norain-{}.png`` and ``rain/X2/norain-{}x2.png``; a level is the first folder."""
    files = {clean.format(n): picture(n) for n in numbers}
    for place, name in enumerate(degraded, 1):
        files |= {name.format(n): picture(n, place) for n in numbers}
    named = tuple(name.split("/")[0].lower().replace(" ", "_") for name in degraded)
    return Miniature(layout, files, named, numbers)


def rain1400(clean: str = "ground_truth", rainy: str = "rainy_image") -> Miniature:
    files = {f"{clean}/{n}.jpg": picture(n) for n in (901, 902)}
    files |= {f"{rainy}/{n}_{j}.jpg": picture(n, j) for n in (901, 902) for j in range(1, 15)}
    return Miniature("rain1400", files, tuple(map(str, range(1, 15))), (901, 902))


OUTDOOR_LEVELS = tuple(f"s{s}_a{a:02}" for s in (80, 85, 90, 95, 100) for a in (4, 5, 6))


def outdoor_rain(*numbers: int) -> Miniature:
    files = {f"gt/im_{n:04}.png": picture(n) for n in numbers}
    files |= {
        f"in/im_{n:04}_{level}.png": picture(n, place)
        for n in numbers
        for place, level in enumerate(OUTDOOR_LEVELS, 1)
    }
    return Miniature("outdoor_rain", files, OUTDOOR_LEVELS, numbers)


def snow(layout: str, root: str, clean: str, degraded: str, mask: str, suffix: str) -> Miniature:
    names = {clean: 0, degraded: 1, mask: 2}
    files = {
        f"{root}/{folder}/{n}.{suffix}": picture(n, level)
        for folder, level in names.items()
        for n in (1, 2, 10)
    }
    return Miniature(layout, files, (degraded.lower(),), (1, 2, 10), given=root)


def listed(lines: str, clean: str, degraded: str) -> Miniature:
    pairs = folders("list", clean, degraded)
    text = "# a comment\n\n" + "".join(lines.format(n) + "\n" for n in pairs.scenes)
    return Miniature("list", pairs.files, pairs.levels, pairs.scenes, "pairs.txt", {"pairs.txt": text})


MINIATURES: dict[str, Callable[[], Miniature]] = {
    "did_mdn": did_mdn,
    "did_mdn augmented": lambda: did_mdn("data_augment/train2018new"),
    "did_mdn flat": lambda: did_mdn("."),
    "rain800 left": lambda: flat_halves("left"),
    "rain800 right": lambda: flat_halves("right"),
    "rain100 training": lambda: one_folder("norain-{}.png", "rain-{}.png"),
    "rain100 padded": lambda: one_folder("norain-{:03}.png", "rain-{:03}.png"),
    "rain100 test": lambda: one_folder("norain-{:03}.png", "rainy/rain-{:03}.png"),
    "in and gt": lambda: one_folder("{:03}_GT.png", "{:03}_in.png"),
    "rain200": lambda: folders("rain200", "norain/norain-{}.png", "rain/X2/norain-{}x2.png"),
    "rain100 repacked": lambda: folders("rain100_repacked", "gt/norain-{}.png", "rainy/rain-{}.png"),
    "rain12": lambda: folders("folders", "target/{}.png", "input/{}.png"),
    "rain1400": rain1400,
    "rain1400 spaced": lambda: rain1400("ground truth", "Rainy Image"),
    "rain13k": lambda: folders("folders", "target/{}.jpg", "input/{}.jpg"),
    "outdoor_rain": lambda: outdoor_rain(1, 2),
    "outdoor_rain test": lambda: outdoor_rain(301, 302),
    "snow100k training": lambda: snow("snow100k", "all", "gt", "synthetic", "mask", "jpg"),
    "snow100k test": lambda: snow("snow100k", "Snow100K-L", "gt", "synthetic", "mask", "jpg"),
    "csd": lambda: snow("csd", "Train", "Gt", "Snow", "Mask", "tif"),
    "levels": lambda: folders(
        "folders", "Clean/{:03}.PNG", "light/{}.png", "medium/{}.jpg", "heavy/{:02}.tiff", "fog/{}.bmp"
    ),
    "list of one column": lambda: listed("input/{}.png", "gt/{}.png", "input/{}.png"),
    "list with dots": lambda: listed("./input/{}.png", "target/{}.png", "input/{}.png"),
    "list of two columns": lambda: listed("/a b/x{0}.png\tc/{0}.png", "c/{}.png", "a b/x{}.png"),
    "list of rain100": lambda: listed("rainy/rain-{}.png", "gt/norain-{}.png", "rainy/rain-{}.png"),
}
