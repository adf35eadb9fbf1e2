"""The shares of backgrounds that `manas data check` finds in altered copies, and the number of false finds.

    python experiments/benchmarks/leaks.py FOLDER... [--seed 0]

Every photograph of the folders is altered in each way, and looked for among all photographs, scaled to 480
pixels. Two photographs of one scene in the folders would count as a false find. The nearest false score of an
alteration is the highest score with another photograph, below or above the limit.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from manas.data.checking import matching
from manas.data.checking.signature import signature
from manas.data.images import read_image
from manas.data.photographs import photographs_in

LONG_SIDE = 480
Alteration = Callable[[Image.Image, np.random.Generator], Image.Image]


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def crop(side: int) -> Alteration:
    def cut(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        side_ = min(side, *picture.size)
        left, top = (int(rng.integers(length - side_ + 1)) for length in picture.size)
        return picture.crop((left, top, left + side_, top + side_))

    return cut


ALTERATIONS: dict[str, Alteration] = {
    "JPEG of quality 50": lambda picture, rng: as_jpeg(picture, 50),
    "half the size": lambda picture, rng: picture.reduce(2),
    "512x512, whatever the aspect ratio": lambda picture, rng: picture.resize((512, 512)),
    "mirrored, JPEG of quality 80": lambda picture, rng: as_jpeg(ImageOps.mirror(picture), 80),
    "brightness 0.85": lambda picture, rng: ImageEnhance.Brightness(picture).enhance(0.85),
    "middle half": lambda picture, rng: ImageOps.crop(picture, min(picture.size) // 4),
    **{f"crop of {side}x{side}": crop(side) for side in (256, 192, 128, 96)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pictures = {}
    for folder in arguments.folders:
        for name, path in photographs_in(folder).items():
            picture = Image.fromarray(read_image(path))
            picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
            pictures[folder, name] = picture
    known = {key: signature(np.asarray(picture)) for key, picture in pictures.items()}
    limit, matching._LEAST_SCORE = matching._LEAST_SCORE, 0.0  # so that lower scores are returned, too
    print(f"{len(known)} photographs, a score of {limit} or more is a find\n")
    print("| alteration | found | false finds | nearest false score |\n|---|---|---|---|")
    for place, (name, alter) in enumerate(ALTERATIONS.items()):
        rng = np.random.default_rng([arguments.seed, place])
        altered = {key: signature(np.asarray(alter(picture, rng))) for key, picture in pictures.items()}
        matches = matching.matches(altered, known)
        finds = {match.first for match in matches if match.first == match.second and match.score >= limit}
        false = [match.score for match in matches if match.first != match.second]
        share = f"{len(finds)} of {len(known)} ({len(finds) / len(known):.0%})"
        print(
            f"| {name} | {share} | {sum(s >= limit for s in false)} | {max(false, default=0):.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
