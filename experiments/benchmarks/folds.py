"""Scenes to train on and scenes to report on, the same for every benchmark of pairs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from manas.data.archives import read_archive
from manas.data.images import write_image
from manas.errors import ManasError

EVERY, REPORTED = 6, 10
LEVELS = ("light", "heavy")


def parted(pairs: Path, folder: Path) -> tuple[Path, Path]:
    """Two folders of clean/, light/ and heavy/: every sixth scene by name, ten at most, is reported on.

    Pictures are links or copies; halves of a picture are cut out.

    Raises:
        ManasError: for a folder that holds another partition.
    """
    scenes = sorted(read_archive(pairs, levels=LEVELS).scenes, key=lambda scene: str(scene.clean))
    reported = [scene.name for scene in scenes[::EVERY]][:REPORTED]
    parts = {
        "train": [s for s in scenes if s.name not in reported],
        "report": [s for s in scenes if s.name in reported],
    }
    for part, own in parts.items():
        for scene in own:
            for level, picture in {"clean": scene.clean, **scene.degraded}.items():
                _put(picture, folder / part / level / scene.name)
        if {path.stem for path in (folder / part / "clean").iterdir()} != {scene.name for scene in own}:
            raise ManasError(f"{folder / part} holds scenes of another partition; give another --runs")
    return folder / "train", folder / "report"


def _put(picture, target: Path) -> None:
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
