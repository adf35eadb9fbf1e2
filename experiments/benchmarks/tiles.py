"""The cost and the errors of tiles: a model on photographs, whole and in tiles, side by side in one run.

    python experiments/benchmarks/tiles.py MODEL PHOTOGRAPHS [--tile 256] [--images 8] [--megapixels 100]

Rain is generated on the photographs. `alone` lets every tile pool over itself, as programs do that know nothing
of pooling; `reduced` finds the pooled statistics on the image reduced to 512 pixels; `sampled` and `exact` are
those of `Restorer`. Differences are to the image restored whole, in levels of 255; the seam is the ratio of the
mean difference beside the borders of tiles to that elsewhere. Time is CPU time over that of the whole image.

At the end one picture of `--megapixels` is restored in a process of its own, whose peak memory is printed.
"""

import argparse
import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from manas.data.photographs import photographs_in
from manas.evaluation.scenes import generated_scenes
from manas.inference import pipeline
from manas.inference.restorer import Restorer
from manas.inference.statistics import sampled_statistics
from manas.inference.tiling import pad_to_multiple

WAYS = ("alone", "reduced", "sampled", "exact")
REDUCED = 512  # pixels
NEAR = 2  # pixels; nearer ones count as beside a border


def restored(restorer: Restorer, way: str, image: Tensor) -> Tensor:
    """Restores an image (1, 3, H, W) with statistics found in one of the ways."""
    with ExitStack() as changed:
        if way == "alone":
            changed.enter_context(patch.dict(vars(restorer._traits), {"depth": 0}))
        if way == "reduced":
            scale = min(1, REDUCED / max(image.shape[-2:]))
            small = pad_to_multiple(
                interpolate(image, scale_factor=scale, mode="area"), restorer.network.size_multiple
            )
            changed.enter_context(
                patch.object(
                    pipeline, "sampled_statistics", lambda network, _: sampled_statistics(network, small)
                )
            )
        return restorer(image)


def seam(difference: Tensor, tile: int) -> float:
    """The ratio of the mean difference beside borders of tiles to that elsewhere, for differences (H, W)."""
    rows, columns = (torch.arange(side) % tile for side in difference.shape)
    beside = [(place < NEAR) | (place >= tile - NEAR) for place in (rows, columns)]
    border = beside[0][:, None] | beside[1]
    return float(difference[border].mean() / difference[~border].mean().clamp(min=1e-9))


def compare(model: Path, photographs: Path, tile: int, images: int) -> None:
    """Prints the table."""
    whole = Restorer.load(model, device="cpu", tile=None)
    tiled = {
        way: Restorer.load(model, device="cpu", tile=tile, statistics="exact" if way == "exact" else "sampled")
        for way in WAYS
    }
    numbers: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    sizes = []
    for scene in islice(generated_scenes(photographs_in(photographs), "rain", levels=["heavy"]), images):
        image = torch.from_numpy(scene.degraded).permute(2, 0, 1)[None] / 255
        sizes.append(image.shape[-1] * image.shape[-2] / 1e6)
        start = time.process_time()
        expected = whole(image)
        base = time.process_time() - start
        for way, restorer in tiled.items():
            assert restorer._traits.depth, "the model pools nothing over the image: all ways are the same"
            start = time.process_time()
            difference = (restored(restorer, way, image) - expected).abs().amax(1)[0] * 255
            took = (time.process_time() - start) / base
            numbers[way].append(
                (float(difference.max()), float(difference.mean()), seam(difference, tile), took)
            )
    print(f"{len(sizes)} photographs of {min(sizes):.1f} to {max(sizes):.1f} megapixels, heavy rain; ", end="")
    print(f"tiles of {tile}, halo {tiled['exact']._traits.radius}\n")
    print("| statistics | largest difference | mean | seam | time of the whole |\n|---|---|---|---|---|")
    for way, rows in numbers.items():
        largest, average, seams, times = zip(*rows, strict=True)
        print(f"| {way} | {max(largest):.4f} | {mean(average):.4f} | {mean(seams):.2f} | {mean(times):.2f} |")


def restore_large(model: Path, megapixels: int) -> tuple[float, float]:
    """CPU seconds for a picture of noise, and the most memory in GiB that this process has held (Linux)."""
    torch.set_num_threads(1)
    side = round((megapixels * 1e6) ** 0.5)
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    start = time.process_time()
    Restorer.load(model, device="cpu")(picture)
    took = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    return took, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--megapixels", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(arguments.model, arguments.photographs, arguments.tile, arguments.images)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        took, memory = alone.submit(restore_large, arguments.model, arguments.megapixels).result()
    print(f"\n{arguments.megapixels} megapixels: {took:.0f} s of CPU time, {memory:.2f} GiB at most (Linux)")


if __name__ == "__main__":
    main()
