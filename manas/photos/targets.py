"""The files that are to be restored, and the places that they go to."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from manas.data.images import IMAGE_SUFFIXES
from manas.errors import ManasError
from manas.photos.video import VIDEO_SUFFIXES, is_video
from manas.photos.views import beside, is_view

# Kept unless told otherwise: the results take the place of the originals wherever those are used, a.jpg and
# a.png stay two pictures, and metadata stay where programs look for them. Without loss where that matters: png.
SUFFIXES = {"keep": None, "png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif"}


def targets_of(
    inputs: Sequence[str | Path],
    out: Path | None,
    *,
    format: str = "keep",
    views: Sequence[str] = (),
    overwrite: bool = False,
    skip_existing: bool = False,
) -> dict[Path, Path]:
    """Where every picture goes: source -> target.

    Args:
        inputs: pictures, videos, folders of pictures, and patterns of pictures and videos (``*``, ``?``,
            ``[ab]``, ``**``); the tree below a folder, or below what is fixed in a pattern, is kept.
        out: a folder; a file with an image or video suffix for a single source; None replaces the sources.
        format: one of `SUFFIXES`.
        views: names of `VIEWS` that are written beside the targets; there are none of videos.
        overwrite: whether a target may exist already. A source is never one, unless `out` is None.
        skip_existing: leave out what has a target and all views already.

    Raises:
        ManasError: if a source is not there, or a target is another one, a source, or in the way.
    """
    if format not in SUFFIXES:
        raise ManasError(f"format={format}: choose one of {', '.join(SUFFIXES)}")
    found = _sources(inputs, out)
    _check_viewable(found, views)
    if out is None:
        return _in_place(found, format, views)
    if out.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and not out.is_dir():
        targets = _single(inputs, found, out, format)
    else:
        targets = {source: out / _target_name(name, format) for source, name in found.items()}
    _check_apart(targets, views)
    if skip_existing:
        return {source: target for source, target in targets.items() if not _is_done(target, views)}
    if not overwrite:
        _check_new(targets, views)
    return targets


def _check_viewable(sources: Iterable[Path], views: Sequence[str]) -> None:
    for source in sources:
        if views and is_video(source):
            raise ManasError(
                f"{source}: --side-by-side and --difference are of pictures, this is a video; restore it apart"
            )


def _in_place(sources: Iterable[Path], format: str, views: Sequence[str]) -> dict[Path, Path]:
    if format != "keep" or views:
        raise ManasError("in place, pictures keep their format and nothing is put beside them; give -o")
    return {source: source.resolve() for source in sources}  # A link stays one.


def _single(
    inputs: Sequence[str | Path], found: Mapping[Path, Path], out: Path, format: str
) -> dict[Path, Path]:
    if len(found) != 1 or Path(inputs[0]).is_dir():
        raise ManasError(f"-o {out} is one file; give a folder for several images")
    (source,) = found
    if is_video(source) != is_video(out):
        raise ManasError(
            f"-o {out}: pictures are restored into pictures and videos into videos, {source} is not"
        )
    if format != "keep":
        raise ManasError(
            f"--format {format}: the name of the file, -o {out}, says the format already; leave it out"
        )
    return {source: out}


def _target_name(name: Path, format: str) -> Path:
    if is_video(name):
        return name
    suffix = SUFFIXES[format] or (name.suffix if name.suffix.lower() in IMAGE_SUFFIXES else ".png")
    return name.with_name(name.stem + suffix)


def _places(target: Path, views: Sequence[str]) -> list[Path]:
    return [target, *beside(target, views).values()]


def _is_done(target: Path, views: Sequence[str]) -> bool:
    return all(place.exists() for place in _places(target, views))


def _check_new(targets: Mapping[Path, Path], views: Sequence[str]) -> None:
    for target in targets.values():
        for place in _places(target, views):
            if place.exists():
                raise ManasError(f"{place} exists already; give another -o, --overwrite or --skip-existing")


def _check_apart(targets: Mapping[Path, Path], views: Sequence[str]) -> None:
    """No two go to one place, and none goes to where a source is."""
    sources = {source.resolve() for source in targets}
    taken: set[Path] = set()
    for source, target in targets.items():
        for each in _places(target, views):
            place = each.resolve()
            if place in sources:
                raise ManasError(
                    f"{source}: restoring it would overwrite {each}; give another -o, or --in-place"
                )
            if place in taken:
                raise ManasError(f"{source}: another input goes to {each} too; restore them into two folders")
            taken.add(place)


def _sources(inputs: Sequence[str | Path], out: Path | None) -> dict[Path, Path]:
    """Every source, and its name below the folder that all go to; each once, however it is spelt."""
    named: dict[Path, tuple[Path, Path]] = {}
    for given in inputs:
        found = list(_matches(str(given), out))
        if not found:
            raise ManasError(
                f"{given}: no image ({', '.join(IMAGE_SUFFIXES)}) there; add some, or give another "
                "(videos in folders are found by patterns only)"
            )
        for source, name in found:
            named.setdefault(source.resolve(), (source, name))
    return dict(named.values())


def _matches(given: str, out: Path | None) -> Iterator[tuple[Path, Path]]:
    path = Path(given)
    if path.is_dir():
        earlier = _results_below(path, out)
        below = (p for p in sorted(path.rglob("*")) if earlier not in p.resolve().parents)
        # A clip among photographs would be an hour of work that nobody asked for.
        return _files_below(path, below, IMAGE_SUFFIXES)
    if path.is_file():
        return iter([(path, Path(path.name))])
    if glob.has_magic(given):
        matching = map(Path, sorted(glob.glob(given, recursive=True)))
        return _files_below(_fixed_part(given), matching, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    raise ManasError(f"{given}: no such file or folder; give images or folders of them")


def _results_below(folder: Path, out: Path | None) -> Path | None:
    """The folder of results where it lies among the sources: those of an earlier run are no sources."""
    return out.resolve() if out is not None and folder.resolve() in out.resolve().parents else None


def _files_below(folder: Path, paths: Iterable[Path], suffixes: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    for path in paths:
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and path.suffix.lower() in suffixes and path.is_file() and not is_view(path):
            yield path, name


def _fixed_part(pattern: str) -> Path:
    """``photos/2*/**/*.jpg`` -> ``photos``"""
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if re.search(r"[*?[]", part))
    return Path(*parts[:fixed])
