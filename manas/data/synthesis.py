"""A data set of generated weather on a folder of photographs, reproducible from its manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from PIL import Image
from pydantic import Field, model_validator

import manas
from manas.config import Configuration, read_config
from manas.data.images import as_bytes, as_floats, read_image, write_image
from manas.data.photographs import photographs_in
from manas.data.weather import LEVELS, Capture, Weather, degrade
from manas.data.weather.scene import climates_of, seed_of
from manas.errors import ManasError
from manas.files import building
from manas.reach import Reach

MANIFEST = "manifest.json"
FORMAT = "manas.synthesis/1"

LevelName = Literal["light", "medium", "heavy"]


class SynthesisConfig(Configuration):
    """Configuration of `synthesize`.

    Attributes:
        weather: rain, snow or noise.
        levels: some of light, medium, heavy.
        family: ``falling``, ``crossing``, ``storm`` or ``mixed`` (`manas.data.weather.degrade`); the first of
            the weather unless given.
        nested: whether a heavier level holds the particles of the lighter ones; else each level is drawn anew.
        seed: the seed, which with the name of a photograph determines the weather on it.
        capture: sensor noise and JPEG marks on the degraded pictures.
        long_side: side in pixels to which larger photographs are scaled down; None keeps their sizes.
        layout: ``levels`` writes PNG files into clean/ and a folder a level; ``did_mdn`` writes the layout of
            DID-MDN, JPEG files of quality 95 with two halves, the degraded one left.
        masks: whether to write the layers of streaks or flakes, too, as grey PNG files in masks/LEVEL/.
    """

    weather: Literal["rain", "snow", "noise"] = "rain"
    levels: tuple[LevelName, ...] = Field(("light", "medium", "heavy"), min_length=1)
    family: str | None = None
    nested: bool = True
    seed: int = Field(0, ge=0)
    capture: Capture = Capture()
    long_side: int | None = Field(None, ge=16)
    layout: Literal["levels", "did_mdn"] = "levels"
    masks: bool = False

    @model_validator(mode="after")
    def _fitting(self) -> SynthesisConfig:
        if len(set(self.levels)) != len(self.levels):
            raise ManasError(f"a level is named twice in {', '.join(self.levels)}; name each once")
        climates_of(self.weather, self.family)
        if self.layout == "did_mdn" and (self.weather != "rain" or self.masks):
            raise ManasError("the layout did_mdn is for rain without masks; take the layout levels")
        return self


def synthesize(
    photographs: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Reach | None = None,
    **options: Any,
) -> Path:
    """Writes a data set with the weather of every level on every photograph of a folder; returns `out`.

    The folder appears when all files are written. `out/manifest.json` holds the options, the versions and, for
    each scene, the photograph, its size and the seed. The same photographs, options and versions give the same
    bytes on processors of one kind, and on others the same pictures but for rounding. A scene depends on the
    name of its photograph and not on the other photographs.

    Args:
        photographs: a folder of photographs; the folders below it are read, too.
        out: a new folder; with `overwrite`, it may be one that an earlier call wrote.
        progress: called after each scene with the number of scenes written and the number of all scenes.
        options: the fields of `SynthesisConfig`, such as ``weather="snow"``.

    Raises:
        ManasError: for options that do not fit, a folder without photographs, a file that cannot be read, or
            a folder `out` that is in use.
    """
    config = read_config(SynthesisConfig, options)
    paths = photographs_in(Path(photographs))
    out = Path(out)
    _check_target(out, overwrite)
    _check_apart(Path(photographs), out)
    with building(out) as folder:
        scenes = {}
        for place, (name, path) in enumerate(paths.items(), start=1):
            scenes[name] = _write_scene(folder, place, name, path, config)
            if progress:
                progress(place, len(paths))
        _write_manifest(folder / MANIFEST, config, scenes)
    return out


def _write_scene(folder: Path, place: int, name: str, path: Path, config: SynthesisConfig) -> dict[str, Any]:
    clean = _scale_down(read_image(path), config.long_side)
    seed = seed_of(config.seed, name, config.weather)
    weather = degrade(
        as_floats(clean),
        config.weather,
        config.levels,
        seed=seed,
        family=config.family,
        nested=config.nested,
    )
    # With a generator of its own: the weather on a photograph is the same with and without a capture.
    degraded = config.capture.of(weather.degraded, np.random.default_rng([*seed, len(LEVELS)]))
    write = _write_halves if config.layout == "did_mdn" else _write_levels
    stem = str(place) if config.layout == "did_mdn" else name
    write(folder, stem, clean, as_bytes(degraded), config)
    if config.masks:
        _write_masks(folder, stem, weather, config)
    return {"photograph": path.name, "file": stem, "size": [clean.shape[1], clean.shape[0]], "seed": seed}


def _write_levels(folder: Path, stem: str, clean: np.ndarray, degraded: np.ndarray, config: SynthesisConfig):
    write_image(_below(folder / "clean", stem, ".png"), clean)
    for level, image in zip(config.levels, degraded, strict=True):
        write_image(_below(folder / level, stem, ".png"), image)


def _write_halves(folder: Path, stem: str, clean: np.ndarray, degraded: np.ndarray, config: SynthesisConfig):
    for level, image in zip(config.levels, degraded, strict=True):
        halves = np.concatenate([image, clean], axis=1)
        write_image(folder / f"Rain_{level.capitalize()}" / "train2018new" / f"{stem}.jpg", halves)


def _write_masks(folder: Path, stem: str, weather: Weather, config: SynthesisConfig) -> None:
    for level, opacity in zip(config.levels, as_bytes(weather.opacity), strict=True):
        write_image(_below(folder / "masks" / level, stem, ".png"), np.repeat(opacity[..., None], 3, axis=2))


def _below(folder: Path, name: str, suffix: str) -> Path:
    return folder / f"{name}{suffix}"  # with_suffix would cut a name that has a dot in it


def _scale_down(image: np.ndarray, long_side: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    if long_side is None or max(height, width) <= long_side:
        return image
    factor = long_side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _write_manifest(path: Path, config: SynthesisConfig, scenes: dict[str, Any]) -> None:
    versions = {
        "manas": manas.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    content = {"format": FORMAT, **versions, "options": config.model_dump(mode="json"), "scenes": scenes}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_synthesis(out):
        raise ManasError(f"{out}: exists and is no synthesised data set; give a new folder")
    if not overwrite:
        raise ManasError(f"{out}: holds a synthesised data set; give a new folder, or overwrite it")


def _is_synthesis(folder: Path) -> bool:
    """Whether the manifest of a folder is ours; no other folder with a file of that name is to be replaced."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format")).startswith("manas.synthesis/")


def _check_apart(photographs: Path, out: Path) -> None:
    """Refuses a folder among the photographs, whose files would be read as such, or around them.

    A folder around the photographs would replace them.
    """
    source, target = photographs.resolve(), out.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise ManasError(f"{out}: lies within {photographs}, or around it; give a folder beside it")
