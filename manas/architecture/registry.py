"""What installed packages register as entry points: spaces by kind, and packages of presets."""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points


@functools.cache
def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, as they were when it was first asked for."""
    return {entry.name: entry for entry in entry_points(group=group)}


def kind_of(space: type) -> str:
    """The entry-point name of a space class, or ``package.module:Class`` where it has none."""
    path = f"{space.__module__}:{space.__qualname__}"
    for name, entry in registered("manas.spaces").items():
        if entry.value == path or entry.load() is space:
            return name
    return path
