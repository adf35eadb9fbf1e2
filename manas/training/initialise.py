"""The weights that a training begins with: scaled by its first images, or from model files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from manas.architecture.space import SearchSpace
from manas.data.dataset.backgrounds import Backgrounds
from manas.errors import ManasError
from manas.restoration.model_file import load_model
from manas.restoration.network import RestorationNetwork
from manas.restoration.unit_start import unit_start
from manas.training.distributed import Process


def start(network: nn.Module, backgrounds: Backgrounds, process: Process) -> None:
    """Scales what nothing normalises by the first batch of the training (`unit_start`).

    Any number of processes do it alike, since all see the whole batch.

    Args:
        network: on its device.
    """
    batches = process.gather(next(backgrounds.batches("kept", workers=0)).degraded)
    unit_start(network, torch.cat(batches).flatten(0, 1).to(process.device))
    process.broadcast([*network.parameters(), *network.buffers()])


def initialise(
    network: nn.Module, init: str | Mapping[str, str] | None, space: type[SearchSpace] | None = None
) -> None:
    """Loads weights into a network: Misra et al. stitch towers that were trained by themselves before.

    Args:
        network: on any device.
        init: a model file of the same network; or one a task, whose tower for that task, or whose only tower,
            is taken; the other towers, stitches and fusion stay as they are.
        space: the class of a space that no entry point names.

    Raises:
        ManasError: for a file that cannot be read, a task that a network does not have, or weights that do not
            fit: the first that differs is named with both shapes.
    """
    if init is None:
        return
    if isinstance(init, str):
        _load(network, load_model(init, space=space)[0], init)
        return
    towers = cast(RestorationNetwork, network).towers
    for task, path in init.items():
        if task not in towers:
            raise ManasError(f"init: the network has no tower for {task!r}; it has {', '.join(towers)}")
        found = cast(RestorationNetwork, load_model(path, space=space)[0]).towers
        if task not in found and len(found) > 1:
            raise ManasError(f"{path}: no tower for {task!r}, but those for {', '.join(found)}; give another")
        _load(towers[task], found[task] if task in found else next(iter(found.values())), path)


def _load(network: nn.Module, source: nn.Module, path: str) -> None:
    ours, theirs = network.state_dict(), source.state_dict()
    for name in (*ours, *theirs):
        if name not in theirs or name not in ours:
            where = "the file" if name in theirs else "the network"
            raise ManasError(f"{path}: does not fit the network: {name} is in {where} alone")
        if ours[name].shape != theirs[name].shape:
            shapes = f"{tuple(theirs[name].shape)}, and in the network {tuple(ours[name].shape)}"
            raise ManasError(f"{path}: does not fit the network: {name} has the shape {shapes}")
    network.load_state_dict(theirs)
