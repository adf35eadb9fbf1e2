"""Entry points of installed packages: classes and functions by name, and packages of presets.

This is the lowest module of the package: a space asks here by which kind it is written into files, and
`finding`, which needs the entry points too, imports spaces. So they can stand in neither.
"""

from __future__ import annotations

import functools
import importlib
import operator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from manas.errors import ManasError, nearest

T = TypeVar("T")

SPACES = "manas.spaces"
PRESETS = "manas.presets"


@functools.cache
def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, as they were when it was first asked for."""
    return {entry.name: entry for entry in entry_points(group=group)}


def object_of(name: str, *, group: str, noun: str, trusted: bool) -> Any:
    """The object that a name stands for: that of an entry point, or of ``package.module:name``.

    Args:
        group: of the entry points.
        noun: what errors call such an object.
        trusted: whether ``package.module:name`` may be imported; not where a received file names it.

    Raises:
        ManasError: if there is none, or it may not or cannot be imported.
    """
    known = registered(group)
    if name in known:
        return known[name].load()
    if trusted and ":" in name:
        return _import(name, noun)
    if ":" in name:
        raise ManasError(f"a received file may not name code to import ({name!r}); give the {noun} explicitly")
    hint = nearest(name, known) if known else f"none is entered in {group}; install the package that does"
    raise ManasError(f"no {noun} of kind {name!r} is installed; {hint}")


def class_of(kind: str, base: type[T], *, group: str, noun: str, trusted: bool) -> type[T]:
    """The subclass of `base` that a kind stands for, as `object_of` finds it.

    Raises:
        ManasError: as there, and for what is no such class.
    """
    found = object_of(kind, group=group, noun=noun, trusted=trusted)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ManasError(f"{kind!r} is no {base.__name__}; make it a subclass of {base.__name__}")
    return found


def _import(path: str, noun: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ManasError(f"cannot import the {noun} {path!r}: {error}") from error


def kind_of(found: type, *, group: str = SPACES) -> str:
    """The entry-point name of a class, or ``package.module:Class`` where it has none."""
    path = f"{found.__module__}:{found.__qualname__}"
    for name, entry in registered(group).items():
        if entry.value == path or entry.load() is found:
            return name
    return path
