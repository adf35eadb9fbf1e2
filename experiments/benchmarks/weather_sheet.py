"""A contact sheet of the weather generator, to be looked at beside photographs and data sets.

    python experiments/benchmarks/weather_sheet.py sheet.png [--photographs FOLDER] [--rows 4]
        [--kinds rain/falling rain/crossing snow/falling snow/storm] [--beside FOLDER ...] [--seed 0]
        [--cell 360x240]

A row is a photograph: clean, then light, medium and heavy; then one picture of each folder to compare with, if
possible of the same file name. Every kind of weather has --rows rows. Without a folder of photographs, the
built-in colour photographs are taken. Every picture is cut to the cell at its own scale, so that streaks and
flakes can be compared by size.
"""

import argparse
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather import degrade

COLOUR = ("rocket", "motorcycle_left", "astronaut")
GAP = 4
KINDS = ["rain/falling", "rain/crossing", "snow/falling", "snow/storm"]


def cell_of(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a picture (H, W, 3) uint8 in the size of a cell; a smaller picture stands on white."""
    width, height = size
    cell = np.full((height, width, 3), 255, np.uint8)
    top, left = max(0, (picture.shape[0] - height) // 2), max(0, (picture.shape[1] - width) // 2)
    cut = picture[top : top + height, left : left + width]
    cell[: cut.shape[0], : cut.shape[1]] = cut
    return np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def row_of(
    name: str, path: Path, kind: str, seed: tuple[int, int], arguments: argparse.Namespace
) -> np.ndarray:
    clean = read_image(path)
    weather, family = kind.split("/")
    scene = degrade(clean.astype(np.float32) / np.float32(255), weather, seed=seed, family=family)
    pictures = [clean, *(scene.degraded * 255 + 0.5).astype(np.uint8)]
    for folder in arguments.beside:
        others = photographs_in(folder)
        pictures.append(read_image(others.get(name) or list(others.values())[seed[1] % len(others)]))
    return np.concatenate([cell_of(picture, arguments.cell) for picture in pictures], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--beside", type=Path, nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=4, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", type=lambda text: tuple(map(int, text.split("x"))), default=(360, 240))
    arguments = parser.parse_args()
    builtin = builtin_photographs("training")
    folder = arguments.photographs
    photographs = photographs_in(folder) if folder else {name: builtin[name] for name in COLOUR}
    kinds = [kind for kind in arguments.kinds for _ in range(arguments.rows)]
    step = max(1, len(photographs) // len(kinds))
    chosen = islice(cycle(list(photographs.items())[::step]), len(kinds))
    rows = [
        row_of(name, path, kind, (arguments.seed, row), arguments)
        for row, ((name, path), kind) in enumerate(zip(chosen, kinds, strict=True))
    ]
    print(write_image(arguments.sheet, np.concatenate(rows)))


if __name__ == "__main__":
    main()
