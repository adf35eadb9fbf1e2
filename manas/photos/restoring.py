"""Restoring one file: decode, restore, encode, and views of the picture beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manas.data.images import write_image
from manas.photos.decoding import decode
from manas.photos.encoding import encode
from manas.photos.picture import PixelRestorer
from manas.photos.video import is_video, restore_video
from manas.photos.views import VIEWS, beside
from manas.reach import Reach


def restore_file(
    restorer: PixelRestorer,
    source: Path,
    target: Path,
    *,
    views: Sequence[str] = (),
    progress: Reach | None = None,
) -> list[str]:
    """Restores one picture or video into another; returns what the target does not keep of it.

    Args:
        restorer: a `Restorer`, or another function that restores pixels.
        views: names of `VIEWS` that are written beside the target.
        progress: called with the number of parts that are done and of all.

    Raises:
        ManasError: if the source cannot be read, or a file not be written.
    """
    if is_video(source):
        return restore_video(restorer, source, target, progress=progress)
    picture = decode(source)
    restored = picture.showing(restorer(picture.pixels, progress=progress))
    for view, place in beside(target, views).items():
        write_image(place, VIEWS[view](picture.pixels, restored.pixels))
    return encode(restored, target)
