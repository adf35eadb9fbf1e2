"""The table of layouts: for each one, the functions that recognise and read it.

A layout is recognised by the names of its folders and files, and files of two halves by their pixels. To add a
layout, add a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from manas.data.archives.folder import Folder
from manas.data.archives.index import Half
from manas.data.archives.pairing import Reading
from manas.data.archives.readers import (
    DDN,
    OUTDOOR,
    has_clean_and_levels,
    has_folders,
    has_halves,
    has_rain_levels,
    is_one_folder,
    is_rain200,
    is_repacked_rain100,
    read_did_mdn,
    read_folders,
    read_halves,
    read_one_folder,
    read_rain200,
    read_several_to_one,
    several_to_one,
)
from manas.errors import ManasError, nearest


@dataclass(frozen=True)
class Layout:
    """A row of the table.

    Attributes:
        name: the name by which a configuration asks for the layout.
        looks: its folders and files in words, for people.
        sets: the published sets with this layout, whose names ask for it, too.
        recognise: tells whether a folder has this layout; the first row that says so is taken.
        read: reads a folder's parts; the second argument is the side of the degraded halves, or None.
        halved: whether its files have two halves.
    """

    name: str
    looks: str
    sets: tuple[str, ...]
    recognise: Callable[[Folder], bool]
    read: Callable[[Folder, Half | None], Reading]
    halved: bool = False


def layout_named(name: str) -> Layout:
    """The layout of that name, or of the published set of that name.

    Raises:
        ManasError: if there is no such layout.
    """
    by_name = {alias: layout for layout in LAYOUTS for alias in (layout.name, *layout.sets)}
    if name not in by_name:
        raise ManasError(f"no layout is called {name!r}; {nearest(name, by_name)}")
    return by_name[name]


def recognised(folder: Folder) -> Layout | None:
    """The layout of a folder, or None if no layout is recognised."""
    return next((layout for layout in LAYOUTS if layout.recognise(folder)), None)


LAYOUTS = (
    Layout(
        "did_mdn",
        "Rain_Heavy/, Rain_Medium/, Rain_Light/, in each train2018new/1.jpg: halves, degraded left",
        ("rain1200",),
        has_rain_levels,
        read_did_mdn,
        halved=True,
    ),
    Layout(
        "rain100",
        "norain-1.png and rain-1.png, or 1_gt.png and 1_in.png, in one folder; or the latter in rainy/ below",
        ("rain_train_l", "rain_train_h"),
        is_one_folder,
        read_one_folder,
    ),
    Layout("rain200", "norain/norain-1.png, rain/X2/norain-1x2.png", (), is_rain200, read_rain200),
    Layout("rain100_repacked", "gt/norain-1.png, rainy/rain-1.png", (), is_repacked_rain100, read_folders),
    Layout(
        "outdoor_rain",
        "gt/im_0001.png, in/im_0001_s80_a04.png: 15 versions of each",
        (),
        several_to_one(OUTDOOR),
        read_several_to_one(OUTDOOR),
    ),
    Layout(
        "rain1400",
        "ground_truth/1.jpg, rainy_image/1_1.jpg: 14 versions of each",
        ("rain14000", "ddn"),
        several_to_one(DDN),
        read_several_to_one(DDN),
    ),
    Layout(
        "snow100k",
        "gt/, synthetic/ and mask/ with the same names",
        (),
        has_folders("gt", "synthetic"),
        read_folders,
    ),
    Layout("csd", "Gt/1.tif, Snow/1.tif, Mask/1.tif", ("srrs",), has_folders("gt", "snow"), read_folders),
    Layout(
        "folders",
        "clean/ with a folder a level beside it; or target/, gt/, norain/, ... and input/, lq/, rain/, ...",
        ("rain12", "rain13k", "allweather"),
        has_clean_and_levels,
        read_folders,
    ),
    Layout(
        "halves",
        "1.jpg: clean and degraded halves, either way",
        ("rain800",),
        has_halves,
        read_halves,
        halved=True,
    ),
)
