"""What installed packages register as entry points: classes by kind, and packages of presets."""

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


def class_of(kind: str, base: type[T], *, group: str, noun: str, trusted: bool) -> type[T]:
    """The class of a kind: that of an entry point, or ``package.module:Class``.

    Args:
        base: what it must be a subclass of.
        group: of the entry points.
        noun: what errors call such a class.
        trusted: whether ``package.module:Class`` may be imported; not where a received file names it.

    Raises:
        ManasError: if there is none, it may not or cannot be imported, or it is no such class.
    """
    known = registered(group)
    if kind in known:
        found = known[kind].load()
    elif trusted and ":" in kind:
        found = _import(kind, noun)
    elif ":" in kind:
        raise ManasError(f"a received file may not name code to import ({kind!r}); give the {noun} explicitly")
    else:
        hint = nearest(kind, known) if known else f"none is entered in {group}: install the package again"
        raise ManasError(f"no {noun} of kind {kind!r} is installed; {hint}")
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
