"""Clean photographs, from scikit-image or from a folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from manas.data.images import IMAGE_SUFFIXES
from manas.errors import ManasError

# Split by picture, never by crop, so that no part of a held-out picture is seen in training.
TRAINING = ("astronaut", "motorcycle_left", "rocket", "camera", "brick", "grass", "gravel")
HELD_OUT = ("chelsea", "coffee")


def builtin_photographs(split: Literal["training", "held_out"]) -> dict[str, Path]:
    """The files of the photographs that ship with scikit-image, by name, in a fixed order.

    scikit-image is located, not imported: its import takes longer than reading the files. The pictures of
    camera, brick, grass and gravel are grey, the others RGB.

    Terms: astronaut (NASA) and rocket (SpaceX) are in the public domain; chelsea, coffee, camera, brick,
    grass and gravel are CC0; motorcycle_left is from the Middlebury 2014 stereo data, whose authors ask to
    be cited (D. Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth",
    GCPR 2014).

    Raises:
        ManasError: for an unknown split, or if scikit-image or one of its files is missing.
    """
    splits = {"training": TRAINING, "held_out": HELD_OUT}
    if split not in splits:
        raise ManasError(f"split is {split!r}; choose one of {', '.join(splits)}")
    folder = _scikit_image_data()
    return {name: _photograph(folder, name) for name in splits[split]}


def photographs_in(folder: Path) -> dict[str, Path]:
    """The images in a folder and the folders below it, sorted by their keys.

    The key of an image is its path within the folder, with '/' between the names and without the suffix.

    Raises:
        ManasError: for a missing folder, a folder without images, or two images with one key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManasError(f"{folder}: no such folder; give the folder that holds the clean images")
    photographs: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in photographs:
            raise ManasError(
                f"{folder}: {photographs[key].name} and {path.name} share the key {key}; rename one"
            )
        photographs[key] = path
    if not photographs:
        raise ManasError(f"{folder}: no image ({', '.join(IMAGE_SUFFIXES)}) in it; add some, or give another")
    return dict(sorted(photographs.items()))


def _scikit_image_data() -> Path:
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise ManasError("scikit-image is not installed, and the built-in photographs are in it; install it")
    return Path(package.submodule_search_locations[0]) / "data"


def _photograph(folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    if path.is_file():
        return path
    jpeg = path.with_suffix(".jpg")
    if jpeg.is_file():
        return jpeg
    raise ManasError(f"{path}: no such file; reinstall scikit-image, or give a folder of clean images")
