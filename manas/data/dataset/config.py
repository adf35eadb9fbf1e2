"""Configuration of the data: the sources, and the drawing of crops from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from manas.data.archives import StoredImage, read_archive
from manas.data.archives.exclusion import excluding
from manas.data.archives.index import Half, Kind
from manas.data.dataset.augmentation import Augment
from manas.data.dataset.cache import Cache
from manas.data.dataset.sources import GeneratedSource, Generation, PairedSource, Source
from manas.data.photographs import builtin_photographs, photographs_in
from manas.data.weather import LEVELS, Capture
from manas.data.weather.scene import climates_of
from manas.errors import ManasError, nearest

WeatherName = Literal["rain", "snow", "noise"]

_OF_WEATHER = ("photographs", "shrink", "family", "nested", "capture")
_OF_PAIRS = ("layout", "side", "allow", "exclusions")


class SourceConfig(BaseModel):
    """One source: weather on clean photographs, or a folder of pairs.

    Attributes:
        task: the task of its samples, which is a tower of the network.
        weight: the number of its samples beside those of the other sources' weights.
        weather: the weather that is generated on `photographs`.
        photographs: ``builtin``, or a folder of clean photographs.
        levels: the levels of the generated weather, or the levels of the pairs to take; all unless given.
        shrink: the largest factor by which a photograph is scaled down before weather falls on it, drawn for
            each crop from 1 on (uniformly in its logarithm). Crops of a photograph of 1600 pixels have less
            detail than the small pictures that networks are compared on.
        family: the family of the generated weather: ``falling``, ``crossing`` (rain), ``storm`` (snow) or
            ``mixed`` (`manas.data.weather.degrade`). Mixed covers more: networks trained on it restore Rain100L
            and Rain100H better, too.
        nested: whether heavier levels hold the streaks of the lighter ones; else each level is drawn anew.
        capture: sensor noise and JPEG marks on the generated versions.
        pairs: a folder of clean and degraded images, instead of generated weather; or a list of pairs, a
            ``.txt`` file; or ``{clean: folder, LEVEL: folder, ...}``.
        layout: the layout of the pairs, if it is not recognised (`manas.data.archives.layouts.LAYOUTS`).
        side: the side of the degraded half, if files have two halves and neither layout nor vote is right.
        allow: kinds of `manas.data.archives.Problem` whose files are left out instead of being an error.
        exclusions: whether to leave the backgrounds of a published test set out of its training set.
        exclude: folders of pairs or photographs whose backgrounds are left out, recognised by their pixels.
        augment: the augmentation of crops in training: ``mirror`` mirrors half of them left to right,
            ``eightfold`` flips and turns them, ``none`` leaves them as they are. Unless given, pairs are
            mirrored, because rain turned on its side is no rain, and photographs are turned before weather
            falls on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    weight: int = Field(1, ge=1, le=1000)
    weather: WeatherName | None = None
    photographs: str = "builtin"
    levels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    shrink: float = Field(1, ge=1, le=16, allow_inf_nan=False)
    family: str = "mixed"
    nested: bool = True
    capture: Capture = Capture()
    pairs: str | dict[str, str] | None = None
    layout: str | None = None
    side: Half | None = None
    allow: tuple[Kind, ...] = ()
    exclusions: bool = True
    exclude: tuple[str, ...] = ()
    augment: Augment | None = Field(None, validate_default=True)

    @field_validator("augment")
    @classmethod
    def _of_its_kind(cls, augment: Augment | None, before: ValidationInfo) -> Augment:
        """Resolves the default, so that a written configuration tells the augmentation that was used."""
        return augment or ("mirror" if before.data.get("weather") is None else "eightfold")

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if (self.weather is None) == (self.pairs is None):
            raise ManasError(f"the source for {self.task!r} needs either 'weather' or 'pairs'")
        kinds = ("generated weather", "pairs") if self.weather is None else ("pairs", "generated weather")
        fields = type(self).model_fields
        foreign = [
            name
            for name in (_OF_WEATHER if self.weather is None else _OF_PAIRS)
            if getattr(self, name) != fields[name].default  # a written configuration names all of them
        ]
        if foreign:
            raise ManasError(f"{', '.join(foreign)} is for {kinds[0]}, not for {kinds[1]}; leave it out")
        return self

    @model_validator(mode="after")
    def _sound_weather(self) -> SourceConfig:
        levels = self.levels or ()
        if len(set(levels)) != len(levels):
            raise ManasError(f"a level is named twice in {', '.join(levels)}; name each once")
        if self.weather is None:
            return self
        climates_of(self.weather, self.family)
        unknown = [level for level in levels if level not in LEVELS]
        if unknown:
            raise ManasError(
                f"levels: no generated weather is called {unknown[0]!r}; {nearest(unknown[0], LEVELS)}"
            )
        return self

    def open(self, versions: int, cache: Cache) -> Source:
        """Opens the source for training, with `versions` degradations of each background."""
        return (
            self._open_pairs(versions, cache) if self.weather is None else self._open_weather(versions, cache)
        )

    def _open_weather(self, versions: int, cache: Cache) -> GeneratedSource:
        assert self.weather is not None
        assert self.augment is not None
        builtin = self.photographs == "builtin"
        paths = builtin_photographs("training") if builtin else photographs_in(Path(self.photographs))
        rest = excluding(
            {name: StoredImage(path) for name, path in paths.items()}, self.exclude, self.photographs
        )
        generation = Generation(self.weather, self.levels or LEVELS, self.family, self.nested, self.capture)
        photographs = [paths[name] for name in rest.kept]
        options: dict[str, Any] = {"augment": self.augment, "shrink": self.shrink}
        return GeneratedSource(photographs, generation, versions, cache, rest.notes, **options)

    def _open_pairs(self, versions: int, cache: Cache) -> PairedSource:
        assert self.pairs is not None  # the validators require it
        assert self.augment is not None
        archive = read_archive(
            self.pairs,
            layout=self.layout,
            side=self.side,
            levels=self.levels,
            allow=self.allow,
            exclusions=self.exclusions,
        )
        clean = {scene.name: scene.clean for scene in archive.scenes}
        rest = excluding(clean, self.exclude, str(archive.root))
        names = set(rest.kept)
        scenes = tuple(scene for scene in archive.scenes if scene.name in names)
        archive = replace(archive, scenes=scenes, notes=archive.notes + rest.notes)
        return PairedSource(archive, versions, cache, augment=self.augment)


class DataConfig(BaseModel):
    """Configuration of the data of a search or a retraining.

    Attributes:
        sources: the sources, mixed by their weights.
        versions: K, the number of degradations of one background in a batch.
        clean_share: share of the training samples whose K "degraded" versions are the clean crop itself, so
            that the network learns to leave a clean picture alone. They belong to no tower, so their task is
            -1.
        patch: side of the crops in pixels.
        batch: number of backgrounds a step, over all processes.
        workers: number of loader processes of each process; 0 loads in the process itself.
        validation_patch: side of the validation crops.
        validation_images: number of validation crops of each source.
        cache_megabytes: memory for decoded images, divided among the workers of a loader.
        cache_folder: a folder that holds decoded images instead, in files that all processes and later runs map
            into their memory; `cache_megabytes` then limits the folder. Without it, every worker has a cache of
            its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceConfig, ...] = Field((SourceConfig(task="derain", weather="rain"),), min_length=1)
    versions: int = Field(3, ge=1)
    clean_share: float = Field(0, ge=0, lt=1)
    patch: int = Field(64, ge=8)
    batch: int = Field(4, ge=1)
    workers: int = Field(1, ge=0)
    validation_patch: int = Field(128, ge=11)
    validation_images: int = Field(16, ge=1)
    cache_megabytes: int = Field(2048, ge=0)
    cache_folder: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the sources, each once, in order."""
        return tuple(dict.fromkeys(source.task for source in self.sources))
