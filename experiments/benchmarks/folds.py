"""Scenes to train on and scenes to report on, the same for every benchmark of pairs."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

from manas.data.archives import Scene, StoredImage, read_archive
from manas.data.images import write_image
from manas.errors import ManasError

EVERY, REPORTED = 6, 10
LEVELS = ("light", "heavy")


def parted(pairs: Path, folder: Path, fold: int = 0, reported: int = REPORTED) -> tuple[Path, Path]:
    """Makes two folders of clean/, light/ and heavy/: every sixth scene is reported on, the others train.

    Pictures are links or copies; halves of a picture are cut out.

    Args:
        fold: the number of the first scene to report on; a scene of one of the six folds trains in the others.
        reported: the most scenes to report on.
    """
    scenes = sorted(read_archive(pairs, levels=LEVELS).scenes, key=lambda scene: str(scene.clean))
    names = {scene.name for scene in scenes[fold % EVERY :: EVERY][:reported]}
    parts = {
        "train": [s for s in scenes if s.name not in names],
        "report": [s for s in scenes if s.name in names],
    }
    return put(parts["train"], folder / "train"), put(parts["report"], folder / "report")


def cpu_seconds() -> float:
    """The CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def put(scenes: Sequence[Scene], folder: Path) -> Path:
    """Makes a folder of clean/ and a folder a level with these scenes alone; files that are there already stay.

    Raises:
        ManasError: for a folder that holds other scenes.
    """
    for scene in scenes:
        for level, picture in {"clean": scene.clean, **scene.degraded}.items():
            _put(picture, folder / level / scene.name)
    if {path.stem for path in (folder / "clean").iterdir()} != {scene.name for scene in scenes}:
        raise ManasError(f"{folder} holds scenes of another partition; give another --runs")
    return folder


def _put(picture: StoredImage, target: Path) -> None:
    target = target.with_name(target.name + (".png" if picture.half else picture.path.suffix))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    if picture.half:
        write_image(target, picture.read())
        return
    try:
        os.link(picture.path, target)
    except OSError:
        shutil.copyfile(picture.path, target)
