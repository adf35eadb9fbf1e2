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


def targets_of(inputs: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where every image goes: source -> target.

    Args:
        inputs: image files and folders; the tree below a folder is kept.
        out: a folder; or, for a single image, a file with an image suffix.

    Raises:
        ManasError: if two targets, or a source and a target, are one file.
    """
    if out.suffix.lower() in IMAGE_SUFFIXES:
        if len(inputs) != 1 or inputs[0].is_dir():
            raise ManasError(f"-o {out} is one file; give a folder for several images")
        plan = {inputs[0]: out}
    else:
        plan = {}
        for path in inputs:
            named = photographs_in(path) if path.is_dir() else {path.stem: path}
            plan |= {source: out / f"{name}.png" for name, source in named.items()}
    for source in plan:
        if not source.is_file():
            raise ManasError(f"{source}: no such file or folder; give images or folders of them")
    targets = [target.resolve() for target in plan.values()]
    for source, target in plan.items():
        if target.resolve() in {source.resolve() for source in plan}:
            raise ManasError(f"{source}: restoring it would overwrite {target}; give another -o")
        if targets.count(target.resolve()) > 1:
            raise ManasError(f"{source}: another input goes to {target} too; restore them into two folders")
    return plan
