"""Restoring files: images and folders in, files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manas.data.images import IMAGE_SUFFIXES, read_image, write_image
from manas.data.photographs import photographs_in
from manas.errors import ManasError
from manas.inference.restore import Restorer


def restore_file(restorer: Restorer, source: Path, target: Path) -> Path:
    """Restores one image file into another; returns the latter."""
    return write_image(target, restorer(read_image(source)))


def targets_of(inputs: Sequence[Path], out: Path, *, overwrite: bool = False) -> dict[Path, Path]:
    """Where every image goes: source -> target.

    Args:
        inputs: image files and folders; the tree below a folder is kept.
        out: a folder; or, for a single image, a file with an image suffix.
        overwrite: whether a target may exist already; a source is never one.

    Raises:
        ManasError: if a source is not there, or a target is another one, a source, or in the way.
    """
    targets = _single(inputs, out) if out.suffix.lower() in IMAGE_SUFFIXES else _into_folder(inputs, out)
    sources = {source.resolve() for source in targets}
    taken: set[Path] = set()
    for source, target in targets.items():
        place = target.resolve()
        if not source.is_file():
            raise ManasError(f"{source}: no such file or folder; give images or folders of them")
        if place in sources:
            raise ManasError(f"{source}: restoring it would overwrite {target}; give another -o")
        if place in taken:
            raise ManasError(f"{source}: another input goes to {target} too; restore them into two folders")
        if place.exists() and not overwrite:
            raise ManasError(f"{target} exists already; give another -o, or --overwrite")
        taken.add(place)
    return targets


def _single(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    if len(inputs) != 1 or inputs[0].is_dir():
        raise ManasError(f"-o {out} is one file; give a folder for several images")
    return {inputs[0]: out}


def _into_folder(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    targets: dict[Path, Path] = {}
    for path in inputs:
        named = photographs_in(path) if path.is_dir() else {path.stem: path}
        targets |= {source: out / f"{name}.png" for name, source in named.items()}
    return targets
