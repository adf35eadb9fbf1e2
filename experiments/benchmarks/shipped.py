"""The network that comes with the package, on pictures that it has not seen; beside others, if given.

    python experiments/benchmarks/shipped.py PAIRS [--masks MASKS] [--model FILE ...] [--photographs FOLDER]

PAIRS is a set of rainy pairs with the levels light and heavy (rain100). Snow is composed on its clean scenes
from opacity masks (Snow100K's, three grey pictures: x (1 - m) + m), each scene with a part of each mask of its
own. The clean scenes are restored, too, and compared with themselves. Printed are

- PSNR-Y and SSIM before and after, by the protocol `derain`, of every model, the shipped one unless --model is
  given; the scores of each are kept in the folder of runs, for its card;
- the seconds of a picture of 480x320 and of one megapixel, on one thread and on all;
- what tiles cost that know nothing of each other, as other programs make them: 512 pixels with 32 of overlap,
  mixed linearly, by the differences to the whole in levels of 255, on photographs under heavy rain and snow.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch
from folds import put

import manas
from manas.data.archives import read_archive
from manas.data.images import as_bytes, as_floats, read_image, write_image
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather.scene import seed_of
from manas.evaluation.results import score_table
from manas.evaluation.scenes import generated_scenes

SIZES = {"480x320": (320, 480), "1 megapixel": (816, 1224)}
ROUNDS = 5
TILE, OVERLAP = 512, 32


def scenes_with_snow(pairs: Path, masks: Path | None, folder: Path) -> Path:
    """A folder of clean/ and of each level: of the pairs, of each mask, and the clean scenes once more."""
    put(read_archive(pairs, levels=("light", "heavy")).scenes, folder)
    for file in sorted((folder / "clean").iterdir()):
        (folder / "untouched").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "untouched" / file.name)
        clean = as_floats(read_image(file))
        for mask in sorted(masks.iterdir()) if masks else ():
            snow = part_of(as_floats(read_image(mask)), clean.shape[:2], f"{file.stem}/{mask.stem}")
            degraded = clean * (1 - snow) + snow
            write_image(folder / f"snow-{mask.stem}" / f"{file.stem}.png", as_bytes(degraded))
    return folder


def part_of(mask: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """A part of a mask (H, W, 3) of the size of a scene, upright or turned, the same for the same name."""
    turned = mask.transpose(1, 0, 2) if size[0] > size[1] else mask
    rng = np.random.default_rng(seed_of(0, name, "snow"))
    top, left = (rng.integers(0, have - need + 1) for have, need in zip(turned.shape, size, strict=False))
    part = turned[top : top + size[0], left : left + size[1]]
    return part[:, ::-1] if rng.integers(2) else part


def seconds(restorer: manas.Restorer, size: tuple[int, int]) -> float:
    """The median time of a picture."""
    picture = np.random.default_rng(0).random((*size, 3), np.float32)
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        restorer(picture)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def in_tiles(restorer: manas.Restorer, picture: np.ndarray) -> np.ndarray:
    """A picture restored in tiles, each a picture of its own, mixed linearly where they overlap."""
    total, weights = np.zeros_like(picture), np.zeros((*picture.shape[:2], 1), np.float32)
    for top, left in product(*(places(side) for side in picture.shape[:2])):
        part = np.s_[top : top + TILE, left : left + TILE]
        tile = restorer(np.ascontiguousarray(picture[part]))
        weight = np.outer(*(ramp(side) for side in tile.shape[:2]))[..., None]
        total[part] += weight * tile
        weights[part] += weight
    return total / weights


def places(side: int) -> list[int]:
    """Where tiles begin; the last ends with the picture."""
    return sorted(
        {min(start, max(0, side - TILE)) for start in range(0, max(1, side - OVERLAP), TILE - OVERLAP)}
    )


def ramp(side: int) -> np.ndarray:
    """(side,) the weights along a side of a tile, which fall towards both ends."""
    inner = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
    return np.minimum(inner / OVERLAP, 1).astype(np.float32)


def tile_costs(restorer: manas.Restorer, photographs: dict[str, Path]) -> tuple[list[float], list[float]]:
    """The mean and the largest difference of each picture, in levels of 255."""
    means, largest = [], []
    for weather in ("rain", "snow"):
        for scene in generated_scenes(photographs, weather, levels=("heavy",)):
            picture = as_floats(scene.degraded)
            difference = np.abs(in_tiles(restorer, picture) - restorer(picture)) * 255
            means.append(float(difference.mean()))
            largest.append(float(difference.max()))
    return means, largest


def print_speed(models: Sequence[str]) -> None:
    threads = torch.get_num_threads()
    print("| model | " + " | ".join(f"{size}, {n} threads" for n in (1, threads) for size in SIZES) + " |")
    print(f"{'|---' * (1 + 2 * len(SIZES))}|")
    for model in models:
        restorer, cells = manas.Restorer.load(model, tile=None), []
        for count in (1, threads):
            torch.set_num_threads(count)
            cells += [f"{seconds(restorer, size):.2f} s" for size in SIZES.values()]
        print(f"| {model} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--masks", type=Path, help="folder of opacity masks of snow")
    parser.add_argument("--model", nargs="+", default=[manas.models.DEFAULT])
    parser.add_argument(
        "--photographs", type=Path, help="for the tiles; scikit-image's held-out ones if not given"
    )
    parser.add_argument("--count", type=int, default=6, help="of the photographs")
    parser.add_argument("--runs", type=Path, default=Path("runs/shipped"))
    arguments = parser.parse_args()
    data = scenes_with_snow(arguments.pairs, arguments.masks, arguments.runs / "scenes")
    evaluations = [manas.evaluate(model, data) for model in arguments.model]
    for number, each in enumerate(evaluations):
        (arguments.runs / f"scores{number}.csv").write_text(each.to_csv())
    print(score_table(evaluations).to_markdown())
    print_speed(arguments.model)
    found = photographs_in(arguments.photographs) if arguments.photographs else builtin_photographs("held_out")
    chosen = dict(list(found.items())[:: max(1, len(found) // arguments.count)][: arguments.count])
    print(f"\nTiles of {len(chosen)} photographs\n\n| model | mean | largest mean | largest |\n{'|---' * 4}|")
    for model in arguments.model:
        means, largest = tile_costs(manas.Restorer.load(model, tile=None), chosen)
        print(f"| {model} | {np.mean(means):.2f} | {max(means):.2f} | {max(largest):.1f} |")


if __name__ == "__main__":
    main()
