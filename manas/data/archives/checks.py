"""The checks of headers: files that are no images, odd halves, pairs of two sizes. Nothing is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from manas.data.archives.index import Problem, Scene, StoredImage
from manas.data.images import FORMATS_READ

Size = tuple[int, int]

_ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = range(5, 9)  # its values for pictures that lie on their side


class Checked(NamedTuple):
    """Scenes without the pictures that have a problem, the problems, and the sizes of the scenes' files."""

    scenes: list[Scene]
    problems: list[Problem]
    sizes: dict[Path, Size]


def check_sizes(scenes: Sequence[Scene]) -> Checked:
    """Opens the header of every file of the scenes, once.

    A file that is truncated further on is found when it is decoded, not here.
    """
    sizes, problems = sizes_in_headers({picture.path for picture in _pictures(scenes)})
    for path in sorted({picture.path for picture in _pictures(scenes) if picture.half}):
        if path in sizes and sizes[path][0] % 2:
            problems.append(_odd_width(path, sizes.pop(path)))
    sound = []
    for scene in scenes:
        if scene.clean.path in sizes:
            rest, mismatches = _without_mismatches(scene, sizes)
            problems += mismatches
            sound += [rest] if rest.degraded else []
    return Checked(sound, problems, {picture.path: sizes[picture.path] for picture in _pictures(sound)})


def size_of(picture: StoredImage, sizes: Mapping[Path, Size]) -> Size:
    """(width, height) of a picture, from the sizes of the files."""
    width, height = sizes[picture.path]
    return (width // 2 if picture.half else width, height)


def _pictures(scenes: Iterable[Scene]) -> Iterator[StoredImage]:
    for scene in scenes:
        yield scene.clean
        yield from scene.degraded.values()
        yield from scene.masks.values()


def sizes_in_headers(paths: Iterable[Path]) -> tuple[dict[Path, Size], list[Problem]]:
    """The size of the upright image in each file, and the problems of the files that are no images."""
    sizes: dict[Path, Size] = {}
    problems: list[Problem] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata and then reads the picture
        for path in sorted(paths):
            try:
                sizes[path] = _size_in_header(path)
            except Exception as error:  # Pillow raises whatever a malformed file makes it trip over
                reason = (
                    "it is empty" if isinstance(error, UnidentifiedImageError) and _is_empty(path) else error
                )
                problems.append(_unreadable(path, reason))
    return sizes, problems


def _size_in_header(path: Path) -> Size:
    with Image.open(path, formats=FORMATS_READ) as picture:
        width, height = picture.size
        # Pillow gives the upright size of a TIFF. In a PNG without an EXIF chunk before the pixels, it would
        # decode them all to look for one behind them.
        tells = picture.format not in ("TIFF", "PNG") or (picture.format == "PNG" and "exif" in picture.info)
        on_its_side = tells and picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
        return (height, width) if on_its_side else (width, height)


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _unreadable(path: Path, reason: object) -> Problem:
    return Problem(
        "unreadable", path, f"cannot read it as an image ({reason}); replace the file or leave it out"
    )


def _odd_width(path: Path, size: Size) -> Problem:
    message = f"{size[0]}x{size[1]} is odd in width, so it has no two halves; replace the file or leave it out"
    return Problem("odd_width", path, message)


def _without_mismatches(scene: Scene, sizes: Mapping[Path, Size]) -> tuple[Scene, list[Problem]]:
    """The scene without pictures that are unreadable or not of the clean picture's size; and the latter."""
    expected = size_of(scene.clean, sizes)
    problems = []
    for picture in (*scene.degraded.values(), *scene.masks.values()):
        if picture.path in sizes and size_of(picture, sizes) != expected:
            problems.append(other_size(picture, size_of(picture, sizes), scene.clean, expected))

    def fits(pictures: Mapping[str, StoredImage]) -> dict[str, StoredImage]:
        return {
            level: picture
            for level, picture in pictures.items()
            if picture.path in sizes and size_of(picture, sizes) == expected
        }

    return replace(scene, degraded=fits(scene.degraded), masks=fits(scene.masks)), problems


def other_size(picture: StoredImage, own: Size, clean: StoredImage, expected: Size) -> Problem:
    """The problem of a picture whose size is not that of its clean picture."""
    message = f"{_times(own)}, but its clean image {clean} is {_times(expected)}; pairs must have one size"
    return Problem("size", picture.path, message)


def _times(size: Size) -> str:
    return "{}x{}".format(*size)
