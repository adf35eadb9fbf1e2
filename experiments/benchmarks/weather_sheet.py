"""A contact sheet of the weather generator, to be looked at beside photographs and data sets.

    python experiments/benchmarks/weather_sheet.py sheet.png [--photographs FOLDER] [--weather rain]
        [--family mixed] [--beside FOLDER ...] [--rows 4] [--seed 0] [--cell 360x240]

A row is a photograph: clean, then light, medium and heavy; then one picture of each folder to compare with, the
one of the same file name where there is one. With no folder of photographs, the built-in ones are taken. Every
picture is cut to the cell at its own scale, so that streaks and flakes can be compared by size.
"""

import argparse
from pathlib import Path

import numpy as np

from manas.data.images import read_image, write_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather import WEATHERS, degrade

GAP = 4


def cell_of(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a picture (H, W, 3) uint8, on white where it is smaller than the cell."""
    width, height = size
    cell = np.full((height, width, 3), 255, np.uint8)
    top, left = max(0, (picture.shape[0] - height) // 2), max(0, (picture.shape[1] - width) // 2)
    cut = picture[top : top + height, left : left + width]
    cell[: cut.shape[0], : cut.shape[1]] = cut
    return np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def row_of(name: str, path: Path, row: int, arguments: argparse.Namespace) -> np.ndarray:
    clean = read_image(path)
    scene = degrade(
        clean.astype(np.float32) / np.float32(255),
        arguments.weather,
        seed=(arguments.seed, row),
        family=arguments.family,
        nested=not arguments.independent,
    )
    pictures = [clean, *(scene.degraded * 255 + 0.5).astype(np.uint8)]
    for folder in arguments.beside:
        found = photographs_in(folder)
        pictures.append(read_image(found.get(name) or list(found.values())[row % len(found)]))
    return np.concatenate([cell_of(picture, arguments.cell) for picture in pictures], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weather", choices=WEATHERS, default="rain")
    parser.add_argument("--family", default="mixed")
    parser.add_argument("--independent", action="store_true", help="every level is a draw of its own")
    parser.add_argument("--beside", type=Path, nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", type=lambda text: tuple(map(int, text.split("x"))), default=(360, 240))
    arguments = parser.parse_args()
    folder = arguments.photographs
    photographs = photographs_in(folder) if folder else builtin_photographs("training")
    chosen = list(photographs.items())[:: max(1, len(photographs) // arguments.rows)][: arguments.rows]
    rows = [row_of(name, path, row, arguments) for row, (name, path) in enumerate(chosen)]
    print(write_image(arguments.sheet, np.concatenate(rows)))


if __name__ == "__main__":
    main()
